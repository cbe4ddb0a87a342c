//! What heartbeats cannot do.

/// Why something about heartbeats was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// An option is outside of its range. Nothing was made.
    #[error("{option} is {found}, and must be {range}")]
    OutOfRange {
        /// The option's name.
        option: &'static str,
        /// What was given.
        found: String,
        /// What it may be.
        range: &'static str,
    },
    /// The detector knows as many nodes as it can tell apart. The heartbeat was not taken in.
    #[error("the detector knows 4294967295 nodes already")]
    TooManyNodes,
    /// The platform does not tell what a process uses.
    #[error("figures of the process are not available on this platform")]
    Unsupported,
    /// The first figures of the process could not be read.
    #[error("figures of the process cannot be read: {0}")]
    Unreadable(#[source] std::io::Error),
    /// The beater needs a runtime to run in.
    #[error("heartbeats need a tokio runtime, and there is none here")]
    NoRuntime,
}

impl HeartbeatError {
    pub(super) fn out_of_range(option: &'static str, found: impl std::fmt::Debug, range: &'static str) -> Self {
        Self::OutOfRange { option, found: format!("{found:?}"), range }
    }
}
