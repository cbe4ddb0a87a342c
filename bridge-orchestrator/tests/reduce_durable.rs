//! State and intents in one append: what fails, what is lost on its way, what is dropped, and what a restart finds.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use bridge_orchestrator::reduce::{
    DurableError, DurableReducer, GroupBy, Item, ReduceError, Reducer, ReducerBuilder, Timestamp, Totals, Window,
    Windowing, WorkflowCounts,
};
use event_store::{AppendError, EventStore, MemoryOptions, MemoryStore, Read, StreamVersion};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use proptest::prelude::*;

use failing_store::{FailingStore, Fault};
use support::{at, item};

mod failing_store;
mod support;

const NEVER: NonZeroU64 = NonZeroU64::MAX;

fn options() -> ReducerBuilder {
    Reducer::builder(GroupBy::Namespace).windowing(Windowing::Tumbling(Duration::from_micros(10)))
}

fn open(store: &FailingStore, snapshot_every: NonZeroU64) -> DurableReducer<FailingStore> {
    block_on(DurableReducer::open(store.clone(), "r", options(), snapshot_every)).expect("opens")
}

/// Types and contents of the stream's events.
fn events(store: &FailingStore, stream: &event_store::StreamId) -> Vec<(String, serde_json::Value)> {
    let read = EventStore::read(store.inner(), Read::stream(stream.clone()));
    block_on(read.collect::<Vec<_>>())
        .into_iter()
        .map(|event| {
            let event = event.expect("readable");
            (event.event_type().as_str().to_owned(), serde_json::from_slice(event.payload()).expect("JSON"))
        })
        .collect()
}

type Seen = (BTreeMap<(Window, String), (u64, i128, usize, usize)>, Totals, WorkflowCounts, Option<Timestamp>, usize);

fn seen(reducer: &Reducer) -> Seen {
    let mut groups = BTreeMap::new();
    for pane in reducer.open() {
        for group in pane.groups() {
            let sum = (group.count(), group.bytes(), group.file_types().len(), group.workflows().len());
            groups.insert((pane.window(), group.key().to_owned()), sum);
        }
    }
    (groups, reducer.totals(), reducer.workflow_counts(), reducer.watermark(), reducer.active_workflows())
}

fn items() -> [Item<'static>; 3] {
    [at(1, item("a", "1", "PENDING")), at(2, item("b", "2", "PROCESSING")), at(3, item("a", "1", "FAILED"))]
}

#[test]
fn a_call_is_one_append_of_its_input_and_all_its_intents() {
    let store = FailingStore::default();
    let mut reducer = open(&store, NEVER);
    let persisted = block_on(reducer.push(&items())).expect("persisted");
    let written = events(&store, reducer.stream());
    let types: Vec<_> = written.iter().map(|(name, _)| name.as_str()).collect();
    let mut expected = vec!["REDUCER_INPUT", "RECOVER_FSM_STATES"];
    expected.extend(["PERSIST_FSM_TRANSITION"; 3]);
    expected.extend(["PERSIST_STATE"; 2]);
    assert_eq!(types, expected);
    assert_eq!(persisted.version.get(), types.len() as u64 - 1);
    assert_eq!(written[4].1["to"], "FAILED");
    assert_eq!((&written[5].1["key"], &written[5].1["count"]), (&"a".into(), &2.into()));
    block_on(reducer.advance_watermark(Timestamp::from_micros(10))).expect("persisted");
    let events: Vec<_> = events(&store, reducer.stream()).split_off(types.len());
    assert_eq!(
        events.iter().map(|event| event.0.as_str()).collect::<Vec<_>>(),
        ["REDUCER_INPUT", "PUBLISH_EVENT", "PUBLISH_EVENT"]
    );
    assert_eq!(events[1].1["unique_workflows"], 1);
}

/// The original said STATE_PERSISTED before anything was.
#[test]
fn what_the_store_refuses_is_not_said_to_be_persisted_and_did_not_happen() {
    let store = FailingStore::default();
    let mut reducer = open(&store, NEVER);
    block_on(reducer.push(&items()[..1])).expect("persisted");
    let before = (seen(reducer.reducer().expect("there")), events(&store, reducer.stream()));
    store.fail([Fault::Unavailable]);
    let error = block_on(reducer.push(&items()[1..])).expect_err("refused");
    assert!(matches!(error, DurableError::Append(AppendError::Unavailable(_))), "{error}");
    assert_eq!(events(&store, reducer.stream()), before.1, "no intent without its change");
    assert!(reducer.reducer().is_none(), "what is not persisted is not shown");
    // The same items again are counted once.
    block_on(reducer.push(&items()[1..])).expect("persisted");
    assert_eq!(reducer.reducer().expect("there").totals().items, 3);
    assert_eq!(seen(open(&store, NEVER).reducer().expect("there")), seen(reducer.reducer().expect("there")));
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_ids_and_counts_once() {
    for fault in [Fault::AnswerLost, Fault::RequestLost] {
        for times in [1, 3] {
            let store = FailingStore::default();
            let mut reducer = open(&store, NEVER);
            store.fail(std::iter::repeat_n(fault, times));
            block_on(reducer.push(&items())).expect("found out by repetition");
            let inputs = events(&store, reducer.stream()).iter().filter(|event| event.0 == "REDUCER_INPUT").count();
            assert_eq!((inputs, reducer.reducer().expect("there").totals().items), (1, 3));
        }
    }
}

#[test]
fn an_outcome_that_stays_unknown_is_said_to_be_and_settled_by_the_next_call() {
    for (fault, then) in
        [(Fault::AnswerLost, None), (Fault::RequestLost, None), (Fault::RequestLost, Some(Fault::Unavailable))]
    {
        let store = FailingStore::default();
        let mut reducer = open(&store, NEVER);
        store.fail([fault; 4]);
        let error = block_on(reducer.push(&items()[..2])).expect_err("unknown");
        assert!(matches!(error, DurableError::Append(AppendError::Unknown(_))), "{error}");
        assert!(reducer.reducer().is_none());
        store.fail(then);
        let next = block_on(reducer.push(&items()[2..]));
        let expected = if then.is_some() {
            assert!(matches!(next, Err(DurableError::Earlier(AppendError::Unavailable(_)))), "{next:?}");
            block_on(reducer.push(&items()[2..])).expect("persisted");
            1
        } else {
            next.expect("both are persisted");
            3
        };
        assert_eq!(reducer.reducer().expect("there").totals().items, expected);
        assert_eq!(seen(open(&store, NEVER).reducer().expect("there")), seen(reducer.reducer().expect("there")));
    }
}

#[test]
fn a_call_that_is_dropped_is_settled_by_the_next_one() {
    for fault in [Fault::Hangs, Fault::HangsWhenApplied] {
        let store = FailingStore::default();
        let mut reducer = open(&store, NEVER);
        store.fail([fault]);
        assert!(reducer.push(&items()[..2]).now_or_never().is_none());
        block_on(reducer.push(&items()[2..])).expect("persisted");
        assert_eq!(reducer.reducer().expect("there").totals().items, 3, "once, whether it was applied or not");
        assert_eq!(seen(open(&store, NEVER).reducer().expect("there")), seen(reducer.reducer().expect("there")));
    }
}

#[test]
fn another_writer_is_noticed_and_nothing_is_applied_over_it() {
    let store = FailingStore::default();
    let (mut ours, mut theirs) = (open(&store, NEVER), open(&store, NEVER));
    block_on(theirs.push(&items()[..1])).expect("persisted");
    let error = block_on(ours.push(&items())).expect_err("the stream has moved");
    assert!(matches!(error, DurableError::Append(AppendError::WrongExpectedVersion { .. })), "{error}");
    block_on(ours.push(&items()[1..])).expect("from the stream as it is");
    assert_eq!(ours.reducer().expect("there").totals().items, 3);
}

#[test]
fn what_the_reducer_does_not_take_changes_nothing() {
    let store = FailingStore::default();
    let options = Reducer::builder(GroupBy::custom(|item, _| assert_ne!(item.namespace, "b")));
    let mut reducer = block_on(DurableReducer::open(store.clone(), "r", options, NEVER)).expect("opens");
    let error = block_on(reducer.push(&items())).expect_err("the function panics");
    assert!(matches!(error, DurableError::Reduce(ReduceError::GroupByPanicked { index: 1 })), "{error}");
    let error = block_on(reducer.recover(&[("x", "PENDING"), ("y", "nowhere")])).expect_err("no such state");
    assert!(matches!(error, DurableError::Reduce(ReduceError::UnknownState(_))), "{error}");
    assert!(events(&store, reducer.stream()).is_empty());
    assert_eq!(reducer.reducer().expect("there").known_workflows(), 0);
    block_on(reducer.recover(&[("x", "PENDING")])).expect("persisted");
    assert_eq!(reducer.reducer().expect("there").workflow_state("x"), Some("PENDING"));
}

#[test]
fn a_stream_that_is_truncated_again_and_again_stays_bounded_and_whole() {
    let store = FailingStore::default();
    let every = NonZeroU64::new(50).expect("not zero");
    let mut reducer = open(&store, every);
    let mut most = 0;
    for round in 0..200_i64 {
        let id = round.to_string();
        let item = at(round * 3, item("a", &id, "COMPLETED"));
        let persisted = block_on(reducer.push(&[item])).expect("persisted");
        block_on(reducer.advance_watermark(Timestamp::from_micros(round * 3))).expect("persisted");
        block_on(reducer.truncate(persisted.version)).expect("removed");
        most = most.max(events(&store, reducer.stream()).len());
    }
    assert!(most <= 70, "{most} events were there at once");
    let again = open(&store, every);
    assert_eq!(seen(again.reducer().expect("there")), seen(reducer.reducer().expect("there")));
    assert_eq!(again.reducer().expect("there").totals().items, 200);
    assert_eq!(block_on(reducer.truncate(StreamVersion::FIRST)).expect("nothing is done yet"), 0);
}

#[test]
fn a_stream_of_other_options_is_refused_by_version() {
    let store = FailingStore::default();
    let mut reducer = open(&store, NonZeroU64::MIN);
    block_on(reducer.push(&items())).expect("persisted");
    let other = Reducer::builder(GroupBy::Namespace);
    let error = block_on(DurableReducer::open(store, "r", other, NEVER)).expect_err("a snapshot of other windows");
    assert!(matches!(error, DurableError::Malformed { version, .. } if version.get() == 7), "{error}");
}

#[derive(Debug, Clone)]
enum Call {
    Push(Vec<(i64, usize, usize, usize)>),
    Watermark(i64),
    Restart,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let items = prop::collection::vec((0_i64..80, 0_usize..3, 0_usize..6, 0_usize..4), 0..6);
    let call = prop_oneof![
        4 => items.prop_map(Call::Push),
        2 => (0_i64..100).prop_map(Call::Watermark),
        2 => Just(Call::Restart),
    ];
    prop::collection::vec(call, 1..25)
}

fn windowings() -> impl Strategy<Value = Windowing> {
    let micros = Duration::from_micros;
    prop_oneof![
        Just(Windowing::Global),
        Just(Windowing::Tumbling(micros(10))),
        Just(Windowing::Sliding { size: micros(15), slide: micros(10) }),
        Just(Windowing::Session(micros(7))),
        Just(Windowing::Count(4)),
    ]
}

#[test]
fn a_state_too_large_for_a_snapshot_stops_no_call() {
    let store = MemoryStore::with_options(MemoryOptions::default().max_event_bytes(4_000)).expect("in range");
    let store = std::sync::Arc::new(store);
    let open = |every| {
        let every = NonZeroU64::new(every).expect("not zero");
        block_on(DurableReducer::open(std::sync::Arc::clone(&store), "r", Reducer::builder(GroupBy::Namespace), every))
            .expect("opens")
    };
    let mut reducer = open(2);
    for call in 0..40 {
        let name = format!("{call:0>200}");
        block_on(reducer.push(&[item("ns", &name, "PROCESSING")])).expect("persisted, with a snapshot or without");
    }
    let state = seen(reducer.reducer().expect("there"));
    let written = block_on(EventStore::read(&store, Read::stream(reducer.stream().clone())).collect::<Vec<_>>());
    let snapshots =
        written.iter().filter(|event| event.as_ref().expect("readable").event_type().as_str() == "REDUCER_SNAPSHOT");
    assert!((1..20).contains(&snapshots.count()), "as long as they fit");
    assert_eq!(seen(open(2).reducer().expect("there")), state);
    // Only what a snapshot that is there stands for may go.
    let end = block_on(EventStore::stream_version(&store, reducer.stream())).expect("readable").expect("written");
    assert!(block_on(reducer.truncate(end)).expect("truncated") > 0);
    assert_eq!(seen(open(2).reducer().expect("there")), state);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    /// Restarts between calls, from snapshots or without, change nothing: neither the state nor any intent.
    #[test]
    fn restarts_are_not_seen(calls in calls(), windowing in windowings(), every in 1_u64..40, late in 0_u64..20) {
        let options = Reducer::builder(GroupBy::Namespace).windowing(windowing).allowed_lateness(Duration::from_micros(late));
        let every = NonZeroU64::new(every).expect("not zero");
        let (store, steady_store) = (FailingStore::default(), FailingStore::default());
        let open = |store: &FailingStore, every| {
            block_on(DurableReducer::open(store.clone(), "r", options.clone(), every)).expect("opens")
        };
        let (mut restarted, mut steady) = (open(&store, every), open(&steady_store, NEVER));
        let (names, ids) = (["a", "b", "c"], ["1", "2", "3", "4", "5", "6"]);
        let states = ["PENDING", "PROCESSING", "COMPLETED", "FAILED"];
        for call in calls {
            match call {
                Call::Push(rows) => {
                    let items: Vec<_> = rows
                        .iter()
                        .map(|&(time, name, id, state)| at(time, item(names[name], ids[id], states[state])))
                        .collect();
                    block_on(restarted.push(&items)).expect("persisted");
                    block_on(steady.push(&items)).expect("persisted");
                }
                Call::Watermark(to) => {
                    block_on(restarted.advance_watermark(Timestamp::from_micros(to))).expect("persisted");
                    block_on(steady.advance_watermark(Timestamp::from_micros(to))).expect("persisted");
                }
                Call::Restart => restarted = open(&store, every),
            }
            prop_assert_eq!(seen(restarted.reducer().expect("there")), seen(steady.reducer().expect("there")));
        }
        let mut written = events(&store, restarted.stream());
        written.retain(|(name, _)| name != "REDUCER_SNAPSHOT");
        prop_assert_eq!(written, events(&steady_store, steady.stream()));
    }
}
