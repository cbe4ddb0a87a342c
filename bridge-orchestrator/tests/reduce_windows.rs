//! Windows against brute force, in any order of arrival.

use std::collections::BTreeMap;
use std::time::Duration;

use bridge_orchestrator::reduce::{
    Accumulation, Firing, GroupBy, Item, LateFiring, OptionsError, Reducer, ReducerBuilder, Timestamp, Window,
    Windowing,
};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

use naive::{KEYS, Naive, Pane, Plain, Sum, WORKFLOWS, groups, panes_of, sessions, sorted};
use support::{at, item};

mod naive;
mod support;

fn micros(micros: i64) -> Duration {
    Duration::from_micros(micros as u64)
}

fn builder(windowing: Windowing, lateness: i64) -> ReducerBuilder {
    Reducer::builder(GroupBy::Namespace).windowing(windowing).allowed_lateness(micros(lateness))
}

fn of_plain(plain: &Plain) -> Item<'static> {
    let item = item(KEYS[plain.key], WORKFLOWS[plain.workflow], "PENDING");
    at(plain.time, Item { file_size: plain.bytes, ..item })
}

fn push(reducer: &mut Reducer, plain: &[Plain]) -> Vec<Pane> {
    let items: Vec<_> = plain.iter().map(of_plain).collect();
    panes_of(reducer.push(&items).expect("taken"))
}

fn advance(reducer: &mut Reducer, to: i64) -> Vec<Pane> {
    panes_of(reducer.advance_watermark(Timestamp::from_micros(to)))
}

fn plain(time: std::ops::Range<i64>) -> impl Strategy<Value = Plain> {
    (time, 0..KEYS.len(), 0_u64..100, 0..WORKFLOWS.len()).prop_map(|(time, key, bytes, workflow)| Plain {
        time,
        key,
        bytes,
        workflow,
    })
}

/// An item, or where the watermark goes.
#[derive(Debug, Clone)]
enum Step {
    Item(Plain),
    Watermark(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let item = plain(-40..60).prop_map(Step::Item);
    let watermark = (-50_i64..90).prop_map(Step::Watermark);
    prop::collection::vec(prop_oneof![4 => item, 1 => watermark], 1..40)
}

/// Runs a property: 1 % of `cases` by default, all of them where the environment asks for `PLUMBLINE_CASES=all`.
fn check<S: Strategy>(cases: u32, seed: u64, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let all = std::env::var("PLUMBLINE_CASES").is_ok_and(|asked| asked == "all");
    let cases = if all { cases } else { cases / 100 };
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    TestRunner::new(config).run(strategy, test).unwrap_or_else(|error| panic!("{error}\n{error:?}"));
}

/// Every firing of tumbling and sliding windows is that of brute force, whatever the watermark does; so is what became of each item.
#[test]
fn firings_and_accounting_are_those_of_brute_force() {
    let shapes = (1_i64..12, 1_i64..5, 0_i64..25, any::<bool>(), 0_i64..2);
    check(20_000, 24, &(shapes, steps()), |((slide, times, lateness, each, odd), steps)| {
        // A size that is no multiple of the slide makes slices of their common divisor.
        let size = slide * times + if slide > 1 { odd } else { 0 };
        let late = if each { LateFiring::Each } else { LateFiring::AtExpiry };
        let windowing = Windowing::Sliding { size: micros(size), slide: micros(slide) };
        let mut reducer = builder(windowing, lateness).late_firing(late).build().expect("valid");
        let mut naive = Naive::new(size, slide, lateness, each);
        for step in steps {
            match step {
                Step::Item(plain) => prop_assert_eq!(sorted(push(&mut reducer, &[plain])), naive.push(plain)),
                Step::Watermark(to) => prop_assert_eq!(sorted(advance(&mut reducer, to)), naive.advance(to)),
            }
        }
        prop_assert_eq!(sorted(panes_of(reducer.finish())), naive.advance(i64::MAX - 1_000));
        let totals = reducer.totals();
        prop_assert_eq!(
            (totals.on_time, totals.late_accepted, totals.dropped_late),
            (naive.on_time, naive.late, naive.dropped)
        );
        prop_assert_eq!(totals.items, totals.on_time + totals.late_accepted + totals.dropped_late);
        Ok(())
    });
}

/// The same items in an order of arrival, with watermarks that leave each of them its lateness.
fn arrivals() -> impl Strategy<Value = (Vec<Plain>, Vec<i64>)> {
    let items = prop::collection::vec(plain(0..100), 1..40).prop_shuffle();
    items.prop_flat_map(|items| (Just(items.clone()), prop::collection::vec(-20_i64..130, items.len())))
}

/// The last pane that was fired of each window and group. A session that grew replaces those that it overlaps.
#[derive(Default)]
struct Last(BTreeMap<(Window, String), Sum>);

impl Last {
    fn see(&mut self, panes: Vec<Pane>) {
        for (window, _, groups) in panes {
            for (key, sum) in groups {
                if let Window::Time { start, end } = window {
                    self.0.retain(|(other, other_key), _| match other {
                        // Sliding windows overlap without replacing each other: they have the same length.
                        Window::Time { start: s, end: e } if e - s != end - start => {
                            *other_key != key || *e <= start || end <= *s
                        }
                        _ => true,
                    });
                }
                self.0.insert((window, key), sum);
            }
        }
    }
}

/// Whatever the order in which items come within the lateness, the last panes are those of all items at once; none is dropped.
#[test]
fn any_order_within_the_lateness_gives_the_same_final_panes() {
    let kinds = (0_usize..3, 1_i64..12, 1_i64..4, 0_i64..30, 1_usize..4);
    check(20_000, 25, &(kinds, arrivals()), |((kind, length, times, lateness, chunk), (items, marks))| {
        let windowing = match kind {
            0 => Windowing::Tumbling(micros(length)),
            1 => Windowing::Sliding { size: micros(length * times), slide: micros(length) },
            _ => Windowing::Session(micros(length)),
        };
        let mut reducer = builder(windowing, lateness).build().expect("valid");
        let mut last = Last::default();
        for (at, items_now) in items.chunks(chunk).enumerate() {
            last.see(push(&mut reducer, items_now));
            // No item that is still to come is further behind than the lateness.
            let rest = &items[(at * chunk + items_now.len())..];
            let soonest = rest.iter().map(|item| item.time).min().unwrap_or(i64::MAX - 100);
            last.see(advance(&mut reducer, marks[at].min(soonest + lateness)));
        }
        last.see(panes_of(reducer.finish()));
        let expected = match kind {
            2 => sessions(&items, length),
            _ => {
                let size = if kind == 0 { length } else { length * times };
                let mut expected = BTreeMap::new();
                for start in (-60..120).map(|n| n * length) {
                    let window = Window::Time { start, end: start + size };
                    let within = items.iter().filter(|item| (start..start + size).contains(&item.time));
                    expected.extend(groups(within).into_iter().map(|(key, sum)| ((window, key), sum)));
                }
                expected
            }
        };
        prop_assert_eq!(last.0, expected);
        let totals = reducer.totals();
        prop_assert_eq!((totals.dropped_late, totals.on_time + totals.late_accepted), (0, items.len() as u64));
        Ok(())
    });
}

/// With a watermark that leaves items behind, sessions still account for every item.
#[test]
fn sessions_account_for_every_item() {
    check(10_000, 26, &(1_i64..12, 0_i64..20, steps()), |(gap, lateness, steps)| {
        let mut reducer = builder(Windowing::Session(micros(gap)), lateness)
            .accumulation(Accumulation::Discarding)
            .build()
            .expect("valid");
        let (mut pushed, mut shown, mut named) = (0, 0, 0);
        let mut count = |panes: Vec<Pane>| {
            shown += panes.iter().flat_map(|pane| pane.2.values()).map(|sum| sum.count).sum::<u64>();
        };
        for step in steps {
            match step {
                Step::Item(plain) => {
                    let items = [of_plain(&plain)];
                    let output = reducer.push(&items).expect("taken");
                    named += output.dropped().len() as u64;
                    count(panes_of(output));
                    pushed += 1;
                }
                Step::Watermark(to) => count(advance(&mut reducer, to)),
            }
        }
        count(panes_of(reducer.finish()));
        let totals = reducer.totals();
        prop_assert_eq!(totals.items, pushed);
        prop_assert_eq!(totals.on_time + totals.late_accepted + totals.dropped_late, pushed);
        prop_assert_eq!((shown, named), (pushed - totals.dropped_late, totals.dropped_late));
        Ok(())
    });
}

/// Discarding panes of windows, early ones among them, add up to the whole; accumulating ones end with it.
#[test]
fn discarding_firings_add_up_and_accumulating_ones_end_with_the_whole() {
    let kinds = prop_oneof![
        Just(Windowing::Global),
        (1_i64..30).prop_map(|size| Windowing::Tumbling(micros(size))),
        (1_u64..20).prop_map(Windowing::Count),
        (1_i64..12).prop_map(|gap| Windowing::Session(micros(gap))),
    ];
    let all = (kinds, 1_u64..6, any::<bool>(), prop::collection::vec(plain(0..100), 1..40), 1_usize..9);
    check(10_000, 27, &all, |(windowing, every, discards, items, chunk)| {
        let accumulation = if discards { Accumulation::Discarding } else { Accumulation::Accumulating };
        let mut reducer = builder(windowing, 0).early_every(every).accumulation(accumulation).build().expect("valid");
        let (mut whole, mut last) = (Sum::default(), Last::default());
        let mut early = 0;
        let mut see = |panes: Vec<Pane>| {
            early += panes.iter().filter(|pane| pane.1 == Firing::Early).count() as u64;
            for sum in panes.iter().flat_map(|pane| pane.2.values()) {
                whole.count += sum.count;
                whole.bytes += sum.bytes;
            }
            last.see(panes);
        };
        for items in items.chunks(chunk) {
            see(push(&mut reducer, items));
        }
        see(panes_of(reducer.finish()));
        if !discards {
            whole.count = last.0.values().map(|sum| sum.count).sum();
            whole.bytes = last.0.values().map(|sum| sum.bytes).sum();
        }
        let bytes = items.iter().map(|item| i128::from(item.bytes)).sum::<i128>();
        prop_assert_eq!((whole.count, whole.bytes), (items.len() as u64, bytes));
        if windowing == Windowing::Global {
            prop_assert_eq!(early, items.len() as u64 / every);
        }
        Ok(())
    });
}

#[test]
fn count_windows_hold_so_many_items_by_arrival() {
    let mut reducer = builder(Windowing::Count(3), 0).build().expect("valid");
    let one = |time| Plain { time, key: 0, bytes: 1, workflow: 0 };
    let panes = push(&mut reducer, &[9, 1, 5, 7, 2, 8, 4].map(one));
    assert_eq!(panes.iter().map(|pane| pane.0).collect::<Vec<_>>(), [0, 1].map(|number| Window::Count { number }));
    assert!(advance(&mut reducer, 1_000).is_empty(), "time does not matter");
    let rest = panes_of(reducer.finish());
    assert_eq!((rest[0].0, rest[0].2["a"].count), (Window::Count { number: 2 }, 1));
    assert!(panes_of(reducer.finish()).is_empty());
}

/// The original read a window's size and never used it.
#[test]
fn windows_are_of_the_size_that_was_asked_for() {
    let items: Vec<Plain> = (0..1_000).map(|time| Plain { time, key: 0, bytes: 1, workflow: 0 }).collect();
    for size in [10_i64, 100, 500] {
        let mut reducer = builder(Windowing::Tumbling(micros(size)), 0).build().expect("valid");
        assert!(push(&mut reducer, &items).is_empty());
        let panes = advance(&mut reducer, 1_000);
        assert_eq!(panes.len() as i64, 1_000 / size);
        assert!(panes.iter().all(|pane| pane.2["a"].count as i64 == size && pane.1 == Firing::OnTime));
    }
}

#[test]
fn a_dropped_item_is_named_in_the_side_output_and_nothing_of_it_counts() {
    let mut reducer = builder(Windowing::Tumbling(micros(10)), 5).build().expect("valid");
    let _ = advance(&mut reducer, 15);
    let items =
        [at(12, item("a", "1", "PENDING")), at(9, item("x", "2", "PENDING")), at(10, item("a", "3", "PENDING"))];
    let output = reducer.push(&items).expect("taken");
    assert_eq!(output.dropped(), [1]);
    assert_eq!((reducer.totals().dropped_late, reducer.totals().on_time), (1, 2));
    assert_eq!((reducer.workflow_state("2"), reducer.known_workflows()), (None, 2));
}

#[test]
fn times_at_the_ends_of_the_scale_are_taken() {
    let windowings = [
        Windowing::Tumbling(micros(7)),
        Windowing::Sliding { size: micros(9), slide: micros(3) },
        Windowing::Session(micros(5)),
    ];
    for windowing in windowings {
        let mut reducer = builder(windowing, 3).build().expect("valid");
        let ends = [i64::MIN, i64::MIN + 1, 0, i64::MAX - 1, i64::MAX];
        let panes = push(&mut reducer, &ends.map(|time| Plain { time, key: 0, bytes: 1, workflow: 0 }));
        assert!(panes.is_empty(), "{windowing:?}");
        let shown = panes_of(reducer.finish());
        let least = shown.iter().map(|pane| pane.2["a"].count).sum::<u64>();
        assert!(least >= 5, "{windowing:?}: {shown:?}");
        assert_eq!(reducer.totals().on_time, 5);
    }
}

#[test]
fn options_that_make_no_windows_are_refused() {
    let refused = |builder: ReducerBuilder| builder.build().expect_err("refused");
    let sliding = Windowing::Sliding { size: micros(4), slide: micros(2) };
    assert!(matches!(
        refused(builder(Windowing::Tumbling(Duration::ZERO), 0)),
        OptionsError::Duration { what: "window", micros: 0 }
    ));
    assert!(matches!(
        refused(builder(Windowing::Session(Duration::MAX), 0)),
        OptionsError::Duration { what: "gap", .. }
    ));
    assert_eq!(refused(builder(Windowing::Count(0), 0)), OptionsError::NoItems("window"));
    assert_eq!(refused(builder(Windowing::Global, 0).early_every(0)), OptionsError::NoItems("trigger"));
    let gaps = Windowing::Sliding { size: micros(2), slide: micros(4) };
    assert_eq!(refused(builder(gaps, 0)), OptionsError::SlideBeyondSize);
    assert_eq!(refused(builder(sliding, 0).early_every(1)), OptionsError::Shared);
    assert_eq!(refused(builder(sliding, 0).accumulation(Accumulation::Discarding)), OptionsError::Shared);
}
