//! Forgetting.

mod workload;

use std::time::Duration;

use harness::{Bench, BenchError, Suite};
use memory_store::{Memory, Prune, Timestamp};
use workload::Lines;
use workload::filled::{Store, empty};

fn main() -> std::process::ExitCode {
    Suite::new()
        .bench("memory-store/prune/expired", |bench| expired(bench, 128, 10_000, Order::Scattered))
        .bench("memory-store/prune/500k-of-1m", |bench| expired(bench, 32, 1_000_000, Order::Scattered))
        .bench("memory-store/prune/oldest-500k-of-1m", |bench| expired(bench, 32, 1_000_000, Order::OldestFirst))
        .run()
}

/// Where the half that goes stands.
#[derive(Clone, Copy)]
enum Order {
    /// Every other memory.
    Scattered,
    /// The first half: whole segments.
    OldestFirst,
}

/// Half of the memories are a day old and go; the other half stays. Vectors are short where there are many: they are not looked at.
fn expired(bench: &mut Bench, dimensions: usize, memories: usize, order: Order) -> Result<(), BenchError> {
    let mut lines = Lines::new(1, dimensions, 100);
    let vectors: Vec<Vec<f32>> = (0..1_000).map(|_| lines.vector()).collect();
    let payload = std::sync::Arc::new(());
    let set_up = || {
        let store = empty(dimensions, |config| config);
        for i in 0..memories {
            let goes = match order {
                Order::Scattered => i % 2 == 0,
                Order::OldestFirst => i < memories / 2,
            };
            let hour = if goes { 0.0 } else { 700.0 };
            let memory = Memory::shared(&vectors[i % 1_000], std::sync::Arc::clone(&payload));
            store.write(memory.at(Timestamp::from_hours(hour))).expect("a good memory");
        }
        (store, 0)
    };
    let prune = |(store, removed): &mut (Store, u64), _| {
        let report = store.prune(Prune::new().older_than(Duration::from_secs(24 * 3_600))).expect("a prune");
        *removed = report.removed as u64;
    };
    let rounds = bench.ops(1, set_up, prune, |(store, removed)| {
        assert_eq!(store.len() as u64 + removed, memories as u64);
        removed
    })?;
    bench.proof(rounds * memories as u64 / 2, bench.observed());
    Ok(())
}
