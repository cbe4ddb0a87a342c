//! Handles of executions.

use std::marker::PhantomData;
use std::sync::Arc;

use super::client::WorkflowState;
use super::execution::{Execution, Parked, Standing};
use crate::error::{Error, ErrorCode};
use crate::workflow::{ExecutionId, Failure, Workflow};

/// An execution of `W`, to wait for its end. A clone is the same.
pub struct Handle<W> {
    execution: Arc<Execution>,
    workflow: PhantomData<fn() -> W>,
}

impl<W> Clone for Handle<W> {
    fn clone(&self) -> Self {
        Self { execution: Arc::clone(&self.execution), workflow: PhantomData }
    }
}

impl<W> std::fmt::Debug for Handle<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handle").field(self.execution.id()).finish()
    }
}

/// Why an execution has no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// It has failed, or was cancelled.
    #[error("{0}")]
    Failed(Failure),
    /// It waits for a person.
    #[error("parked: {0}")]
    Parked(Parked),
    /// This engine has let it go; it goes on elsewhere or later.
    #[error("the execution is not in this engine's hands any more")]
    Released,
    /// There is no such execution, or it could not be read.
    #[error(transparent)]
    Engine(Error),
    /// What it completed with is not what the workflow says.
    #[error("the output: {0}")]
    Codec(String),
}

impl<W: Workflow> Handle<W> {
    pub(super) fn new(execution: Arc<Execution>) -> Self {
        Self { execution, workflow: PhantomData }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &ExecutionId {
        self.execution.id()
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> WorkflowState {
        state_of(&self.execution, &self.execution.standing())
    }

    /// Waits for its end, without polling.
    ///
    /// # Errors
    /// [`HandleError`].
    pub async fn result(&self) -> Result<W::Output, HandleError> {
        let outcome = self.execution.when(|standing| match standing {
            Standing::Starting | Standing::Running | Standing::Elsewhere => None,
            Standing::Parked(why) => Some(Err(HandleError::Parked(why.clone()))),
            Standing::Ended(Ok(output)) => Some(Ok(output.clone())),
            Standing::Ended(Err(failure)) => Some(Err(HandleError::Failed(failure.clone()))),
            Standing::Refused(error) => Some(Err(HandleError::Engine(error.clone()))),
            Standing::Released => Some(Err(HandleError::Released)),
        });
        let output = outcome.await?;
        serde_json::from_slice(&output).map_err(|error| HandleError::Codec(error.to_string()))
    }
}

pub(super) fn state_of(execution: &Execution, standing: &Standing) -> WorkflowState {
    match standing {
        Standing::Starting | Standing::Refused(_) => WorkflowState::Pending,
        Standing::Running | Standing::Released if execution.slots().is_compensating() => WorkflowState::Compensating,
        Standing::Running | Standing::Elsewhere | Standing::Released => WorkflowState::Processing,
        Standing::Parked(_) => WorkflowState::Parked,
        Standing::Ended(Ok(_)) => WorkflowState::Completed,
        Standing::Ended(Err(failure)) if failure.code == ErrorCode::Cancelled => WorkflowState::Cancelled,
        Standing::Ended(Err(_)) => WorkflowState::Failed,
    }
}
