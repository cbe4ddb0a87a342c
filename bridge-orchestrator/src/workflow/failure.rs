//! Failures of steps and workflows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::workflow::ExecutionId;

/// Bytes of a message that are kept.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// A failure as it stands in a journal; of a message of more than 64 KiB its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind it is.
    pub code: ErrorCode,
    /// What happened, for people.
    pub message: String,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
            message.push('…');
        }
        Self { code, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// Why an attempt of a step failed. Any error becomes a retryable one by `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    pub(crate) failure: Failure,
    pub(crate) is_retryable: bool,
}

impl StepError {
    /// It may go better the next time.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self { failure: Failure::new(ErrorCode::OperationFailed, message), is_retryable: true }
    }

    /// It will never go better: the step fails at once.
    #[must_use]
    pub fn terminal(message: impl Into<String>) -> Self {
        Self { failure: Failure::new(ErrorCode::OperationFailed, message), is_retryable: false }
    }

    /// The same with a kind.
    #[must_use]
    pub fn code(mut self, code: ErrorCode) -> Self {
        self.failure.code = code;
        self
    }
}

impl<E: std::error::Error> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::retryable(error.to_string())
    }
}

/// Why something that a workflow awaits failed, and what a workflow fails with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkflowError {
    /// A step failed for good: it is not retryable, or its attempts are used up.
    #[error("step {step} failed: {failure}")]
    Step {
        /// Its name.
        step: String,
        /// What its last attempt failed with.
        failure: Failure,
    },
    /// A child workflow did not complete.
    #[error("child {child} failed: {failure}")]
    Child {
        /// Its id.
        child: ExecutionId,
        /// What it failed with.
        failure: Failure,
    },
    /// The execution is being cancelled, and what was awaited is not inside of [`Ctx::shield`](crate::Ctx::shield).
    #[error("cancelled")]
    Cancelled,
    /// A value could not be decoded as what the workflow takes it for.
    #[error("{what}: {reason}")]
    Codec {
        /// What it is.
        what: String,
        /// Why.
        reason: String,
    },
    /// What the workflow says itself.
    #[error("{0}")]
    Failed(Failure),
    /// Not a failure: the execution goes on with another input. Made by [`Ctx::continue_as_new`](crate::Ctx::continue_as_new) alone.
    #[error("continued as new")]
    ContinueAsNew(ContinueAsNew),
}

/// The input that an execution goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContinueAsNew(pub(crate) bytes::Bytes);

impl WorkflowError {
    /// A failure of the workflow's own, of kind [`ErrorCode::OperationFailed`].
    #[must_use]
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::Failed(Failure::new(ErrorCode::OperationFailed, message.to_string()))
    }

    /// A failure of the workflow's own, of kind [`ErrorCode::ValidationError`].
    #[must_use]
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::Failed(Failure::new(ErrorCode::ValidationError, message.to_string()))
    }

    /// What a journal says of it.
    pub(crate) fn to_failure(&self) -> Failure {
        let code = match self {
            Self::Step { failure, .. } | Self::Child { failure, .. } | Self::Failed(failure) => failure.code,
            Self::Cancelled => ErrorCode::Cancelled,
            Self::Codec { .. } => ErrorCode::ValidationError,
            Self::ContinueAsNew(_) => ErrorCode::StateError,
        };
        let message = match self {
            Self::Failed(failure) => failure.message.clone(),
            other => other.to_string(),
        };
        Failure::new(code, message)
    }
}
