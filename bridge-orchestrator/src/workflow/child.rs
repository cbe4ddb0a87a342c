//! Children: executions that a workflow starts and awaits.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::wait::{Wait, value};
use super::{ExecutionId, Workflow, WorkflowError};
use crate::engine::NoValue;

/// A child's end. Made by [`Ctx::child`](crate::Ctx::child).
///
/// # Errors
/// [`WorkflowError::Child`] if it did not complete or could not be started, [`WorkflowError::Cancelled`].
///
/// # Cancellation
/// Dropped, the child goes on by itself. When the parent is cancelled, so is the child, unless it is awaited inside of a shield.
#[must_use = "a child is not started until it is awaited"]
#[derive(Debug)]
pub struct Child<'a, W: Workflow> {
    pub(super) wait: Wait<'a>,
    pub(super) id: ExecutionId,
    pub(super) workflow: PhantomData<fn() -> W>,
}

impl<W: Workflow> Future for Child<'_, W> {
    type Output = Result<W::Output, WorkflowError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.wait.poll(cx)) {
            Ok(json) => value(&json, || format!("what child {} completed with", self.id)),
            Err(NoValue::Cancelled) => Err(WorkflowError::Cancelled),
            Err(NoValue::Failed(failure)) => Err(WorkflowError::Child { child: self.id.clone(), failure }),
        })
    }
}
