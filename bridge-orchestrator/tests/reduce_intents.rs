//! Intents carry what changed: whoever adds them up has what the reducer has, at a cost that is linear in the items.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bridge_orchestrator::reduce::{GroupBy, Intent, Item, Output, Reducer, Timestamp, Window, Windowing};
use proptest::prelude::*;

use support::{at, item};

mod support;

/// What a store of states would hold after it did what `PERSIST_STATE` asks.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    rows: BTreeMap<(Window, String), Row>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Row {
    count: u64,
    bytes: i128,
    types: BTreeSet<String>,
    workflows: BTreeSet<String>,
}

impl Kept {
    fn carry_out(&mut self, output: Output<'_>) {
        for intent in output.intents() {
            let Intent::PersistState(delta) = intent else { continue };
            let key = delta.key().to_owned();
            let mut row = Row::default();
            for window in delta.replaces().iter().copied().chain([delta.window()]) {
                let part = self.rows.remove(&(window, key.clone())).unwrap_or_default();
                row.count += part.count;
                row.bytes += part.bytes;
                row.types.extend(part.types);
                row.workflows.extend(part.workflows);
            }
            row.count += delta.count();
            row.bytes += delta.bytes();
            row.types.extend(delta.new_file_types().iter().map(str::to_owned));
            row.workflows.extend(delta.new_workflows().iter().map(str::to_owned));
            self.rows.insert((delta.window(), key), row);
        }
    }

    fn of(reducer: &Reducer) -> Self {
        let mut kept = Self::default();
        for pane in reducer.open() {
            for group in pane.groups() {
                let row = Row {
                    count: group.count(),
                    bytes: group.bytes(),
                    types: group.file_types().iter().map(str::to_owned).collect(),
                    workflows: group.workflows().iter().map(str::to_owned).collect(),
                };
                kept.rows.insert((pane.window(), group.key().to_owned()), row);
            }
        }
        kept
    }
}

fn windowings() -> impl Strategy<Value = Windowing> {
    let micros = Duration::from_micros;
    prop_oneof![
        Just(Windowing::Global),
        (1_u64..30).prop_map(move |size| Windowing::Tumbling(micros(size))),
        (1_u64..10, 1_u64..4)
            .prop_map(move |(slide, times)| Windowing::Sliding { size: micros(slide * times), slide: micros(slide) }),
        (1_u64..15).prop_map(move |gap| Windowing::Session(micros(gap))),
        (50_u64..200).prop_map(Windowing::Count),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, rng_seed: proptest::test_runner::RngSeed::Fixed(8), ..ProptestConfig::default() })]

    /// The sum of all `PERSIST_STATE` intents is the state, for every kind of window and in whatever pushes the items come.
    #[test]
    fn intents_add_up_to_the_state(
        windowing in windowings(),
        pushes in prop::collection::vec(prop::collection::vec((0_i64..100, 0_usize..3, 0_usize..8, 0_u64..9), 0..12), 1..8),
    ) {
        let names = ["a", "b", "c"];
        let ids = ["1", "2", "3", "4", "5", "6", "7", "8"];
        let mut reducer = Reducer::builder(GroupBy::Namespace).windowing(windowing).build().expect("valid");
        let mut kept = Kept::default();
        let mut total = 0;
        for push in pushes {
            let items: Vec<Item<'_>> = push
                .iter()
                .map(|&(time, name, id, size)| {
                    Item { file_size: size, content_type: ids[size as usize % 8], ..at(time, item(names[name], ids[id], "PENDING")) }
                })
                .collect();
            total += items.len();
            kept.carry_out(reducer.push(&items).expect("taken"));
        }
        if let Windowing::Count(size) = windowing {
            // Full windows are gone from the reducer and kept by whoever keeps them.
            let number = total as u64 / size;
            kept.rows.retain(|(window, _), _| *window == Window::Count { number });
        }
        prop_assert_eq!(kept, Kept::of(&reducer));
    }
}

#[test]
fn intents_come_by_priority() {
    let mut reducer = Reducer::builder(GroupBy::Namespace).windowing(Windowing::Count(2)).build().expect("valid");
    let items = [item("a", "1", "PENDING"), item("b", "2", "PENDING"), item("a", "1", "PROCESSING")];
    let output = reducer.push(&items).expect("taken");
    let names: Vec<_> = output.intents().map(|intent| intent.name()).collect();
    let mut expected = vec!["RECOVER_FSM_STATES"];
    expected.extend(["PERSIST_FSM_TRANSITION"; 3]);
    expected.extend(["PERSIST_STATE"; 3]);
    expected.extend(["PUBLISH_EVENT"; 2]);
    assert_eq!(names, expected);
    let priorities: Vec<_> = output.intents().map(|intent| intent.priority()).collect();
    assert!(priorities.is_sorted_by(|a, b| a >= b), "{priorities:?}");
}

/// Every persist intent of the original copied the whole history: here what they carry in all doubles with the items.
#[test]
fn what_intents_carry_is_linear_in_the_items() {
    let carried = |count: usize| {
        let ids: Vec<String> = (0..count / 2).map(|id| id.to_string()).collect();
        let mut reducer = Reducer::builder(GroupBy::Namespace).build().expect("valid");
        let mut bytes = 0;
        for chunk in (0..count).collect::<Vec<_>>().chunks(100) {
            let items: Vec<_> =
                chunk.iter().map(|n| item("a", &ids[n / 2], ["PENDING", "PROCESSING"][n % 2])).collect();
            let output = reducer.push(&items).expect("taken");
            bytes += output.intents().map(|it| serde_json::to_string(&it).expect("it is JSON").len()).sum::<usize>();
        }
        bytes as f64
    };
    let ratio = carried(40_000) / carried(20_000);
    assert!(ratio <= 2.1, "twice the items carry {ratio:.2} times as much");
}

/// The original's reducer published to a broker by itself. This one has nothing to do so with: the same calls give the same intents.
#[test]
fn the_same_calls_give_the_same_intents() {
    let run = || {
        let mut reducer = Reducer::builder(GroupBy::Workflow)
            .windowing(Windowing::Session(Duration::from_micros(5)))
            .allowed_lateness(Duration::from_micros(3))
            .build()
            .expect("valid");
        let mut written = Vec::new();
        for time in [3, 9, 1, 20, 14, 2, 30] {
            let items = [at(time, item("a", "1", "PENDING")), at(time + 1, item("b", "2", "PROCESSING"))];
            let output = reducer.push(&items).expect("taken");
            written.extend(output.intents().map(|intent| serde_json::to_string(&intent).expect("it is JSON")));
            let output = reducer.advance_watermark(Timestamp::from_micros(time));
            written.extend(output.intents().map(|intent| serde_json::to_string(&intent).expect("it is JSON")));
        }
        written
    };
    assert!(run().len() > 20);
    assert_eq!(run(), run());
}
