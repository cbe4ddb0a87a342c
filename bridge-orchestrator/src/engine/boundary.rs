//! Where a process may die.

use std::sync::Arc;

#[cfg_attr(not(feature = "testkit"), expect(unreachable_pub, reason = "tests name it"))]
/// A moment at which a journal is about to grow, or has grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Boundary {
    /// What is to be appended is known, and not sent.
    BeforeAppend,
    /// The append has its answer, or the transaction that holds it is committed or rolled back; nobody has acted on it.
    AfterAppend,
}

/// Called at each boundary, on the task of the execution.
#[derive(Clone)]
pub(super) struct AtBoundaries(pub(super) Arc<dyn Fn(Boundary) + Send + Sync>);

impl std::fmt::Debug for AtBoundaries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AtBoundaries")
    }
}
