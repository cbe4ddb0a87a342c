//! On disk: how long it takes to open, and what a write costs.

mod workload;

use std::sync::Arc;
use std::time::Instant;

use harness::{Bench, BenchError, Suite};
use memory_store::{Config, Durability, ManualClock, Memory, MemoryStore, Query};
use workload::Lines;
use workload::filled::{DIMENSIONS, TEMPLATES, queries};
use workload::{now, seen};

fn main() -> std::process::ExitCode {
    Suite::new()
        .bench("memory-store/disk/open-100k", |bench| open(bench, 100_000))
        .bench("memory-store/disk/open-1m", |bench| open(bench, 1_000_000))
        .bench("memory-store/disk/replay-100k", replay)
        .bench("memory-store/disk/write-sync", write_synced)
        .bench("memory-store/disk/write-batch-sync", write_batch_synced)
        .run()
}

type Store = MemoryStore<(), ManualClock>;

fn opened(dir: &std::path::Path, durability: Durability) -> Store {
    let config = Config::builder(DIMENSIONS).dedup(None).build().expect("a configuration");
    Store::open_with(dir, config, durability, ManualClock::new(now())).expect("a store").0
}

fn fill(store: &Store, memories: usize) {
    let payload = Arc::new(());
    let mut lines = Lines::new(1, DIMENSIONS, TEMPLATES);
    let mut vector = Vec::new();
    for i in 0..memories {
        lines.next(&mut vector);
        store.write(Memory::shared(&vector, Arc::clone(&payload)).at(seen(i, memories))).expect("a good memory");
    }
}

/// From a closed store with a snapshot to the first answer. The files are in the page cache.
fn open(bench: &mut Bench, memories: usize) -> Result<(), BenchError> {
    let dir = tempfile::tempdir().expect("a directory");
    let store = opened(dir.path(), Durability::Buffered);
    fill(&store, memories);
    store.snapshot().expect("a snapshot");
    drop(store);
    let query = queries(DIMENSIONS, 1).remove(0);
    let open = |store: &mut Option<Store>, _| {
        let opened = opened(dir.path(), Durability::Buffered);
        let found = opened.retrieve(&Query::new(&query, 10)).expect("a good query").hits.len();
        *store = Some(opened);
        found
    };
    let rounds = bench.ops(1, || None, open, |store| store.map_or(0, |store| store.len() as u64))?;
    bench.proof(rounds * memories as u64, bench.observed());
    Ok(())
}

/// From a closed store without a snapshot: every write is done again.
fn replay(bench: &mut Bench) -> Result<(), BenchError> {
    const MEMORIES: usize = 100_000;
    let dir = tempfile::tempdir().expect("a directory");
    fill(&opened(dir.path(), Durability::Buffered), MEMORIES);
    let open = |store: &mut Option<Store>, _| *store = Some(opened(dir.path(), Durability::Buffered));
    let rounds = bench.ops(1, || None, open, |store| store.map_or(0, |store| store.len() as u64))?;
    bench.proof(rounds * MEMORIES as u64, bench.observed());
    Ok(())
}

/// One write, on disk when it returns, against a bare write of as many bytes and an `fdatasync`.
fn write_synced(bench: &mut Bench) -> Result<(), BenchError> {
    batches(bench, "memory-store/floor/write-and-sync", 1)
}

/// 64 writes, on disk together when the call returns.
fn write_batch_synced(bench: &mut Bench) -> Result<(), BenchError> {
    batches(bench, "memory-store/floor/write-and-sync-64", 64)
}

fn batches(bench: &mut Bench, floor: &str, batch: usize) -> Result<(), BenchError> {
    use std::io::Write;
    const ROUND: usize = 64;
    let dir = tempfile::tempdir().expect("a directory");
    let store = opened(dir.path(), Durability::Sync);
    let mut lines = Lines::new(8, DIMENSIONS, TEMPLATES);
    let payload = Arc::new(());
    let mut file = std::fs::File::create(dir.path().join("floor")).expect("a file");
    let record = vec![7u8; batch * (DIMENSIONS * 4 + 100)];
    let (mut stored, mut written) = (0u64, 0u64);
    let rounds = bench.against(
        floor,
        || {
            let vectors: Vec<Vec<f32>> = (0..ROUND).map(|_| lines.vector()).collect();
            let start = Instant::now();
            for vectors in vectors.chunks(batch) {
                let memories = vectors.iter().map(|vector| Memory::shared(vector, Arc::clone(&payload)).at(now()));
                let mut written = Vec::with_capacity(batch);
                store.write_batch(memories, &mut written).expect("good memories");
                stored += written.len() as u64;
            }
            (start.elapsed(), ROUND as u64)
        },
        || {
            let start = Instant::now();
            for _ in 0..ROUND / batch {
                file.write_all(&record).expect("room");
                file.sync_data().expect("a disk");
                written += batch as u64;
            }
            (start.elapsed(), ROUND as u64)
        },
    )?;
    assert_eq!(store.len() as u64, stored);
    bench.proof(2 * rounds * ROUND as u64, stored + written);
    Ok(())
}
