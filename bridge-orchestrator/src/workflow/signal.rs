//! Signals: what others tell an execution.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::de::DeserializeOwned;

use super::WorkflowError;
use super::wait::{Wait, no_value, value};

/// The next signal of a name. Made by [`Ctx::signal`](crate::Ctx::signal).
///
/// # Errors
/// [`WorkflowError::Cancelled`]; [`WorkflowError::Codec`] if what was sent is not what is expected.
///
/// # Cancellation
/// Dropped before its answer was taken, the signal is there for the next one.
#[must_use = "a signal is not waited for until it is awaited"]
#[derive(Debug)]
pub struct SignalFuture<'a, T> {
    pub(super) wait: Wait<'a>,
    pub(super) name: String,
    pub(super) value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Future for SignalFuture<'_, T> {
    type Output = Result<T, WorkflowError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.wait.poll(cx)) {
            Ok(json) => value(&json, || format!("the signal {}", self.name)),
            Err(failure) => Err(no_value(failure)),
        })
    }
}
