//! What a memory is worth to a query, exactly and at most.

use crate::error::Error;

/// How the parts of a score come together. All weights are finite and at least 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scoring {
    /// `similarity·cos + temporal·t + recurrence·r + importance·i + feedback·ln(weight)`
    Additive(Weights),
    /// `cos · (similarity + temporal·t + recurrence·r + importance·i) · weight`; `feedback` is not used.
    Multiplicative(Weights),
}

impl Default for Scoring {
    fn default() -> Self {
        Self::Additive(Weights::default())
    }
}

/// The weights of the parts of a score. The default is the original's 0.5, 0.3, 0.2 with a factor of 0.3, to which importance and
/// feedback add a tenth each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Of the cosine of query and memory.
    pub similarity: f64,
    /// Of what is left of the memory after its age, `exp(-rate * age)`.
    pub temporal: f64,
    /// Of recurrence, `1 + factor * ln(1 + n)`.
    pub recurrence: f64,
    /// Of importance, 0 to 1.
    pub importance: f64,
    /// Of the logarithm of the weight that boosts and suppressions have left.
    pub feedback: f64,
    /// How much recurrence counts: `factor` in `1 + factor * ln(1 + n)`.
    pub factor: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { similarity: 0.5, temporal: 0.3, recurrence: 0.2, importance: 0.1, feedback: 0.1, factor: 0.3 }
    }
}

/// What a score was made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreParts {
    /// Cosine of the query's and the memory's vector, -1 to 1.
    pub similarity: f64,
    /// What is left after its age, 0 to 1. A store that gives age no weight does not ask its clock: there it is counted at the moment 0,
    /// unless the query is [at](crate::Query::at) another.
    pub temporal: f64,
    /// `1 + factor * ln(1 + n)` for a memory that was seen `n` times.
    pub recurrence: f64,
    /// Importance, 0 to 1.
    pub importance: f64,
    /// Product of all boosts and suppressions; 1 without any.
    pub weight: f64,
}

/// The parts of a score that do not depend on the query, at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upper {
    pub(crate) temporal: f64,
    pub(crate) recurrence: u32,
    pub(crate) importance: f64,
    pub(crate) weight: f64,
}

/// What is taken off a cosine that a memory needs, so that no rounding of the formula itself can cut off a memory: a few hundred times
/// the rounding of a sum of five `f64` products of moderate size.
const SLOP: f64 = 1e-11;

impl Scoring {
    pub(crate) fn weights(&self) -> &Weights {
        match self {
            Self::Additive(weights) | Self::Multiplicative(weights) => weights,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let w = self.weights();
        let all = [w.similarity, w.temporal, w.recurrence, w.importance, w.feedback, w.factor];
        if all.iter().any(|weight| !(0.0..=1e6).contains(weight)) {
            return Err(Error::InvalidConfig { option: "scoring", reason: format!("{w:?}: a weight is 0 to 1000000") });
        }
        Ok(())
    }

    /// `1 + factor * ln(1 + n)`: how recurrence counts, after the original.
    #[must_use]
    pub fn recurrence(&self, times: u32) -> f64 {
        1.0 + self.weights().factor * f64::from(times).ln_1p()
    }

    /// The score of these parts.
    #[must_use]
    pub fn score(&self, parts: &ScoreParts) -> f64 {
        // There is one zero, so that ids decide among all who have it.
        0.0 + match self {
            Self::Additive(w) => {
                let original =
                    w.similarity * parts.similarity + w.temporal * parts.temporal + w.recurrence * parts.recurrence;
                original + w.importance * parts.importance + w.feedback * parts.weight.ln()
            }
            Self::Multiplicative(w) => {
                let rest = w.similarity + w.temporal * parts.temporal + w.recurrence * parts.recurrence;
                parts.similarity * (rest + w.importance * parts.importance) * parts.weight
            }
        }
    }

    /// The least cosine with which a memory whose other parts are at most `upper` can have a score of `score` or more: more than 1 if
    /// none can, less than -1 if all can.
    pub(crate) fn least_similarity(&self, score: f64, upper: &Upper) -> f64 {
        if score == f64::NEG_INFINITY {
            return f64::NEG_INFINITY;
        }
        let recurrence = self.recurrence(upper.recurrence);
        match self {
            Self::Additive(w) => {
                let rest = w.temporal * upper.temporal + w.recurrence * recurrence + w.importance * upper.importance;
                let feedback = w.feedback * upper.weight.ln();
                let missing = score - (rest + feedback) - SLOP * (1.0 + score.abs() + rest + feedback.abs());
                if missing <= 0.0 && w.similarity == 0.0 { f64::NEG_INFINITY } else { missing / w.similarity }
            }
            // A memory that points away from the query has a higher score the less it has of the rest: no cosine is too low.
            Self::Multiplicative(_) if score <= 0.0 => f64::NEG_INFINITY,
            Self::Multiplicative(w) => {
                let rest = w.similarity + w.temporal * upper.temporal + w.recurrence * recurrence;
                score / ((rest + w.importance * upper.importance) * upper.weight) * (1.0 - SLOP)
            }
        }
    }
}
