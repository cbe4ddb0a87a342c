//! Every score computed and sorted, in straight-line `f64`: what a store has to agree with.
#![allow(dead_code, reason = "each test uses what it needs")]

use memory_store::{DecayTable, RetentionClass, Scoring, Timestamp};

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

/// How fast memories of each class fade an hour, where nothing else is said.
pub(crate) const RATES: [f64; 4] = [0.1; 4];

/// A store's table of these rates.
pub(crate) fn table(rates: &[f64; 4]) -> DecayTable {
    RetentionClass::ALL
        .into_iter()
        .fold(DecayTable::per_hour(0.0), |table, class| table.rate(class, rates[class as usize]))
}

/// What is left of a memory at `now`.
pub(crate) fn left(rate: f64, seen: Timestamp, now: Timestamp) -> f64 {
    let hours = (now.0 - seen.0).max(0) as f64 / 3_600e6;
    (-rate * hours).exp()
}

/// The score by the formula in the documentation of [`Scoring`].
fn score(row: &Row, similarity: f64, now: Timestamp, scoring: &Scoring, rates: &[f64; 4]) -> f64 {
    let (importance, weight) = (f64::from(row.importance), f64::from(row.weight));
    let temporal = left(rates[row.class as usize], row.seen, now);
    let recurrence = |factor: f64| 1.0 + factor * (1.0 + f64::from(row.recurrence)).ln();
    match *scoring {
        Scoring::Additive(w) => {
            w.similarity * similarity
                + w.temporal * temporal
                + w.recurrence * recurrence(w.factor)
                + w.importance * importance
                + w.feedback * weight.ln()
        }
        Scoring::Multiplicative(w) => {
            let rest = w.temporal * temporal + w.recurrence * recurrence(w.factor) + w.importance * importance;
            similarity * (w.similarity + rest) * weight
        }
    }
}

/// All scores at `now`, best first, the lowest id first among equals.
pub(crate) fn rank(
    rows: &[Row],
    query: &[f32],
    now: Timestamp,
    scoring: &Scoring,
    rates: &[f64; 4],
) -> Vec<(f64, u64)> {
    let mut scores: Vec<(f64, u64)> =
        rows.iter().map(|row| (score(row, cosine(query, &row.vector), now, scoring, rates), row.id)).collect();
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
