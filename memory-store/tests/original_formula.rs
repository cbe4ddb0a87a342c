//! The original's arithmetic: golden scores, a golden trace, and thousands of operations beside a straight-line copy of its formulas.

use std::time::Duration;

use memory_store::{DecayTable, ManualClock, Memory, MemoryId, MemoryStore, Prune, Query, RetentionClass, ScoreParts};
use memory_store::{Scoring, Timestamp, Weights, compat};

fn hours(hours: f64) -> Timestamp {
    Timestamp::from_hours(hours)
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

/// Scores that the original's documentation and code give, to nine digits.
#[test]
fn the_additive_score_is_the_originals() {
    let scoring = Scoring::Additive(Weights { importance: 0.0, feedback: 0.0, ..Weights::default() });
    let decay = DecayTable::per_hour(0.1);
    let rows: [(f64, f64, u32, f64); 8] = [
        (1.0, 0.0, 1, 1.041588831),
        (0.594, 46.0, 1, 0.541604382),
        (1.0, 24.0, 1, 0.768804217),
        (0.2541, 0.0, 1000, 1.041575287),
        (0.5, 6.0, 10, 0.758517207),
        (-1.0, 720.0, 1, -0.258411169),
        (0.0, 0.0, 1, 0.541588831),
        (0.0, 26280.0, 100, 0.476907231),
    ];
    for (similarity, age, times, expected) in rows {
        let temporal = decay.weight(RetentionClass::Medium, hours(0.0), hours(age));
        let recurrence = scoring.recurrence(times);
        near(scoring.score(&ScoreParts { similarity, temporal, recurrence, importance: 0.5, weight: 1.0 }), expected);
    }
}

#[test]
fn the_documented_product_is_the_multiplicative_score() {
    let scoring = Scoring::Multiplicative(Weights { importance: 0.0, ..Weights::default() });
    let temporal = DecayTable::per_hour(0.1).weight(RetentionClass::Low, hours(0.0), hours(12.0));
    let parts =
        ScoreParts { similarity: 0.8, temporal, recurrence: scoring.recurrence(4), importance: 0.5, weight: 1.0 };
    near(scoring.score(&parts), 0.709539631);
}

#[test]
fn the_resonance_is_what_prunes_by_score_compare_with() {
    let store = MemoryStore::with_clock(compat::astraguard(2).build().unwrap(), ManualClock::default()).unwrap();
    for _ in 0..5 {
        store.write(Memory::new(&[1.0, 0.0], ()).importance(0.9).at(hours(0.0))).unwrap();
    }
    let below = |score| store.prune(Prune::new().below(score).dry_run().at(hours(10.0))).unwrap().removed;
    assert_eq!((below(0.50906234), below(0.50906244)), (0, 1));
}

#[test]
fn the_golden_trace_of_the_original_comes_out() {
    let clock = ManualClock::default();
    let store = MemoryStore::with_clock(compat::astraguard(3).build().unwrap(), clock.clone()).unwrap();
    let a = store.write(Memory::new(&[1.0, 0.0, 0.0], "A")).unwrap().id();
    clock.set(hours(1.0));
    let b = store.write(Memory::new(&[0.0, 1.0, 0.0], "B").critical()).unwrap().id();
    clock.set(hours(2.0));
    let merged = store.write(Memory::new(&[0.9, 0.1, 0.0], "A again")).unwrap();
    assert_eq!(merged.id(), a);
    assert!(
        matches!(merged, memory_store::Written::Merged { recurrence: 2, similarity, .. } if (similarity - 0.993884).abs() < 1e-6)
    );
    clock.set(hours(3.0));
    let c = store.write(Memory::new(&[0.6, 0.8, 0.0], "C")).unwrap();
    assert!(!c.is_merged());
    clock.set(hours(4.0));
    let found = store.retrieve(&Query::new(&[0.8, 0.6, 0.0], 3)).unwrap().hits;
    let expected = [(c.id(), 0.993040056), (a, 0.867012751), (b, 0.763834297)];
    for (hit, (id, score)) in found.iter().zip(expected) {
        assert_eq!(hit.id, id);
        // Vectors are kept as f32.
        assert!((hit.score - score).abs() < 1e-7, "{} is not {score}", hit.score);
    }
    assert_eq!(found.len(), 3);
    let replayed: Vec<&str> =
        store.replay(hours(0.0)..=hours(3.0)).unwrap().iter().map(|memory| *memory.payload).collect();
    assert_eq!(replayed, ["A", "B", "C"]);
    clock.set(hours(26.0));
    let report = store.prune(Prune::new().older_than(Duration::from_secs(24 * 3600))).unwrap();
    assert_eq!((report.removed, report.remaining), (1, 2));
    assert!(store.get(a).is_none() && store.get(b).is_some() && store.get(c.id()).is_some());
    assert!(store.get(MemoryId(99)).is_none());
}

/// A memory of the original.
struct Event {
    embedding: Vec<f32>,
    timestamp: f64,
    recurrence: u32,
    critical: bool,
    number: u64,
}

/// The original's store, line by line in `f64`, but for its defects 1 to 4: a merge keeps the higher class, which is why critical events
/// here are only ever written alone.
#[derive(Default)]
struct Original {
    events: Vec<Event>,
    written: u64,
}

impl Original {
    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot: f64 = a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
        let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        let (na, nb) = (norm(a), norm(b));
        if na == 0.0 || nb == 0.0 { 0.0 } else { dot / (na * nb + 1e-10) }
    }

    fn write(&mut self, embedding: &[f32], timestamp: f64, critical: bool) -> u64 {
        if let Some(event) = self.events.iter_mut().find(|event| Self::cosine(embedding, &event.embedding) > 0.85) {
            event.recurrence += 1;
            event.critical |= critical;
            return event.number;
        }
        self.written += 1;
        let (embedding, number) = (embedding.to_vec(), self.written);
        self.events.push(Event { embedding, timestamp, recurrence: 1, critical, number });
        number
    }

    fn retrieve(&self, query: &[f32], k: usize, now: f64) -> Vec<(f64, u64)> {
        let score = |event: &Event| {
            let age = (now - event.timestamp) / 3600.0;
            let recurrence = 1.0 + 0.3 * f64::from(event.recurrence).ln_1p();
            0.5 * Self::cosine(query, &event.embedding) + 0.3 * (-0.1 * age).exp() + 0.2 * recurrence
        };
        let mut scored: Vec<(f64, u64)> = self.events.iter().map(|event| (score(event), event.number)).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scored.truncate(k);
        scored
    }

    fn prune(&mut self, age: f64, now: f64) -> usize {
        let before = self.events.len();
        self.events.retain(|event| event.critical || event.timestamp > now - age);
        before - self.events.len()
    }
}

/// Thousands of operations: the same merges, scores to 1e-9, the same order, the same prunes. Tiny and zero vectors are among them.
#[test]
fn recorded_traces_come_out_alike() {
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dimensions = rng.usize(2..24);
        let clock = ManualClock::default();
        let config = compat::astraguard(dimensions).max_memories(usize::MAX).build().unwrap();
        let store = MemoryStore::with_clock(config, clock.clone()).unwrap();
        let mut original = Original::default();
        let mut seconds = 0;
        for _ in 0..1_500 {
            seconds += rng.i64(0..200);
            clock.set(Timestamp(seconds * 1_000_000));
            let length = [1.0, 1e-4, 1e-6, 1e8, 0.0][[0, 0, 0, 0, 1, 2, 3, 4][rng.usize(..8)]];
            let vector: Vec<f32> = (0..dimensions).map(|_| (rng.f32() - 0.4) * length).collect();
            match rng.usize(..10) {
                0..6 => {
                    let critical = rng.usize(..20) == 0;
                    let memory = Memory::new(&vector, ());
                    let ours = store.write(if critical { memory.critical() } else { memory }).unwrap();
                    assert_eq!(ours.id().0, original.write(&vector, seconds as f64, critical), "seed {seed}");
                }
                6 if rng.usize(..20) == 0 => {
                    let age = rng.u64(1..200_000);
                    let ours = store.prune(Prune::new().older_than(Duration::from_secs(age))).unwrap();
                    assert_eq!(ours.removed, original.prune(age as f64, seconds as f64));
                }
                _ => {
                    let k = rng.usize(1..12);
                    let ours = store.retrieve(&Query::new(&vector, k)).unwrap().hits;
                    let theirs = original.retrieve(&vector, k, seconds as f64);
                    assert_eq!(ours.len(), theirs.len());
                    for (ours, theirs) in ours.iter().zip(&theirs) {
                        near(ours.score, theirs.0);
                    }
                    // The same order, but where scores differ by rounding alone.
                    let apart = theirs.windows(2).all(|pair| pair[0].0 - pair[1].0 > 1e-12);
                    let ids: Vec<u64> = ours.iter().map(|hit| hit.id.0).collect();
                    assert!(
                        !apart
                            || ids[..k.min(ids.len()).saturating_sub(1)]
                                == theirs[..ids.len().saturating_sub(1)].iter().map(|t| t.1).collect::<Vec<_>>()[..]
                    );
                }
            }
        }
        assert!(original.written > 50);
    }
}
