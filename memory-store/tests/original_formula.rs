//! The original's arithmetic: golden scores, and thousands of operations beside a straight-line copy of its formulas.

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
