//! What cannot be built.

/// Why a part of the routing cannot be built as asked. Nothing was made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// A balancer needs an endpoint, and can tell 2³² − 1 apart.
    #[error("a balancer has 1 to 4294967295 endpoints, not {found}")]
    Endpoints {
        /// How many were given.
        found: usize,
    },
    /// An option is outside of its range.
    #[error("{option} is {found}, and must be {range}")]
    OutOfRange {
        /// The option's name.
        option: &'static str,
        /// What was given.
        found: String,
        /// What it may be.
        range: &'static str,
    },
}

impl RouteError {
    pub(super) fn out_of_range(option: &'static str, found: impl std::fmt::Debug, range: &'static str) -> Self {
        Self::OutOfRange { option, found: format!("{found:?}"), range }
    }
}
