//! Allocations and memory: counted, in a binary of its own.

mod workload;

use harness::{Bench, BenchError, CountingAlloc, Suite, alloc_scope, live_bytes};
use memory_store::{Config, Durability, ManualClock, Memory, MemoryStore, Query};
use workload::filled::{DIMENSIONS, fill, filled, queries};
use workload::{Lines, now};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::system();

fn main() -> std::process::ExitCode {
    Suite::new()
        .bench("memory-store/allocs/retrieve", retrieve)
        .bench("memory-store/allocs/write", write)
        .bench("memory-store/memory/memory-384", memory)
        .bench("memory-store/memory/churn-100k", churn)
        .run()
}

/// What an answer takes: its list, and what finds it.
fn retrieve(bench: &mut Bench) -> Result<(), BenchError> {
    const ASKED: usize = 100;
    let (store, queries) = (filled(DIMENSIONS, 10_000), queries(DIMENSIONS, ASKED));
    store.retrieve(&Query::new(&queries[0], 10)).expect("a good query");
    let (hits, stats) = alloc_scope(|| {
        let found =
            queries.iter().map(|query| store.retrieve(&Query::new(query, 10)).expect("a good query").hits.len());
        found.sum::<usize>()
    });
    bench.allocations(ASKED as u64, stats)?;
    bench.proof(ASKED * 10, hits);
    Ok(())
}

/// What a write without a look takes, segments included.
fn write(bench: &mut Bench) -> Result<(), BenchError> {
    const WRITES: usize = 4_096;
    let store = filled(DIMENSIONS, 100_000);
    let mut lines = Lines::new(5, DIMENSIONS, 1_000);
    let vectors: Vec<Vec<f32>> = (0..WRITES).map(|_| lines.vector()).collect();
    let payload = std::sync::Arc::new(());
    let (stored, stats) = alloc_scope(|| {
        let write = |vector: &Vec<f32>| store.write(Memory::shared(vector, payload.clone()).at(now())).is_ok();
        vectors.iter().filter(|vector| write(vector)).count()
    });
    bench.allocations(WRITES as u64, stats)?;
    bench.proof(WRITES, stored);
    Ok(())
}

/// Bytes of a memory of 384 dimensions in a store on disk, which keeps its vectors there.
fn memory(bench: &mut Bench) -> Result<(), BenchError> {
    let build = |count: u64| {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config::builder(DIMENSIONS).dedup(None).build().expect("a configuration");
        let opened = MemoryStore::open_with(dir.path(), config, Durability::Buffered, ManualClock::new(now()));
        let (store, _) = opened.expect("a store");
        fill(&store, DIMENSIONS, count as usize);
        (store, dir)
    };
    bench.memory_per_item(&[40_000, 80_000, 120_000], 0, build, |(store, _)| store.len() as u64)?;
    bench.proof(240_000, bench.observed());
    Ok(())
}

/// What a store takes after ten times as many memories have come and gone at random, beside one that was filled afresh.
fn churn(bench: &mut Bench) -> Result<(), BenchError> {
    use harness::metric::Metric;
    use harness::record::{Figure, Source};
    const MEMORIES: usize = 100_000;
    const DIMENSIONS: usize = 64;
    let before = live_bytes();
    let store = filled(DIMENSIONS, MEMORIES);
    let fresh = live_bytes() - before;
    let mut lines = Lines::new(6, DIMENSIONS, 1_000);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut ids: Vec<_> = (1..=MEMORIES as u64).map(memory_store::MemoryId).collect();
    let payload = std::sync::Arc::new(());
    let mut vector = Vec::new();
    let mut gone = 0u64;
    let lists = live_bytes();
    for _ in 0..10 * MEMORIES {
        let at = rng.usize(..ids.len());
        gone += u64::from(store.remove(ids[at]).expect("removed"));
        lines.next(&mut vector);
        ids[at] = store.write(Memory::shared(&vector, payload.clone()).at(now())).expect("a good memory").id();
    }
    let churned = fresh + live_bytes() - lists;
    bench.figure(Source::Mem, Figure::exact(Metric::Ratio, churned as f64 / fresh as f64), 1);
    bench.note(format!("{fresh} B when filled, {churned} B after {} memories came and went", 10 * MEMORIES));
    bench.proof(format!("{} {MEMORIES}", 10 * MEMORIES), format!("{gone} {}", store.len()));
    Ok(())
}
