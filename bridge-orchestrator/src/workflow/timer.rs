//! Durable sleep.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::WorkflowError;
use super::wait::{Wait, no_value};

/// A sleep that goes on after a crash. Made by [`Ctx::sleep`](crate::Ctx::sleep) and [`Ctx::sleep_until`](crate::Ctx::sleep_until).
///
/// # Errors
/// [`WorkflowError::Cancelled`].
#[must_use = "a timer does nothing until it is awaited"]
#[derive(Debug)]
pub struct Timer<'a> {
    pub(super) wait: Wait<'a>,
}

impl Future for Timer<'_> {
    type Output = Result<(), WorkflowError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(self.wait.poll(cx)).map(|_| ()).map_err(no_value))
    }
}
