//! Random sequences of operations against sequential models. `SEQUENCES` says how many of each kind (100,000 is the full count), `SEED` runs
//! one alone.

mod combined;
mod configuration;
mod exact;
mod ledger;
#[path = "../support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Runtime;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|number| number.parse().ok())
}

/// Runs the sequences of all seeds, on as many threads as there are processors. The first seed that fails is printed.
fn each_seed(sequence: impl Fn(u64) + Sync) {
    if let Some(seed) = number("SEED") {
        return sequence(seed);
    }
    let (sequences, next) = (number("SEQUENCES").unwrap_or(1_000), AtomicU64::new(0));
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&seed| seed < sequences) {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| sequence(seed))) {
                eprintln!("seed {seed}");
                next.store(sequences, Ordering::Relaxed);
                std::panic::resume_unwind(panic);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        (0..threads).for_each(|_| drop(scope.spawn(work)));
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
