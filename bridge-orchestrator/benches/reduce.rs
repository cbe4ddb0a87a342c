//! What a reducer takes for stamped files: groups of a hundred to ten thousand items, windows, namespaces; each from nothing to the groups and
//! intents, beside the same groups by hand.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bridge_orchestrator::reduce::{GroupBy, Intent, Item, Output, Reducer, Timestamp, Windowing};
use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError, Suite};

use by_hand::ByHand;
use stamps::Stamps;

mod by_hand;
mod stamps;

/// Namespaces of the rows that do not say otherwise.
const NAMESPACES: usize = 10;
/// Items whose intents are written out, and again twice as many: pushes of a thousand, of different items a hundred thousand at a time.
const MANY: usize = 1_000_000;
const DIFFERENT: usize = 100_000;
const PUSH: usize = 1_000;
/// The shortest of so many rounds counts: what disturbs one only ever adds time.
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for size in [100, 1_000, 10_000] {
        suite = suite
            .bench(format!("bridge-orchestrator/reduce/{size}"), move |bench: &mut Bench| reduce(bench, size))
            .bench(format!("bridge-orchestrator/reduce/{size}-beside-by-hand"), move |bench: &mut Bench| {
                beside_by_hand(bench, size)
            });
    }
    suite
        .bench("bridge-orchestrator/reduce/windows", windows)
        .bench("bridge-orchestrator/reduce/namespaces", namespaces)
        .bench("bridge-orchestrator/reduce/intents", intents)
        .run()
}

fn reducer(windowing: Windowing) -> Reducer {
    Reducer::builder(GroupBy::Namespace).windowing(windowing).build().expect("valid")
}

/// What all intents carry: transitions, and items of deltas.
fn carried(output: Output<'_>) -> (u64, u64) {
    let mut sums = (0, 0);
    for intent in output.intents() {
        match intent {
            Intent::PersistFsmTransition { workflow, .. } => sums.0 += u64::from(!workflow.is_empty()),
            Intent::PersistState(delta) => sums.1 += delta.count(),
            _ => {}
        }
    }
    sums
}

/// Items and transitions that a fresh reducer saw, of one push.
fn whole(items: &[Item<'_>], windowing: Windowing) -> u64 {
    let mut reducer = reducer(windowing);
    let (transitions, added) = carried(reducer.push(items).expect("taken"));
    let panes = reducer.open();
    let counted: u64 = panes.iter().map(|pane| pane.count()).sum();
    assert!(counted <= added);
    added + transitions
}

/// From a fresh reducer to groups and intents. Each operation is a whole reduction.
fn reduce(bench: &mut Bench, size: usize) -> Result<(), BenchError> {
    let stamps = Stamps::new(size, NAMESPACES);
    let items = stamps.items();
    check(&items, &stamps);
    let rounds = bench.ops(8, || 0, |sum, _| *sum += whole(black_box(&items), Windowing::Global), |sum| sum)?;
    // Every item of a workflow brings it to its next state.
    bench.proof(rounds * 8 * 2 * size as u64, bench.observed());
    Ok(())
}

/// The groups themselves, once: count, bytes, types, workflows.
fn check(items: &[Item<'_>], stamps: &Stamps) {
    let mut reducer = reducer(Windowing::Global);
    let _ = reducer.push(items).expect("taken");
    let mut by_hand = ByHand::default();
    by_hand.push(items);
    assert_eq!(reducer.known_workflows(), items.len().div_ceil(3));
    let panes = reducer.open();
    assert_eq!(panes[0].groups().len(), by_hand.groups.len());
    assert_eq!(panes[0].groups().map(|group| group.bytes()).sum::<i128>(), stamps.bytes());
    for group in panes[0].groups() {
        let other = &by_hand.groups[group.key()];
        assert_eq!((group.count(), group.bytes()), (other.count, other.bytes));
        assert_eq!((group.file_types().len(), group.workflows().len()), (other.types.len(), other.workflows.len()));
    }
}

fn beside_by_hand(bench: &mut Bench, size: usize) -> Result<(), BenchError> {
    let stamps = Stamps::new(size, NAMESPACES);
    let items = stamps.items();
    let repeats = (100_000 / size) as u64;
    let (mut ours, mut theirs) = (0, 0);
    let rounds = bench.against(
        &format!("bridge-orchestrator/floor/hashbrown-foldhash-{size}"),
        || timed(repeats, || ours += whole(black_box(&items), Windowing::Global)),
        || {
            timed(repeats, || {
                let mut by_hand = ByHand::default();
                by_hand.push(black_box(&items));
                theirs += by_hand.groups.values().map(|sum| sum.count).sum::<u64>() + by_hand.transitions;
            })
        },
    )?;
    bench.proof(2 * rounds * repeats * 2 * size as u64, ours + theirs);
    Ok(())
}

fn timed(repeats: u64, mut work: impl FnMut()) -> (Duration, u64) {
    let start = Instant::now();
    for _ in 0..repeats {
        work();
    }
    (start.elapsed(), repeats)
}

/// A thousand items in windows of a hundred, by time, each fired by the watermark.
fn windows(bench: &mut Bench) -> Result<(), BenchError> {
    beside_a_thousand(bench, &Stamps::new(1_000, NAMESPACES), |items| {
        let mut reducer = reducer(Windowing::Tumbling(Duration::from_millis(100)));
        let (mut transitions, mut counted) = (0, 0);
        for items in items.chunks(100) {
            transitions += carried(reducer.push(items).expect("taken")).0;
            let last = items.last().expect("a hundred").created_at.as_micros();
            let output = reducer.advance_watermark(Timestamp::from_micros(last + 1_000));
            assert_eq!(output.panes().len(), 1);
            counted += output.panes().map(|pane| pane.count()).sum::<u64>();
        }
        counted + transitions
    })
}

/// Ten namespaces of a hundred items, a push for each hundred.
fn namespaces(bench: &mut Bench) -> Result<(), BenchError> {
    beside_a_thousand(bench, &Stamps::new(1_000, NAMESPACES), |items| {
        let mut reducer = reducer(Windowing::Global);
        let mut sum = 0;
        for items in items.chunks(100) {
            let (transitions, added) = carried(reducer.push(items).expect("taken"));
            sum += transitions + added;
        }
        assert_eq!(reducer.open()[0].groups().len(), NAMESPACES);
        sum
    })
}

/// Each operation a whole reduction of a thousand items, and the same rounds beside one push of them.
fn beside_a_thousand(bench: &mut Bench, stamps: &Stamps, work: impl Fn(&[Item<'_>]) -> u64) -> Result<(), BenchError> {
    let items = stamps.items();
    let rounds = bench.ops(8, || 0, |sum, _| *sum += work(black_box(&items)), |sum| sum)?;
    let (mut ours, mut theirs) = (0, 0);
    let id = bench.id().to_owned();
    let name = id.rsplit('/').next().expect("an id has parts");
    let pairs = bench.against(
        &format!("bridge-orchestrator/floor/reduce-1000-beside-{name}"),
        || timed(100, || ours += work(black_box(&items))),
        || timed(100, || theirs += whole(black_box(&items), Windowing::Global)),
    )?;
    let expected = (rounds * 8 + 2 * pairs * 100) * 2 * items.len() as u64;
    bench.proof(expected, bench.observed() + ours + theirs);
    Ok(())
}

/// Pushes and all that their intents carry, written out: twice the items take twice the time.
fn intents(bench: &mut Bench) -> Result<(), BenchError> {
    let (many, rounds) = if bench.is_test() { (DIFFERENT / 10, 1) } else { (MANY, ROUNDS) };
    let stamps = Stamps::new(DIFFERENT.min(many), NAMESPACES);
    let (mut once, mut twice, mut observed) = (f64::INFINITY, f64::INFINITY, 0);
    for _ in 0..rounds {
        once = once.min(write_intents(&stamps, many, &mut observed).as_secs_f64());
        twice = twice.min(write_intents(&stamps, 2 * many, &mut observed).as_secs_f64());
    }
    bench.figure(Source::Scaling, Figure::exact(Metric::Ratio, twice / once), rounds as u64);
    bench.note(format!("{many} items: {:.0} ns an item", once * 1e9 / many as f64));
    bench.proof(rounds * 3 * many, observed);
    Ok(())
}

fn write_intents(stamps: &Stamps, count: usize, observed: &mut u64) -> Duration {
    let mut reducer = reducer(Windowing::Tumbling(Duration::from_secs(1)));
    let (mut items, mut written, mut elapsed) = (stamps.items(), Vec::new(), Duration::ZERO);
    for _ in 0..count / items.len() {
        let start = Instant::now();
        for items in items.chunks(PUSH) {
            let output = reducer.push(items).expect("taken");
            written.clear();
            for intent in output.intents() {
                serde_json::to_writer(&mut written, &intent).expect("to memory");
                if let Intent::PersistState(delta) = intent {
                    *observed += delta.count();
                }
            }
            black_box(&written);
            let last = items.last().expect("some").created_at;
            let _ = reducer.advance_watermark(last);
        }
        elapsed += start.elapsed();
        let length = items.len() as i64 * 1_000;
        for item in &mut items {
            item.created_at = Timestamp::from_micros(item.created_at.as_micros() + length);
        }
    }
    elapsed
}
