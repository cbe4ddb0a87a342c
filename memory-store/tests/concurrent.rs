//! Many threads at once: nothing is lost, nothing is there twice, and who reads does not wait.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use memory_store::{
    Capacity, Config, Dedup, ManualClock, Memory, MemoryId, MemoryStore, MergePolicy, Prune, Query, RetentionClass,
    Timestamp, Update,
};

fn direction(rng: &mut fastrand::Rng, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|_| (0..6).map(|_| rng.f32() - 0.5).sum::<f32>()).collect()
}

/// The same vectors from all threads: one memory each, with the exact number of writes.
#[test]
fn identical_writes_make_one_memory_with_the_exact_count() {
    for merge in [MergePolicy::KeepFirst, MergePolicy::KeepLatest, MergePolicy::RunningMean] {
        let dedup = Dedup { merge, ..Dedup::default() };
        let config = Config::builder(24).dedup(dedup).build().unwrap();
        let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
        let mut rng = fastrand::Rng::with_seed(5);
        let vectors: Vec<Vec<f32>> = (0..50).map(|_| direction(&mut rng, 24)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (store, vectors) = (&store, &vectors);
                scope.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(thread);
                    for round in 0..40 {
                        let mut order: Vec<usize> = (0..vectors.len()).collect();
                        rng.shuffle(&mut order);
                        for at in order {
                            store.write(Memory::new(&vectors[at], round)).unwrap();
                        }
                    }
                });
            }
        });
        let all = store.replay(..).unwrap();
        assert_eq!(all.len(), vectors.len(), "{merge:?}");
        assert!(all.iter().all(|memory| memory.recurrence == 160), "{merge:?}");
    }
}

/// Sum of recurrences = acknowledged writes - evicted - pruned - removed, and no class falls, while a third of the writes is merged.
#[test]
fn what_is_acknowledged_is_there_or_counted_as_gone() {
    let capacity = Capacity { max_memories: 400, ..Capacity::default() };
    let config = Config::builder(16).capacity(capacity).build().unwrap();
    let clock = ManualClock::default();
    let store = MemoryStore::<u64, _>::with_clock(config, clock.clone()).unwrap();
    let (acknowledged, merged, gone) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    // What recurs, in a few variants that are alike.
    let mut rng = fastrand::Rng::with_seed(9);
    let recurring: Vec<Vec<f32>> = (0..40).map(|_| direction(&mut rng, 16)).collect();
    // The highest class that was acknowledged of each memory so far.
    let highest: Vec<AtomicU8> = (0..20_000).map(|_| AtomicU8::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (store, clock, acknowledged, gone) = (&store, &clock, &acknowledged, &gone);
            let (recurring, merged, highest) = (&recurring, &merged, &highest);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                for i in 0..6_000 {
                    clock.advance(Duration::from_secs(1));
                    let class = RetentionClass::ALL[[0, 1, 2, 0, 1, 2, 0, 1][rng.usize(..8)]];
                    let critical = rng.usize(..500) == 0;
                    let class = if critical { RetentionClass::Critical } else { class };
                    let mut vector = direction(&mut rng, 16);
                    if rng.usize(..3) == 0 {
                        let like = &recurring[rng.usize(..recurring.len())];
                        vector.iter_mut().zip(like).for_each(|(x, like)| *x = like + *x * 0.05);
                    }
                    let written = store.write(Memory::new(&vector, i).class(class)).unwrap();
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    merged.fetch_add(written.is_merged().into(), Ordering::Relaxed);
                    let highest = &highest[written.id().0 as usize];
                    let at_least = highest.fetch_max(class as u8, Ordering::Relaxed).max(class as u8);
                    if let Some(memory) = store.get(written.id()) {
                        assert!(memory.class as u8 >= at_least, "a merge lowered a class");
                    } else {
                        assert!(!critical, "a critical memory is gone");
                    }
                    if i % 1000 == 999 {
                        let report =
                            store.prune(Prune::new().older_than(Duration::from_secs(rng.u64(500..5_000)))).unwrap();
                        assert_eq!(report.by_class[3], 0);
                        gone.fetch_add(report.recurrences, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let merged = merged.into_inner();
    assert!(merged > 4_000, "{merged} merges");
    let stats = store.stats();
    let there = acknowledged.into_inner() - stats.evicted_recurrences - gone.into_inner();
    assert_eq!(stats.recurrences, there);
    assert!(stats.memories <= 400 && stats.evicted > 0);
}

/// While vectors and payloads are replaced and rows are compacted, a query finds every memory once, with a payload that belongs to its
/// vector, and `get` finds it always.
#[test]
fn what_is_replaced_is_found_once_and_whole() {
    let config = Config::builder(4).dedup(None).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::default()).unwrap();
    // The payload says how often the vector was replaced, and so does its length.
    let vector = |id: usize, version: u32| [(1 + version) as f32, id as f32 * 1e-3 * (1 + version) as f32, 0.0, 0.0];
    const MEMORIES: usize = 600;
    for id in 0..MEMORIES {
        store.write(Memory::new(&vector(id, 0), 0u32)).unwrap();
    }
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for version in 1..=30u32 {
                for id in 0..MEMORIES {
                    let vector = vector(id, version);
                    let update = Update::new().vector(&vector).payload(version, 0);
                    assert!(store.update(MemoryId(id as u64 + 1), update).unwrap());
                }
                if version % 10 == 0 {
                    store.compact().unwrap();
                }
            }
            ends.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            let mut rng = fastrand::Rng::with_seed(1);
            while !ends.load(Ordering::Acquire) {
                let id = MemoryId(rng.u64(1..=MEMORIES as u64));
                assert!(store.get(id).is_some() && store.vector(id).is_some());
            }
        });
        let mut rounds = 0;
        while !ends.load(Ordering::Acquire) || rounds == 0 {
            rounds += 1;
            let found = store.retrieve(&Query::new(&[1.0, 0.3, 0.0, 0.0], MEMORIES + 10)).unwrap().hits;
            let mut ids: Vec<u64> = found.iter().map(|hit| hit.id.0).collect();
            ids.sort_unstable();
            assert_eq!(ids, (1..=MEMORIES as u64).collect::<Vec<_>>());
        }
    });
    for id in 0..MEMORIES {
        let id_there = MemoryId(id as u64 + 1);
        assert_eq!(
            (store.vector(id_there).unwrap(), *store.get(id_there).unwrap().payload),
            (vector(id, 30).to_vec(), 30)
        );
    }
    assert!(store.stats().dead < MEMORIES);
}

/// A reader does not wait for a writer that is busy for long. Were there a lock between them, no reader would come to an end within a change
/// but the one that was there before it.
#[test]
fn readers_go_on_while_the_store_is_changed_as_a_whole() {
    const MEMORIES: usize = 50_000;
    let config = Config::builder(8).dedup(None).build().unwrap();
    let store = MemoryStore::with_clock(config, ManualClock::new(Timestamp::from_hours(10.0))).unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let vectors: Vec<Vec<f32>> = (0..MEMORIES).map(|_| direction(&mut rng, 8)).collect();
    let kept = store.write(Memory::new(&vectors[0], ()).at(Timestamp::from_hours(10.0))).unwrap().id();
    // Odd while a change is under way.
    let change = AtomicU64::new(0);
    let (store, change, vectors) = (&store, &change, &vectors);
    let during = |work: &dyn Fn()| {
        change.fetch_add(1, Ordering::SeqCst);
        work();
        change.fetch_add(1, Ordering::SeqCst);
    };
    let within = std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for _ in 0..5 {
                during(&|| {
                    let seen = |at| Timestamp::from_hours(if at % 2 == 0 { 0.0 } else { 9.5 });
                    let memories = (0..MEMORIES).map(|at| Memory::new(&vectors[at], ()).at(seen(at)));
                    store.write_batch(memories, &mut Vec::new()).unwrap();
                });
                during(&|| {
                    let report = store.prune(Prune::new().older_than(Duration::from_secs(7_200))).unwrap();
                    assert_eq!(report.removed, MEMORIES / 2);
                });
                during(&|| store.compact().unwrap());
            }
        });
        let query = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        // Reads that began and ended within the same change, by change.
        let mut within = [0u64; 32];
        while !writer.is_finished() {
            let before = change.load(Ordering::SeqCst);
            assert!(!store.retrieve(&Query::new(&query, 1)).unwrap().hits.is_empty());
            assert_eq!(store.get(kept).unwrap().id, kept);
            if before % 2 == 1 && change.load(Ordering::SeqCst) == before {
                within[before as usize] += 1;
            }
        }
        within
    });
    for (name, at) in [("write_batch", 1), ("prune", 3), ("compact", 5)] {
        let most = within.iter().skip(at).step_by(6).max().unwrap();
        assert!(*most >= 3, "{name}: at most {most} reads within one change of {within:?}");
    }
}
