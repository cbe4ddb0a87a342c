//! What a reducer allocates and keeps: counted, in a binary of its own.

use std::process::ExitCode;
use std::time::Duration;

use bridge_orchestrator::reduce::{GroupBy, Reducer, Timestamp, Windowing};
use harness::{Bench, BenchError, CountingAlloc, Suite, alloc_scope};

use stamps::Stamps;

mod stamps;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::system();

const ITEMS: usize = 10_000;

fn main() -> ExitCode {
    Suite::new()
        .bench("bridge-orchestrator/allocs/reduce-known", known)
        .bench("bridge-orchestrator/memory/reduce-10000", growth)
        .run()
}

/// Items of groups, types and workflows that the reducer has.
fn known(bench: &mut Bench) -> Result<(), BenchError> {
    let stamps = Stamps::new(ITEMS, 10);
    let items = stamps.items();
    let mut reducer = Reducer::builder(GroupBy::Namespace).build().expect("valid");
    let mut push_all = || {
        for items in items.chunks(1_000) {
            let _ = reducer.push(items).expect("taken");
        }
    };
    // The second time sees to the room for what a push changes.
    push_all();
    push_all();
    let ((), stats) = alloc_scope(push_all);
    bench.allocations(ITEMS as u64, stats)?;
    bench.proof(3 * ITEMS, reducer.totals().items);
    Ok(())
}

/// Ten thousand items again and again, in windows that pass: what is kept of what is over.
fn growth(bench: &mut Bench) -> Result<(), BenchError> {
    let stamps = Stamps::new(ITEMS, 10);
    let mut items = stamps.items();
    let mut reducer = Reducer::builder(GroupBy::Namespace)
        .windowing(Windowing::Tumbling(Duration::from_secs(1)))
        .build()
        .expect("valid");
    let (mut pushed, mut counted) = (0, 0);
    bench.growth(1, || {
        for items in items.chunks(1_000) {
            let _ = reducer.push(items).expect("taken");
            let last = items.last().expect("some").created_at;
            let output = reducer.advance_watermark(Timestamp::from_micros(last.as_micros() + 1_000));
            counted += output.panes().map(|pane| pane.count()).sum::<u64>();
        }
        pushed += ITEMS as u64;
        for item in &mut items {
            item.created_at = Timestamp::from_micros(item.created_at.as_micros() + ITEMS as i64 * 1_000);
        }
    })?;
    bench.proof(pushed, counted);
    Ok(())
}
