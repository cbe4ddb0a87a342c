//! What all that a workflow awaits has in common.

use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use super::WorkflowError;
use crate::engine::{Answer, Execution, Kind, NoValue, Start};

/// One thing that is awaited. Dropped, it is awaited no longer, and what was begun for it is given up.
pub(crate) struct Wait<'a> {
    execution: &'a Execution,
    seq: u32,
    start: Start,
}

impl std::fmt::Debug for Wait<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wait").field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl<'a> Wait<'a> {
    /// It has its number now, so that the order in which things are made counts; it begins when it is polled.
    pub(crate) fn new(execution: &'a Execution, kind: Kind, start: Start) -> Self {
        Self { execution, seq: execution.slots().reserve(kind), start }
    }

    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Answer> {
        self.execution.slots().poll(self.seq, cx, &mut self.start)
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waker = self.execution.slots().abandon(self.seq);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The value that an answer is.
pub(crate) fn value<T: DeserializeOwned>(json: &[u8], what: impl FnOnce() -> String) -> Result<T, WorkflowError> {
    serde_json::from_slice(json).map_err(|error| WorkflowError::Codec { what: what(), reason: error.to_string() })
}

/// Why something else than a step or a child has no value.
pub(crate) fn no_value(reason: NoValue) -> WorkflowError {
    match reason {
        NoValue::Failed(failure) => WorkflowError::Failed(failure),
        NoValue::Cancelled => WorkflowError::Cancelled,
    }
}
