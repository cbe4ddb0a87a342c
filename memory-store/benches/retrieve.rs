//! Queries: exact answers, beside the floors of the machine.

mod peak;
mod workload;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError, Suite};
use memory_store::{Exactness, Memory, Query, Retrieved, Scoring, Timestamp};
use workload::filled::{DIMENSIONS, Store, queries, recurring, times};
use workload::now;

/// Memories of the stores that are asked beside something else.
const MEMORIES: usize = 100_000;

/// Queries of a round: enough different ones that no answer is typical.
const QUERIES: usize = 64;

fn main() -> std::process::ExitCode {
    Suite::new()
        .bench("memory-store/retrieve/top5", |bench| small(bench, 100))
        .bench("memory-store/retrieve/top5-1000", |bench| small(bench, 1_000))
        .bench("memory-store/retrieve/top5-10000", |bench| small(bench, 10_000))
        .bench("memory-store/retrieve/top10-1k", |bench| latency(bench, 1_000, 1))
        .bench("memory-store/retrieve/top10-10k", |bench| latency(bench, 10_000, 1))
        .bench("memory-store/retrieve/top10-100k", |bench| latency(bench, 100_000, 1))
        .bench("memory-store/retrieve/top10-300k", |bench| latency(bench, 300_000, 1))
        .bench("memory-store/retrieve/top10-1m", |bench| latency(bench, 1_000_000, 2))
        .bench("memory-store/retrieve/recall-100k", recall)
        .bench("memory-store/retrieve/brute-force-100k", against_brute_force)
        .bench("memory-store/retrieve/stream-100k", against_the_stream)
        .bench("memory-store/retrieve/byte-products-100k", against_the_peak)
        .bench("memory-store/retrieve/batch-256", batch)
        .bench("memory-store/scaling/readers", readers)
        .bench("memory-store/contention/retrieve-beside-writer", beside_a_writer)
        .run()
}

/// What a round of queries has to find, all of it counted.
fn count(answer: &Retrieved<()>, k: usize) -> u64 {
    assert_eq!(answer.exactness, Exactness::Exact);
    assert!(answer.hits.is_sorted_by(|a, b| a.score >= b.score) && answer.hits.len() == k, "the best, in order");
    answer.hits.len() as u64
}

/// The original's row: five of a few memories of 128 dimensions.
fn small(bench: &mut Bench, memories: usize) -> Result<(), BenchError> {
    let (store, queries) = (recurring(128, memories, |config| config), queries(128, QUERIES));
    let ask = |found: &mut u64, i: u64| *found += count(&ask(&store, &queries[i as usize % QUERIES], 5), 5);
    let rounds = bench.ops(QUERIES as u64, || 0u64, ask, |found| found)?;
    bench.proof(rounds * QUERIES as u64 * 5, bench.observed());
    Ok(())
}

fn ask(store: &Store, query: &[f32], k: usize) -> Retrieved<()> {
    store.retrieve(&Query::new(black_box(query), k)).expect("a good query")
}

fn latency(bench: &mut Bench, memories: usize, threads: usize) -> Result<(), BenchError> {
    let threads = threads.try_into().expect("a thread");
    let store = recurring(DIMENSIONS, memories, |config| config.query_threads(threads));
    let queries = queries(DIMENSIONS, QUERIES);
    let ask = |found: &mut u64, i: u64| *found += count(&ask(&store, &queries[i as usize % QUERIES], 10), 10);
    let rounds = bench.ops(QUERIES as u64, || 0u64, ask, |found| found)?;
    bench.proof(rounds * QUERIES as u64 * 10, bench.observed());
    Ok(())
}

/// The vectors of a store, one after the other.
fn vectors(memories: usize) -> Vec<f32> {
    let mut lines = workload::Lines::new(1, DIMENSIONS, workload::filled::TEMPLATES);
    let (mut vector, mut all) = (Vec::new(), Vec::with_capacity(memories * DIMENSIONS));
    for _ in 0..memories {
        lines.next(&mut vector);
        all.extend_from_slice(&vector);
    }
    all
}

/// How many of the ten best are found, of all queries: every score computed in `f64` says which they are.
fn recall(bench: &mut Bench) -> Result<(), BenchError> {
    let (store, vectors, queries) =
        (recurring(DIMENSIONS, MEMORIES, |config| config), vectors(MEMORIES), queries(DIMENSIONS, QUERIES));
    let Scoring::Additive(weights) = *store.config().scoring() else { unreachable!("the default") };
    let rest: Vec<f64> = (0..MEMORIES)
        .map(|i| {
            let age = (now().0 - workload::seen(i, MEMORIES).0) as f64 / Timestamp::from_hours(1.0).0 as f64;
            weights.temporal * (-0.1 * age).exp()
                + weights.recurrence * (1.0 + weights.factor * f64::from(1 + times(i, MEMORIES)).ln())
                + weights.importance * 0.5
        })
        .collect();
    let norms: Vec<f64> = vectors.chunks_exact(DIMENSIONS).map(|vector| dot(vector, vector).sqrt()).collect();
    let (mut found, mut expected) = (0, 0u64);
    for query in &queries {
        let norm = dot(query, query).sqrt();
        let score = |i: usize| {
            let vector = &vectors[i * DIMENSIONS..(i + 1) * DIMENSIONS];
            weights.similarity * dot(query, vector) / (norm * norms[i]) + rest[i]
        };
        let mut scores: Vec<(f64, usize)> = (0..MEMORIES).map(|i| (score(i), i)).collect();
        scores.select_nth_unstable_by(9, |a, b| b.0.total_cmp(&a.0));
        let tenth = scores[..10].iter().map(|score| score.0).fold(f64::INFINITY, f64::min);
        let hits = ask(&store, query, 10).hits;
        found += hits.iter().filter(|hit| score(hit.id.0 as usize - 1) >= tenth - 1e-12).count() as u64;
        expected += 10;
    }
    bench.figure(Source::Round, Figure::exact(Metric::Count, (expected - found) as f64), expected);
    bench.proof(expected, found);
    Ok(())
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut lanes = [0f64; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for lane in 0..8 {
            lanes[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    lanes.iter().sum()
}

/// Ten of 100,000, against the products with all vectors in `f32`, without a ranking: what a flat index does at least.
fn against_brute_force(bench: &mut Bench) -> Result<(), BenchError> {
    let (vectors, query) = (vectors(MEMORIES), queries(DIMENSIONS, 1).remove(0));
    against(bench, "memory-store/floor/f32-products-100k", || {
        let best = vectors.chunks_exact(DIMENSIONS).map(|vector| product(&query, vector)).fold(f32::MIN, f32::max);
        black_box(best) > 0.0
    })
}

fn product(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 32];
    for (a, b) in a.as_chunks::<32>().0.iter().zip(b.as_chunks::<32>().0) {
        for lane in 0..32 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum()
}

/// Ten of 100,000, against reading as many bytes as the codes of all memories have: what an index of one byte a dimension must do.
fn against_the_stream(bench: &mut Bench) -> Result<(), BenchError> {
    let bytes = vec![1u64; MEMORIES * DIMENSIONS / 8];
    against(bench, "memory-store/floor/stream-codes-100k", || {
        black_box(&bytes).iter().sum::<u64>() == bytes.len() as u64
    })
}

/// Ten of 100,000, against the products of all codes with nothing to read: what the processor could do if memory cost nothing.
fn against_the_peak(bench: &mut Bench) -> Result<(), BenchError> {
    let products = MEMORIES * DIMENSIONS;
    against(bench, "memory-store/floor/byte-products-100k", || {
        peak::byte_products(black_box(products)) == products as u64
    })
}

/// Ten of 100,000, against a floor that says whether it did its work.
fn against(bench: &mut Bench, name: &str, mut floor: impl FnMut() -> bool) -> Result<(), BenchError> {
    let (store, queries) = (recurring(DIMENSIONS, MEMORIES, |config| config), queries(DIMENSIONS, QUERIES));
    let (mut found, mut done, mut next) = (0, 0u64, 0);
    let rounds = bench.against(
        name,
        || {
            next += 1;
            let start = Instant::now();
            let answer = ask(&store, &queries[next % QUERIES], 10);
            let elapsed = start.elapsed();
            found += count(&answer, 10);
            (elapsed, 1)
        },
        || {
            let start = Instant::now();
            let is_done = floor();
            let elapsed = start.elapsed();
            done += u64::from(is_done);
            (elapsed, 1)
        },
    )?;
    bench.proof(rounds * 11, found + done);
    Ok(())
}

/// 256 queries at once.
fn batch(bench: &mut Bench) -> Result<(), BenchError> {
    let (store, vectors) = (recurring(DIMENSIONS, MEMORIES, |config| config), queries(DIMENSIONS, 256));
    let asked: Vec<Query<'_, ()>> = vectors.iter().map(|vector| Query::new(vector, 10)).collect();
    let mut found = 0;
    let rounds = bench.against(
        "memory-store/floor/one-by-one-256",
        || {
            let start = Instant::now();
            let answers = store.retrieve_batch(black_box(&asked)).expect("good queries");
            let elapsed = start.elapsed();
            found += answers.iter().map(|answer| count(answer, 10)).sum::<u64>();
            (elapsed, 256)
        },
        || {
            let start = Instant::now();
            for query in &asked {
                black_box(store.retrieve(query).expect("a good query"));
            }
            (start.elapsed(), 256)
        },
    )?;
    bench.proof(rounds * 2560, found);
    Ok(())
}

/// Readers on two threads, beside two threads that read as many bytes.
fn readers(bench: &mut Bench) -> Result<(), BenchError> {
    const ASKED: usize = 32;
    let (store, queries) = (recurring(DIMENSIONS, MEMORIES, |config| config), queries(DIMENSIONS, ASKED));
    let found = AtomicU64::new(0);
    // As many bytes as a query reads, a little less than the signs of all, over and over, and like those the same for both threads.
    let bytes = vec![1u64; MEMORIES * DIMENSIONS / 64];
    let stream = |_| {
        for _ in 0..3 * ASKED {
            assert!(black_box(&bytes).iter().sum::<u64>() > 0);
        }
    };
    let ask = |_| {
        let sum = queries.iter().map(|query| count(&ask(&store, query, 10), 10)).sum();
        found.fetch_add(sum, Ordering::Relaxed);
    };
    let runs = bench.speedup_against("memory-store/floor/streaming-threads", 2, ask, stream)?;
    bench.proof(runs * ASKED as u64 * 10, found.into_inner());
    Ok(())
}

/// A query while another thread writes a thousand memories a second, against the same query alone. They are removed after each round.
fn beside_a_writer(bench: &mut Bench) -> Result<(), BenchError> {
    const ASKED: usize = 64;
    let (store, queries) = (recurring(DIMENSIONS, MEMORIES, |config| config), queries(DIMENSIONS, QUERIES));
    // Other lines than those that are asked for: what is written must not make the queries easier.
    let mut lines = workload::Lines::new(7, DIMENSIONS, workload::filled::TEMPLATES);
    let written: Vec<Vec<f32>> = (0..1_000).map(|_| lines.vector()).collect();
    let found = AtomicU64::new(0);
    let (writes, time) = (Cell::new(0), Cell::new(Duration::ZERO));
    let round = |writing: bool| {
        let stop = AtomicBool::new(!writing);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let began = Instant::now();
                let mut ids = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let memory = Memory::new(&written[ids.len() % written.len()], ()).at(now()).distinct();
                    ids.push(store.write(memory).expect("a good memory").id());
                    let due = began + Duration::from_millis(ids.len() as u64);
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                (ids, began.elapsed())
            });
            let start = Instant::now();
            for query in &queries {
                found.fetch_add(count(&ask(&store, query, 10), 10), Ordering::Relaxed);
            }
            let elapsed = start.elapsed();
            stop.store(true, Ordering::Relaxed);
            let (ids, writing_for) = writer.join().expect("a writer");
            if writing {
                writes.set(writes.get() + ids.len());
                time.set(time.get() + writing_for);
            }
            // Every round finds the store as the first did.
            ids.into_iter().for_each(|id| assert!(store.remove(id).expect("in memory")));
            (elapsed, ASKED as u64)
        })
    };
    let rounds = bench.against("memory-store/floor/retrieve-alone", || round(true), || round(false))?;
    let rate = writes.get() as f64 / time.get().as_secs_f64();
    assert!(rate >= 900.0, "the writer has come to {rate:.0} memories a second");
    bench.proof(2 * rounds * ASKED as u64 * 10, found.into_inner());
    Ok(())
}
