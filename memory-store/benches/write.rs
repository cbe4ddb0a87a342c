//! Writes: merged, added, and appended without a look.

mod workload;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Bench, BenchError, Suite};
use memory_store::{Config, Dedup, Durability, ManualClock, Memory, MemoryStore};
use workload::filled::{DIMENSIONS, Store, TEMPLATES, dedup, empty};
use workload::{Lines, now, seen};

fn main() -> std::process::ExitCode {
    Suite::new()
        .bench("memory-store/write/single", single)
        .bench("memory-store/write/dedup-100k", deduplicated)
        .bench("memory-store/write/append", append)
        .run()
}

/// Lines of a round, and what became of them: merged and added ones, each at least once.
struct Round {
    store: Store,
    lines: Vec<Vec<f32>>,
    merged: u64,
    added: u64,
}

impl Round {
    fn write(&mut self, i: u64) {
        let memory = Memory::new(&self.lines[i as usize], ());
        match self.store.write(black_box(memory)).expect("a good memory").is_merged() {
            true => self.merged += 1,
            false => self.added += 1,
        }
    }

    /// The writes, which the store has to account for.
    fn count(self) -> u64 {
        let stats = self.store.stats();
        assert_eq!(stats.recurrences + stats.evicted_recurrences, self.merged + self.added, "nothing is lost");
        assert!(self.merged > 0 && self.added > 0, "both kinds of writes");
        self.merged + self.added
    }
}

/// The original's row: 128 dimensions, 1,000 memories at most, with a look for duplicates.
fn single(bench: &mut Bench) -> Result<(), BenchError> {
    const WRITES: u64 = 2_000;
    let mut lines = Lines::new(3, 128, 100);
    let set_up = || {
        let config = Config::builder(128).max_memories(1_000).dedup(dedup()).build().expect("a configuration");
        let store = MemoryStore::with_clock(config, ManualClock::new(now())).expect("a store");
        Round { store, lines: (0..WRITES).map(|_| lines.vector()).collect(), merged: 0, added: 0 }
    };
    let rounds = bench.ops(WRITES, set_up, Round::write, Round::count)?;
    bench.proof(rounds * WRITES, bench.observed());
    Ok(())
}

/// A look through 100,000 memories with every write; one line in ten is a near-duplicate.
fn deduplicated(bench: &mut Bench) -> Result<(), BenchError> {
    const MEMORIES: usize = 100_000;
    const WRITES: usize = 400;
    let mut lines = Lines::new(1, DIMENSIONS, TEMPLATES);
    let payload = Arc::new(());
    // Filled without a look, and opened again with one: near-duplicates that are there already are no matter.
    let dir = tempfile::tempdir().expect("a directory");
    let open = |dedup: Option<Dedup>| {
        let config = Config::builder(DIMENSIONS).dedup(dedup).max_memories(MEMORIES).build().expect("a configuration");
        let clock = ManualClock::new(now());
        MemoryStore::<(), _>::open_with(dir.path(), config, Durability::Buffered, clock).expect("a store").0
    };
    let filling = open(None);
    for i in 0..MEMORIES {
        let vector = lines.vector();
        filling.write(Memory::shared(&vector, Arc::clone(&payload)).at(seen(i, MEMORIES))).expect("a good memory");
    }
    filling.snapshot().expect("a snapshot");
    drop(filling);
    let store = open(Some(dedup()));
    let before = store.stats();
    let (mut merged, mut added) = (0u64, 0u64);
    let rounds = bench.rounds(|| {
        let batch: Vec<Vec<f32>> = (0..WRITES).map(|_| lines.vector()).collect();
        let start = Instant::now();
        for vector in &batch {
            let memory = Memory::shared(vector, Arc::clone(&payload)).at(now());
            match store.write(memory).expect("a good memory").is_merged() {
                true => merged += 1,
                false => added += 1,
            }
        }
        (start.elapsed(), WRITES as u64)
    })?;
    let after = store.stats();
    assert!(merged > 0 && added > merged, "both kinds of writes");
    assert_eq!(after.memories, MEMORIES);
    let kept = after.recurrences + after.evicted_recurrences - before.recurrences - before.evicted_recurrences;
    bench.proof(rounds * WRITES as u64, kept);
    Ok(())
}

/// Writes without a look, against a copy of the same vectors and as many bytes of codes into memory of their own.
fn append(bench: &mut Bench) -> Result<(), BenchError> {
    const WRITES: usize = 16_384;
    let mut lines = Lines::new(4, DIMENSIONS, TEMPLATES);
    let vectors: Vec<Vec<f32>> = (0..WRITES).map(|_| lines.vector()).collect();
    let payload = Arc::new(());
    let (mut stored, mut copied) = (0, 0u64);
    let rounds = bench.against(
        "memory-store/floor/copy-rows",
        || {
            let store = empty(DIMENSIONS, |config| config);
            let start = Instant::now();
            for vector in &vectors {
                store.write(Memory::shared(black_box(vector), Arc::clone(&payload)).at(now())).expect("a good memory");
            }
            let elapsed: Duration = start.elapsed();
            stored += store.len() as u64;
            (elapsed, WRITES as u64)
        },
        || {
            let start = Instant::now();
            let mut rows: Vec<f32> = Vec::with_capacity(WRITES * DIMENSIONS);
            let mut codes: Vec<u8> = Vec::with_capacity(WRITES * DIMENSIONS);
            for vector in black_box(&vectors) {
                rows.extend_from_slice(vector);
                codes.extend(vector.iter().map(|x| (x * 0.5) as u8));
            }
            let elapsed = start.elapsed();
            copied += (black_box(rows).len() + black_box(codes).len()) as u64 / (2 * DIMENSIONS as u64);
            (elapsed, WRITES as u64)
        },
    )?;
    bench.proof(2 * rounds * WRITES as u64, stored + copied);
    Ok(())
}
