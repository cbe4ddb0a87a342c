//! Groups: what items are grouped by, sums and distinct counts.

use bridge_orchestrator::reduce::{GroupBy, Intent, Item, MAX_SAMPLE, OptionsError, ReduceError, Reducer};

use support::item;

mod support;

/// Key, items, bytes, file types and workflows of the groups of the global window.
fn groups(reducer: &Reducer) -> Vec<(String, u64, i128, usize, usize)> {
    let panes = reducer.open();
    let mut groups: Vec<_> = panes[0]
        .groups()
        .map(|g| (g.key().to_owned(), g.count(), g.bytes(), g.file_types().len(), g.workflows().len()))
        .collect();
    groups.sort();
    groups
}

fn three() -> [Item<'static>; 3] {
    [
        Item { file_size: 10, ..item("a", "w1", "PENDING") },
        Item { file_size: 1_024, content_type: "image/png", ..item("b", "w1", "PROCESSING") },
        Item { file_size: 5_000, ..item("a", "w2", "PENDING") },
    ]
}

/// The original read how to group and then always grouped by namespace.
#[test]
fn each_way_to_group_makes_its_own_groups() {
    let row = |key: &str, count, bytes, types, workflows| (key.to_owned(), count, bytes, types, workflows);
    for (by, expected) in [
        (GroupBy::Namespace, vec![row("a", 2, 5_010, 1, 2), row("b", 1, 1_024, 1, 1)]),
        (GroupBy::FileType, vec![row("image/png", 1, 1_024, 1, 1), row("text/plain", 2, 5_010, 1, 2)]),
        (GroupBy::Workflow, vec![row("w1", 2, 1_034, 2, 1), row("w2", 1, 5_000, 1, 1)]),
        (
            GroupBy::SizeBuckets(vec![1_024, 4_096]),
            vec![row("..1024", 1, 10, 1, 1), row("1024..4096", 1, 1_024, 1, 1), row("4096..", 1, 5_000, 1, 1)],
        ),
        (GroupBy::SizeBuckets(vec![]), vec![row("..", 3, 6_034, 2, 2)]),
        (
            GroupBy::custom(|item, key| key.push_str(&item.workflow_id[1..])),
            vec![row("1", 2, 1_034, 2, 1), row("2", 1, 5_000, 1, 1)],
        ),
    ] {
        let name = format!("{by:?}");
        let mut reducer = Reducer::builder(by).build().expect("valid");
        let _ = reducer.push(&three()).expect("taken");
        assert_eq!(groups(&reducer), expected, "{name}");
    }
}

#[test]
fn bounds_that_do_not_ascend_are_refused() {
    for bounds in [vec![2, 1], vec![1, 1]] {
        let built = Reducer::builder(GroupBy::SizeBuckets(bounds)).build();
        assert_eq!(built.expect_err("refused"), OptionsError::Buckets);
    }
}

#[test]
fn a_panic_of_the_callers_function_is_an_error_and_no_item_counts() {
    let by = GroupBy::custom(|item, key| match item.namespace {
        "b" => panic!("a namespace that it does not know"),
        name => key.push_str(name),
    });
    let mut reducer = Reducer::builder(by).build().expect("valid");
    let error = reducer.push(&three()).expect_err("it panics at the second item");
    assert_eq!(error, ReduceError::GroupByPanicked { index: 1 });
    assert_eq!((reducer.totals().items, reducer.known_workflows()), (0, 0));
    let _ = reducer.push(&three()[..1]).expect("taken");
    assert_eq!(groups(&reducer), [("a".to_owned(), 1, 10, 1, 1)]);
}

#[test]
fn sums_are_exact_where_64_bits_overflow() {
    let mut reducer = Reducer::builder(GroupBy::Namespace).build().expect("valid");
    let largest = Item { file_size: u64::MAX, ..item("a", "w", "PENDING") };
    let _ = reducer.push(&[largest; 5]).expect("taken");
    assert_eq!(groups(&reducer)[0].2, 5 * i128::from(u64::MAX));
}

/// The original cut its set of seen ids back to the sample when there were more than 200, and counted old ones again.
#[test]
fn distinct_counts_are_exact_and_samples_have_a_hundred() {
    const IDS: usize = 50_000;
    let ids: Vec<String> = (0..IDS).map(|id| format!("workflow-{id:05}")).collect();
    let mut reducer = Reducer::builder(GroupBy::Namespace).build().expect("valid");
    for _ in 0..3 {
        for ids in ids.chunks(999) {
            let items: Vec<_> = ids.iter().map(|id| item("a", id, "PENDING")).collect();
            let _ = reducer.push(&items).expect("taken");
        }
    }
    let panes = reducer.open();
    let group = panes[0].groups().next().expect("one group");
    assert_eq!((group.count(), group.workflows().len()), (3 * IDS as u64, IDS));
    let sample = group.workflows().sample();
    assert_eq!(sample.len(), MAX_SAMPLE);
    assert_eq!(sample, ids.iter().take(MAX_SAMPLE).collect::<Vec<_>>(), "the smallest, whatever their order");
}

/// The original's `array_cat` on columns of unique values made them grow with every write.
#[test]
fn an_intent_never_carries_a_text_that_the_group_has() {
    let mut reducer = Reducer::builder(GroupBy::Namespace).build().expect("valid");
    let mut carried = Vec::new();
    for round in 0..4 {
        let ids: Vec<String> = (0..10 + round).map(|id| id.to_string()).collect();
        let items: Vec<_> = ids.iter().chain(&ids).map(|id| item("a", id, "PENDING")).collect();
        for intent in reducer.push(&items).expect("taken").intents() {
            if let Intent::PersistState(delta) = intent {
                carried.extend(delta.new_workflows().iter().map(str::to_owned));
            }
        }
    }
    let mut once = carried.clone();
    once.sort();
    once.dedup();
    assert_eq!((carried.len(), once.len()), (13, 13));
}

#[test]
fn what_is_written_out_of_a_group_has_exact_counts_and_samples() {
    let ids: Vec<String> = (0..150).map(|id| format!("{id:03}")).collect();
    let items: Vec<_> = ids.iter().map(|id| item("a", id, "PENDING")).collect();
    let mut reducer = Reducer::builder(GroupBy::Namespace).build().expect("valid");
    let _ = reducer.push(&items).expect("taken");
    let panes = reducer.open();
    let json = serde_json::to_value(panes[0].groups().next().expect("one")).expect("it is JSON");
    assert_eq!(json["unique_workflows"], 150);
    assert_eq!(json["workflows"].as_array().expect("a list").len(), 100);
    assert_eq!(json["file_types"], serde_json::json!(["text/plain"]));
}
