//! Why a reducer is not made, or does not take items.

/// Options that make no reducer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// A window, slide or gap is shorter than a microsecond, or longer than [`MAX_WINDOW`](super::MAX_WINDOW).
    #[error("a {what} of {micros} us: 1 us to 100 years are possible")]
    Duration {
        /// `window`, `slide`, `gap` or `lateness`.
        what: &'static str,
        /// Its length in microseconds.
        micros: u128,
    },
    /// A count window or an early trigger of no items.
    #[error("a {0} of no items")]
    NoItems(&'static str),
    /// A sliding window that is shorter than its slide would leave items out.
    #[error("a window that is shorter than its slide leaves items out")]
    SlideBeyondSize,
    /// Sliding windows share their slices, so none of them can be emptied, or fired early, on its own.
    #[error("sliding windows share their slices: they accumulate, and have no early trigger")]
    Shared,
    /// Bounds of size buckets that do not ascend.
    #[error("the bounds of size buckets must ascend")]
    Buckets,
}

/// Items were not taken. None of the call counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReduceError {
    /// The caller's function for keys panicked.
    #[error("the function that groups items panicked at item {index}")]
    GroupByPanicked {
        /// Which item of the call.
        index: usize,
    },
    /// A state that the machine does not have.
    #[error("the machine has no state {0:?}")]
    UnknownState(String),
    /// What another reducer holds cannot be added.
    #[error("not mergeable: {0}")]
    NotMergeable(&'static str),
}
