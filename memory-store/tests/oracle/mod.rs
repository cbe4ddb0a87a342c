//! Every score computed and sorted, in straight-line `f64`: what a store has to agree with.
#![allow(dead_code, reason = "each test uses what it needs")]

use memory_store::{DecayTable, RetentionClass, ScoreParts, Scoring, Timestamp};

/// A memory as the oracle keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) vector: Vec<f32>,
    pub(crate) first_seen: Timestamp,
    pub(crate) seen: Timestamp,
    pub(crate) recurrence: u32,
    pub(crate) importance: f32,
    pub(crate) weight: f32,
    pub(crate) class: RetentionClass,
}

/// The cosine in `f64`, one component after the other.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x), f64::from(y));
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    if aa == 0.0 || bb == 0.0 { 0.0 } else { dot / (aa.sqrt() * bb.sqrt()) }
}

/// All scores at `now`, best first, the lowest id first among equals.
pub(crate) fn rank(
    rows: &[Row],
    query: &[f32],
    now: Timestamp,
    scoring: &Scoring,
    decay: &DecayTable,
) -> Vec<(f64, u64)> {
    let mut scores: Vec<(f64, u64)> = rows
        .iter()
        .map(|row| {
            let parts = ScoreParts {
                similarity: cosine(query, &row.vector),
                temporal: decay.weight(row.class, row.seen, now),
                recurrence: scoring.recurrence(row.recurrence),
                importance: row.importance.into(),
                weight: row.weight.into(),
            };
            (scoring.score(&parts), row.id)
        })
        .collect();
    scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scores
}

/// Sums in another order differ in the last digits, so ranks may differ where scores are closer than this.
pub(crate) const CLOSE: f64 = 1e-12;

/// Asserts that `found` are the first of `ranked`, but for the order of scores that are `CLOSE`.
pub(crate) fn assert_best(found: &[(f64, u64)], ranked: &[(f64, u64)], k: usize) {
    assert_eq!(found.len(), k.min(ranked.len()), "as many as there are");
    for (at, (score, id)) in found.iter().enumerate() {
        let tolerance = CLOSE * (1.0 + score.abs());
        assert!((score - ranked[at].0).abs() <= tolerance, "rank {at}: {score} of {id}, not {:?}", ranked[at]);
        let own = ranked.iter().find(|other| other.1 == *id).expect("a memory that there is");
        assert!((score - own.0).abs() <= tolerance, "{id} scores {}, not {score}", own.0);
    }
    let mut ids: Vec<u64> = found.iter().map(|found| found.1).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), found.len(), "each once");
}
