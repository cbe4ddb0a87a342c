//! How far a rival looks for an answer by similarity.

use std::fmt;

/// What a rival is told for one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Candidates that a graph keeps while it looks; no matter for a scan.
    pub expansion: usize,
    /// Memories that are fetched. If there are more than are asked for by similarity, they are compared again in `f32`.
    pub fetch: usize,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expansion {}, {} fetched", self.expansion, self.fetch)
    }
}
