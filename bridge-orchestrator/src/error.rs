//! What can go wrong, and whether anything happened.

use std::fmt;

use event_store::{AppendError, ReadError};

use crate::workflow::ExecutionId;

/// What kind of failure it is, as users of the original know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum ErrorCode {
    /// What was given is not valid.
    ValidationError,
    /// It was tried, and it failed.
    OperationFailed,
    /// The state does not allow it.
    StateError,
    /// There is no room for it now.
    ResourceError,
    /// Something else could not be reached.
    ConnectionError,
    /// It took too long.
    Timeout,
    /// A workflow function does not do what its journal says it did.
    NonDeterminism,
    /// Another process owns the execution by now.
    Fenced,
    /// Someone else was first.
    Conflict,
    /// It was cancelled.
    Cancelled,
    /// A value is larger than a journal takes.
    PayloadTooLarge,
    /// This engine cannot do it.
    Unsupported,
}

impl ErrorCode {
    /// The code as text: `VALIDATION_ERROR` and so on.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValidationError => "VALIDATION_ERROR",
            Self::OperationFailed => "OPERATION_FAILED",
            Self::StateError => "STATE_ERROR",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::ConnectionError => "CONNECTION_ERROR",
            Self::Timeout => "TIMEOUT",
            Self::NonDeterminism => "NON_DETERMINISM",
            Self::Fenced => "FENCED",
            Self::Conflict => "CONFLICT",
            Self::Cancelled => "CANCELLED",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::Unsupported => "UNSUPPORTED",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether a call that failed has done anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nothing was applied.
    NotApplied,
    /// It may have been applied. The same call again tells.
    Unknown,
}

/// Why a call to an engine failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is an execution of this id. Nothing was applied.
    #[error("an execution {0} exists already")]
    AlreadyExists(ExecutionId),
    /// There is no execution of this id that is not finished. Nothing was applied.
    #[error("there is no execution {0}")]
    NotFound(ExecutionId),
    /// Another process has the execution in hand, and it alone can tell. Nothing was applied.
    #[error("another process has execution {0} in hand")]
    Elsewhere(ExecutionId),
    /// The leases of the processes that share the store could not be made or read. Nothing was applied.
    #[error("the leases: {0}")]
    Leases(String),
    /// The execution is parked: it takes nothing but [`Client::retry`](crate::Client::retry) and [`Client::terminate`](crate::Client::terminate).
    /// Nothing was applied.
    #[error("execution {0} is parked")]
    Parked(ExecutionId),
    /// The execution is not parked. Nothing was applied.
    #[error("execution {0} is not parked")]
    NotParked(ExecutionId),
    /// An id, a name or an option that is not valid. Nothing was applied.
    #[error("{0}")]
    Invalid(String),
    /// The engine has no workflow of this type and version. Nothing was applied.
    #[error("no workflow {workflow} of version {version} is registered")]
    Unregistered {
        /// Its type.
        workflow: String,
        /// Its version.
        version: u32,
    },
    /// Two workflows of one type and version.
    #[error("workflow {workflow} of version {version} is registered twice")]
    RegisteredTwice {
        /// Its type.
        workflow: String,
        /// Its version.
        version: u32,
    },
    /// A value could not be encoded or decoded. Nothing was applied.
    #[error("{what}: {reason}")]
    Codec {
        /// What it is.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A value of more bytes than a journal takes. Nothing was applied.
    #[error("{bytes} bytes are more than the {limit} that a journal takes")]
    PayloadTooLarge {
        /// What it has.
        bytes: usize,
        /// What there may be.
        limit: usize,
    },
    /// A bound is reached: there are more unread signals, or more executions, than may be. Nothing was applied.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// The engine is shut down. Nothing was applied, except possibly for what was under way.
    #[error("the engine is shut down")]
    ShutDown,
    /// The store took nothing.
    #[error("the journal: {0}")]
    Append(AppendError),
    /// The store could not be read. Nothing was applied.
    #[error("the journal: {0}")]
    Read(ReadError),
    /// What a journal holds is not what this crate writes.
    #[error("the journal of {execution}, version {version}: {reason}")]
    Malformed {
        /// Whose journal.
        execution: String,
        /// Which event of its stream.
        version: u64,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// What kind of failure it is.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::AlreadyExists(_) => ErrorCode::Conflict,
            Self::NotFound(_)
            | Self::Parked(_)
            | Self::NotParked(_)
            | Self::Elsewhere(_)
            | Self::ShutDown
            | Self::Malformed { .. } => ErrorCode::StateError,
            Self::Invalid(_) | Self::Unregistered { .. } | Self::RegisteredTwice { .. } | Self::Codec { .. } => {
                ErrorCode::ValidationError
            }
            Self::PayloadTooLarge { .. } => ErrorCode::PayloadTooLarge,
            Self::Busy(_) => ErrorCode::ResourceError,
            Self::Append(_) | Self::Read(_) | Self::Leases(_) => ErrorCode::ConnectionError,
        }
    }

    /// Whether anything was applied.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::ShutDown => Outcome::Unknown,
            Self::Append(error) if !error.is_definite() => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}
