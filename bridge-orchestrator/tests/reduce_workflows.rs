//! States of workflows: legal transitions alone, refusals counted, and what is over is forgotten.

use std::sync::Arc;
use std::time::Duration;

use bridge_orchestrator::fsm::Definition;
use bridge_orchestrator::reduce::{GroupBy, Intent, Item, ReduceError, Reducer, Timestamp, Windowing};

use support::{at, item};

mod support;

type Transition = (String, Option<String>, String);

fn push(reducer: &mut Reducer, items: &[Item<'_>]) -> Vec<Transition> {
    let output = reducer.push(items).expect("taken");
    let transition = |intent| match intent {
        Intent::PersistFsmTransition { workflow, from, to } => {
            Some((workflow.to_owned(), from.map(str::to_owned), to.to_owned()))
        }
        _ => None,
    };
    output.intents().filter_map(transition).collect()
}

fn reducer() -> Reducer {
    Reducer::builder(GroupBy::Namespace).build().expect("valid")
}

/// In the original, `COMPLETED` and `completed` differed: each item that changed nothing was a refused transition to itself, and what it said was
/// recorded all the same.
#[test]
fn the_same_state_in_any_case_is_no_transition() {
    let mut reducer = reducer();
    assert_eq!(push(&mut reducer, &[item("a", "w", "completed")]), [("w".into(), None, "COMPLETED".into())]);
    for state in ["COMPLETED", "completed", "Completed"] {
        assert_eq!(push(&mut reducer, &[item("a", "w", state)]), []);
    }
    let counts = reducer.workflow_counts();
    assert_eq!((counts.adopted, counts.applied, counts.unchanged, counts.refused), (1, 0, 3, 0));
    assert_eq!(reducer.workflow_state("w"), Some("COMPLETED"));
}

#[test]
fn a_transition_that_the_machine_does_not_have_is_refused_and_counted_and_the_state_stays() {
    let mut reducer = reducer();
    let states = ["PENDING", "COMPLETED", "PROCESSING", "PENDING", "COMPLETED", "FAILED", "no state"];
    let transitions = push(&mut reducer, &states.map(|state| item("a", "w", state)));
    let step = |from: Option<&str>, to: &str| ("w".to_owned(), from.map(str::to_owned), to.to_owned());
    assert_eq!(
        transitions,
        [step(None, "PENDING"), step(Some("PENDING"), "PROCESSING"), step(Some("PROCESSING"), "COMPLETED")]
    );
    let counts = reducer.workflow_counts();
    assert_eq!((counts.adopted, counts.applied, counts.refused, counts.untracked), (1, 2, 3, 1));
    assert_eq!(reducer.workflow_state("w"), Some("COMPLETED"));
    assert_eq!(reducer.active_workflows(), 0);
    let panes = reducer.open();
    let group = panes[0].groups().next().expect("one");
    assert_eq!(group.workflow_states().collect::<Vec<_>>(), [("w", Some("COMPLETED"))]);
}

/// The original never removed a workflow, and its number of active ones was wrong.
#[test]
fn workflows_that_are_over_are_forgotten_and_active_ones_are_not() {
    const ROUNDS: i64 = 200;
    let mut reducer = Reducer::builder(GroupBy::Namespace)
        .windowing(Windowing::Tumbling(Duration::from_micros(10)))
        .build()
        .expect("valid");
    let mut most = 0;
    for round in 0..ROUNDS {
        let ids: Vec<String> = (0..100).map(|n| format!("{round}-{n}")).collect();
        for state in ["PENDING", "PROCESSING", "COMPLETED"] {
            let items: Vec<_> = ids.iter().map(|id| at(round * 10, item("a", id, state))).collect();
            let _ = reducer.push(&items).expect("taken");
        }
        let stays = format!("stays-{round}");
        let _ = reducer.push(&[at(round * 10, item("a", &stays, "PROCESSING"))]).expect("taken");
        let _ = reducer.advance_watermark(Timestamp::from_micros(round * 10 + 10));
        most = most.max(reducer.known_workflows());
    }
    assert!(most < 6_000, "{most} workflows of {} were known at once", 101 * ROUNDS);
    assert_eq!(reducer.active_workflows(), ROUNDS as usize);
    assert_eq!(reducer.workflow_state("stays-0"), Some("PROCESSING"));
    assert_eq!(reducer.workflow_state("0-0"), None);
    let counts = reducer.workflow_counts();
    let known = reducer.known_workflows() as u64;
    assert_eq!(counts.adopted, 101 * ROUNDS as u64);
    assert_eq!(counts.evicted_terminal + known, 101 * ROUNDS as u64);
}

#[test]
fn more_active_workflows_than_the_bound_are_counted_and_not_tracked() {
    let mut reducer = Reducer::builder(GroupBy::Namespace).max_workflows(2).build().expect("valid");
    let ids = ["1", "2", "3", "4"];
    assert_eq!(push(&mut reducer, &ids.map(|id| item("a", id, "PENDING"))).len(), 2);
    assert_eq!((reducer.active_workflows(), reducer.workflow_counts().untracked), (2, 2));
    // A terminal state takes no room, and makes some.
    assert_eq!(push(&mut reducer, &[item("a", "3", "FAILED"), item("a", "1", "FAILED")]).len(), 2);
    assert_eq!(push(&mut reducer, &[item("a", "4", "PENDING")]).len(), 1);
    assert_eq!(reducer.active_workflows(), 2);
    let panes = reducer.open();
    assert_eq!(panes[0].groups().next().expect("one").workflows().len(), 4, "distinct counts are exact all the same");
}

#[test]
fn a_fresh_reducer_asks_once_for_states_and_takes_those_that_it_does_not_have() {
    let mut reducer = reducer();
    let asks = |intents: Vec<Intent<'_>>| intents.iter().filter(|it| matches!(it, Intent::RecoverFsmStates)).count();
    let items = [item("a", "seen", "PROCESSING")];
    let output = reducer.push(&items).expect("taken");
    assert_eq!(
        output.intents().next().map(|intent| (intent.name(), intent.priority())),
        Some(("RECOVER_FSM_STATES", 2))
    );
    assert_eq!(asks(output.intents().collect()), 1);
    assert_eq!(asks(reducer.push(&items).expect("taken").intents().collect()), 0);
    assert_eq!(reducer.recover([("seen", "PENDING"), ("known", "processing")]), Ok(1));
    assert_eq!(reducer.workflow_state("seen"), Some("PROCESSING"));
    let transitions = push(&mut reducer, &[item("a", "known", "completed")]);
    assert_eq!(transitions, [("known".into(), Some("PROCESSING".into()), "COMPLETED".into())]);
    assert_eq!(reducer.recover([("x", "nowhere")]), Err(ReduceError::UnknownState("nowhere".into())));
}

#[test]
fn a_machine_of_the_callers_own_decides() {
    let machine = Definition::from_toml(
        "states = [\"on\", \"off\"]\ninitial = \"on\"\ntransitions = [\n{ from = \"on\", event = \"e\", to = \"off\" },\n\
         { from = \"off\", event = \"e\", to = \"on\" }]",
    )
    .and_then(|definition| definition.compile())
    .expect("a machine");
    let mut reducer = Reducer::builder(GroupBy::Namespace).machine(Arc::new(machine)).build().expect("valid");
    assert_eq!(push(&mut reducer, &["on", "OFF", "On", "PENDING"].map(|state| item("a", "w", state))).len(), 3);
    assert_eq!(reducer.workflow_counts().untracked, 1);
}
