//! The arithmetic of the system that this crate replaces.

use crate::config::{Config, ConfigBuilder, Dedup, MatchPick, MergePolicy, Recency, ZeroVectors};
use crate::decay::DecayTable;
use crate::scoring::{Scoring, Weights};

/// AstraGuard's `AdaptiveMemoryStore`: its formula, the first match in order of insertion, ages from the first write, the first payload,
/// 10,000 memories. Scores are the original's to the last digits of `f64`; what it does wrong (see the README) is not repeated.
///
/// ```
/// let config = memory_store::compat::astraguard(384).build()?;
/// # Ok::<(), memory_store::Error>(())
/// ```
pub fn astraguard(dimensions: usize) -> ConfigBuilder {
    let weights = Weights { importance: 0.0, feedback: 0.0, ..Weights::default() };
    Config::builder(dimensions)
        .scoring(Scoring::Additive(weights))
        .decay(DecayTable::per_hour(0.1))
        .dedup(Dedup { threshold: 0.85, pick: MatchPick::First, merge: MergePolicy::KeepFirst })
        .recency(Recency::FirstSeen)
        .max_memories(10_000)
        .zero_vectors(ZeroVectors::Unrelated)
        .epsilon(1e-10)
}
