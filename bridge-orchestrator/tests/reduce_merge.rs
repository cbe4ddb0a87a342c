//! Partial results: however items are divided and parts merged, the whole is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bridge_orchestrator::reduce::{GroupBy, Intent, Item, ReduceError, Reducer, Timestamp, Window, Windowing};
use proptest::prelude::*;

use support::{at, item};

mod support;

type Groups = BTreeMap<(Window, String), (u64, i128, BTreeSet<String>, BTreeSet<String>)>;

fn groups(reducer: &Reducer) -> Groups {
    let mut groups = Groups::new();
    for pane in reducer.open() {
        for group in pane.groups() {
            let types = group.file_types().iter().map(str::to_owned).collect();
            let workflows = group.workflows().iter().map(str::to_owned).collect();
            let sum = (group.count(), group.bytes(), types, workflows);
            groups.insert((pane.window(), group.key().to_owned()), sum);
        }
    }
    groups
}

fn windowings() -> impl Strategy<Value = Windowing> {
    let micros = Duration::from_micros;
    prop_oneof![
        Just(Windowing::Global),
        (1_u64..30).prop_map(move |size| Windowing::Tumbling(micros(size))),
        (1_u64..10, 1_u64..4)
            .prop_map(move |(slide, n)| Windowing::Sliding { size: micros(slide * n), slide: micros(slide) }),
        (1_u64..15).prop_map(move |gap| Windowing::Session(micros(gap))),
    ]
}

const STATES: [&str; 4] = ["PENDING", "PROCESSING", "COMPLETED", "FAILED"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, rng_seed: proptest::test_runner::RngSeed::Fixed(5), ..ProptestConfig::default() })]

    /// Three parts, merged from the left, from the right and in another order, hold what one reducer of all items holds.
    #[test]
    fn parts_merge_to_the_whole_in_any_order(
        windowing in windowings(),
        rows in prop::collection::vec((0_i64..80, 0_usize..3, 0_usize..9, 0_u64..9, 0_usize..3), 0..60),
    ) {
        let (names, ids) = (["a", "b", "c"], ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        let reducer = || Reducer::builder(GroupBy::Namespace).windowing(windowing).build().expect("valid");
        let (mut whole, mut parts) = (reducer(), [reducer(), reducer(), reducer()]);
        for &(time, name, id, size, part) in &rows {
            let content_type = ids[size as usize];
            let item = Item { file_size: size, content_type, ..at(time, item(names[name], ids[id], STATES[id % 2])) };
            let _ = whole.push(&[item]).expect("taken");
            let _ = parts[part].push(&[item]).expect("taken");
        }
        let [a, b, c] = parts;
        let mut left = reducer();
        for part in [&a, &b, &c] {
            left.merge(part).expect("the same windows");
        }
        let mut right = reducer();
        let mut inner = reducer();
        inner.merge(&b).expect("the same windows");
        inner.merge(&c).expect("the same windows");
        right.merge(&a).expect("the same windows");
        right.merge(&inner).expect("the same windows");
        let mut other = reducer();
        for part in [&c, &a, &b] {
            other.merge(part).expect("the same windows");
        }
        let expected = groups(&whole);
        for mut merged in [left, right, other] {
            prop_assert_eq!(groups(&merged), expected.clone());
            prop_assert_eq!(merged.totals().items, rows.len() as u64);
            for id in ids {
                prop_assert_eq!(merged.workflow_state(id), whole.workflow_state(id));
            }
            // What was merged was reported by its parts: an item more is all that is new.
            let output = merged.push(&[at(5, item("a", "10", "PENDING"))]).expect("taken");
            let added: u64 = output.intents().map(|it| if let Intent::PersistState(delta) = it { delta.count() } else { 0 }).sum();
            prop_assert_eq!(added, 1);
        }
    }
}

#[test]
fn the_state_that_was_reached_counts_where_parts_know_the_same_workflow() {
    let of = |state| {
        let mut reducer = Reducer::builder(GroupBy::Namespace).build().expect("valid");
        let _ = reducer.push(&[item("a", "w", state)]).expect("taken");
        reducer
    };
    for (ours, theirs, merged) in [
        ("PENDING", "COMPLETED", "COMPLETED"),
        ("COMPLETED", "PENDING", "COMPLETED"),
        ("PROCESSING", "FAILED", "FAILED"),
        ("FAILED", "COMPLETED", "FAILED"),
    ] {
        let mut reducer = of(ours);
        reducer.merge(&of(theirs)).expect("the same windows");
        assert_eq!(reducer.workflow_state("w"), Some(merged), "{ours} and {theirs}");
        assert_eq!(reducer.active_workflows(), usize::from(merged == "PENDING"));
    }
}

#[test]
fn parts_of_other_windows_or_watermarks_are_refused_and_nothing_changes() {
    let of = |windowing| Reducer::builder(GroupBy::Namespace).windowing(windowing).build().expect("valid");
    let tumbling = |micros| of(Windowing::Tumbling(Duration::from_micros(micros)));
    let refused = |mut ours: Reducer, theirs: &Reducer| {
        assert!(matches!(ours.merge(theirs), Err(ReduceError::NotMergeable(_))));
        assert_eq!(ours.totals().items, 0);
    };
    let mut part = tumbling(5);
    let _ = part.push(&[item("a", "w", "PENDING")]).expect("taken");
    refused(tumbling(6), &part);
    refused(of(Windowing::Global), &part);
    refused(of(Windowing::Count(5)), &of(Windowing::Count(5)));
    let _ = part.advance_watermark(Timestamp::from_micros(3));
    refused(tumbling(5), &part);
}
