//! Definitions: what is read, and what is refused with its line.

use bridge_orchestrator::fsm::{Bindings, Definition, DefinitionError, MAX_EVENTS, MAX_STATES, Machine, Problem};
use proptest::prelude::*;

fn toml(text: &str) -> Result<Machine, DefinitionError> {
    Definition::from_toml(text)?.compile()
}

fn json(text: &str) -> Result<Machine, DefinitionError> {
    Definition::from_json(text)?.compile()
}

#[track_caller]
fn refused(result: Result<Machine, DefinitionError>, line: usize) -> Problem {
    let error = result.expect_err("refused");
    assert_eq!(error.line(), line, "{error}");
    assert!(error.to_string().starts_with(&format!("line {line}: ")), "{error}");
    error.problem().clone()
}

const LIGHT: &str = r#"{
  "initial": "red",
  "states": ["red", "green"],
  "transitions": [
    {"from": "red", "event": "go", "to": "green"},
    {"from": "green", "event": "stop", "to": "red"}
  ]
}"#;

#[test]
fn json_and_toml_make_the_same_machine() {
    let from_json = json(LIGHT).expect("a machine");
    let from_toml = toml(
        r#"
        initial = "red"
        states = ["red", "green"]
        [[transitions]]
        from = "red"
        event = "go"
        to = "green"
        [[transitions]]
        from = "green"
        event = "stop"
        to = "red"
        "#,
    )
    .expect("a machine");
    for state in from_json.states() {
        for event in from_json.events() {
            assert_eq!(from_json.next(state, event), from_toml.next(state, event));
        }
    }
    assert_eq!((from_json.states().len(), from_json.events().len()), (2, 2));
}

#[test]
fn syntax_errors_name_their_line_in_both_forms() {
    for (result, line) in [
        (json("{\n\"states\": [\"a\"],\n\"initial\" \"a\"}"), 3),
        (json("{\n\"states\": [\"a\",\n7],\n\"initial\": \"a\"}"), 3),
        (json("{\n\"states\": [\"a\"],\n\"initial\": \"a\",\n\"colour\": 1}"), 4),
        (
            json(
                "{\"states\": [\"a\"], \"initial\": \"a\", \"transitions\": [\n{\"from\": \"a\",\n\"event\": 1, \"to\": \"a\"}]}",
            ),
            3,
        ),
        (json("{\"states\": [\"a\"], \"initial\": \"a\", \"transitions\": [\n\n{\"from\": \"a\"}]}"), 3),
        (toml("states = [\"a\"]\ninitial = \"a\n"), 2),
        (toml("states = [\"a\",\n 7]\ninitial = \"a\"\n"), 2),
        (toml("states = [\"a\"]\ninitial = \"a\"\ncolour = 1\n"), 3),
        (toml("states = [\"a\"]\ninitial = \"a\"\n[[transitions]]\nfrom = \"a\"\nevent = 1\nto = \"a\"\n"), 5),
    ] {
        assert!(matches!(refused(result, line), Problem::Syntax(_)));
    }
}

#[test]
fn what_makes_no_machine_is_refused_with_its_line() {
    let edge = |from: &str, event: &str, to: &str| {
        format!("[[transitions]]\nfrom = \"{from}\"\nevent = \"{event}\"\nto = \"{to}\"\n")
    };
    let head = "states = [\n\"a\",\n\"b\"]\ninitial = \"a\"\n";
    let go = edge("a", "go", "b");

    assert_eq!(refused(toml("states = []\ninitial = \"a\""), 1), Problem::NoStates);
    assert_eq!(refused(toml("states = [\"a\"]"), 1), Problem::NoInitialState);
    assert_eq!(refused(toml("states = [\"a\"]\ninitial = \"x\""), 2), Problem::UnknownState("x".into()));
    assert_eq!(
        refused(toml("states = [\"a\"]\ninitial = \"a\"\nterminal = [\"x\"]"), 3),
        Problem::UnknownState("x".into())
    );
    assert_eq!(refused(toml(&format!("{head}{}", edge("x", "go", "b"))), 5), Problem::UnknownState("x".into()));
    assert_eq!(refused(toml(&format!("{head}{go}{}", edge("a", "stop", "x"))), 9), Problem::UnknownState("x".into()));
    assert_eq!(refused(toml(head), 3), Problem::UnreachableState("b".into()));
    assert_eq!(
        refused(toml(&format!("{head}{}", edge("b", "go", "a"))), 3),
        Problem::UnreachableState("b".into()),
        "an edge out of a state does not lead to it"
    );
    assert_eq!(
        refused(toml(&format!("{head}{go}{}", edge("A", "GO", "a"))), 9),
        Problem::DuplicateEdge { state: "A".into(), event: "GO".into(), first_line: 5 }
    );
    assert_eq!(
        refused(toml(&format!("{head}terminal = [\"B\"]\n{go}{}", edge("b", "go", "a"))), 10),
        Problem::EdgeFromTerminal("b".into())
    );
    assert_eq!(
        refused(toml("states = [\"a\",\n\"b\",\n\"A\"]\ninitial = \"a\""), 3),
        Problem::DuplicateState { name: "A".into(), first_line: 1 }
    );
    for name in ["", &"x".repeat(129), "tab\\t"] {
        assert!(matches!(refused(toml(&format!("states = [\n\"{name}\"]\ninitial = \"a\"")), 2), Problem::BadName(_)));
    }
    assert!(matches!(refused(toml(&format!("{head}{}", edge("a", "", "b"))), 5), Problem::BadName(_)));
}

#[test]
fn too_many_states_events_and_cells_are_refused() {
    let states = |count: usize| (0..count).map(|n| format!("\"s{n}\"")).collect::<Vec<_>>().join(",");
    let too_many = format!("states = [{}]\ninitial = \"s0\"", states(MAX_STATES + 1));
    assert_eq!(refused(toml(&too_many), 1), Problem::TooManyStates(MAX_STATES + 1));

    let edges = |count: usize| -> String {
        (0..count).map(|n| format!("[[transitions]]\nfrom=\"s0\"\nevent=\"e{n}\"\nto=\"s0\"\n")).collect()
    };
    let head = "states = [\"s0\"]\ninitial = \"s0\"\n";
    assert!(toml(&format!("{head}{}", edges(MAX_EVENTS))).is_ok());
    let line = 2 + 4 * MAX_EVENTS + 1;
    assert_eq!(refused(toml(&format!("{head}{}", edges(MAX_EVENTS + 1))), line), Problem::TooManyEvents);

    let wide = format!("states = [{}]\ninitial = \"s0\"\n{}", states(1_024), edges(1_025));
    let problem = Problem::TableTooLarge { states: 1_024, events: 1_025 };
    assert_eq!(refused(toml(&wide), 2 + 4 * 1_024 + 1), problem);
}

#[test]
fn names_of_guards_and_actions_that_nobody_bound_are_refused() {
    let text = |key: &str| {
        format!(
            "states = [\"a\"]\ninitial = \"a\"\n[[transitions]]\nfrom = \"a\"\nevent = \"e\"\nto = \"a\"\n{key} = \"f\""
        )
    };
    assert_eq!(refused(toml(&text("guard")), 3), Problem::UnboundGuard("f".into()));
    assert_eq!(refused(toml(&text("action")), 3), Problem::UnboundAction("f".into()));
    let bound = Bindings::new().action("f", |(): &mut ()| {}).guard("F", |(): &()| true);
    let guard = Definition::from_toml(&text("guard")).expect("well formed").compile_with(bound);
    let error = guard.expect_err("an action is no guard, and `F` is not `f`");
    assert_eq!(error.problem(), &Problem::UnboundGuard("f".into()));
}

/// A random definition: states, and edges by number.
fn definitions() -> impl Strategy<Value = (usize, Vec<(usize, usize, usize)>)> {
    (1_usize..12)
        .prop_flat_map(|states| (Just(states), prop::collection::vec((0..states, 0_usize..6, 0..states), 0..30)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, rng_seed: proptest::test_runner::RngSeed::Fixed(31), ..ProptestConfig::default() })]

    /// A machine's table is its definition's list of edges, and nothing else; names in any case find the same states.
    #[test]
    fn table_is_the_list_of_edges((states, mut edges) in definitions()) {
        edges.sort_unstable();
        edges.dedup_by_key(|edge| (edge.0, edge.1));
        // Every state is made reachable by an event of its own.
        edges.extend((0..states).map(|state| (0, 100 + state, state)));
        let names: Vec<String> = (0..states).map(|state| format!("\"State-{state}\"")).collect();
        let list: Vec<String> = edges
            .iter()
            .map(|(from, event, to)| format!(r#"{{"from":"state-{from}","event":"E{event}","to":"STATE-{to}"}}"#))
            .collect();
        let text = format!(r#"{{"states":[{}],"initial":"STATE-0","transitions":[{}]}}"#, names.join(","), list.join(","));
        let machine = json(&text).expect("a machine");
        let state = |number: usize| machine.state(&format!("sTaTe-{number}")).expect("defined");
        for from in 0..states {
            prop_assert_eq!(state(from).index(), from);
            prop_assert_eq!(machine.state_name(state(from)), format!("State-{from}"));
            for event in machine.events() {
                let name: usize = machine.event_name(event)[1..].parse().expect("a number");
                let edge = edges.iter().find(|edge| (edge.0, edge.1) == (from, name));
                prop_assert_eq!(machine.next(state(from), event), edge.map(|edge| state(edge.2)));
            }
            for to in 0..states {
                let allowed = edges.iter().any(|edge| (edge.0, edge.2) == (from, to));
                prop_assert_eq!(machine.allows(state(from), state(to)), allowed);
            }
        }
    }
}
