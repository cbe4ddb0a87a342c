//! What the contenders are asked to do, and what it is called.

use std::fmt;

/// Memories that are fetched by similarity before they are sorted by the composite score.
pub const PREFETCH: usize = 500;
/// Prefetches that cost less, and find less.
pub const FEWER: [usize; 2] = [50, 100];

/// One work of the contest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// One query is answered.
    Answer(Question),
    /// One vector is added to what is stored.
    Append,
    /// The best by the composite score, among fewer that are fetched by similarity. Who ranks exactly fetches nothing, and does the same
    /// as for [`Question::Composite`].
    Among {
        /// Memories that are fetched, one of [`FEWER`].
        prefetch: usize,
    },
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The best by the composite score.
    Composite,
    /// The best by similarity alone.
    Similarity,
    /// The best 5 by the composite score: what the original answers by default.
    Original,
}

/// How good a contender's answers must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Each is the best answer.
    Exact,
    /// Their recall is a figure beside the time.
    Measured,
}

impl Question {
    /// All questions.
    pub const ALL: [Self; 3] = [Self::Composite, Self::Similarity, Self::Original];

    /// Memories of an answer.
    #[must_use]
    pub fn k(self) -> usize {
        match self {
            Self::Composite | Self::Similarity => 10,
            Self::Original => 5,
        }
    }

    /// Whether age and recurrence count.
    #[must_use]
    pub fn is_composite(self) -> bool {
        self != Self::Similarity
    }
}

impl Work {
    /// The id of this work's benchmark for one contender.
    #[must_use]
    pub fn id(self, peer: &str) -> String {
        format!("peers/memory-store/{self}/{peer}")
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(Question::Composite) => f.write_str("composite/top10"),
            Self::Answer(Question::Similarity) => f.write_str("similarity/top10"),
            Self::Answer(Question::Original) => f.write_str("original/top5"),
            Self::Append => f.write_str("write/append"),
            Self::Among { prefetch } => write!(f, "composite/fetch-{prefetch}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_works_differ() {
        let works = Question::ALL.map(Work::Answer).into_iter();
        let works = works.chain(FEWER.map(|prefetch| Work::Among { prefetch })).chain([Work::Append]);
        let mut ids: Vec<String> = works.map(|work| work.id("ours")).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 6);
    }
}
