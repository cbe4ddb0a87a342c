//! The future of a barrier.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::is_inside;
use crate::error::Reason;
use crate::shared::Shared;
use crate::state::{Aftermath, FlushReport};

/// Made by [`Batcher::flush`](crate::Batcher::flush). Dropping it changes nothing for the items that it waits for.
#[must_use = "a flush does nothing unless it is awaited"]
pub struct Flush<'a, I, O, E> {
    shared: &'a Arc<Shared<I, O, E>>,
    number: Option<u64>,
}

impl<I, O, E> fmt::Debug for Flush<'_, I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flush").finish_non_exhaustive()
    }
}

impl<'a, I, O, E> Flush<'a, I, O, E> {
    pub(crate) fn new(shared: &'a Arc<Shared<I, O, E>>) -> Self {
        Self { shared, number: None }
    }
}

impl<I, O, E> Future for Flush<'_, I, O, E> {
    type Output = Result<FlushReport, Reason>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if is_inside(this.shared) {
            return Poll::Ready(Err(Reason::Reentrant));
        }
        let mut after = Aftermath::new();
        let mut state = this.shared.lock();
        let poll = match this.number {
            None => match state.flush(&this.shared.options, context.waker(), &mut after) {
                Ok(number) => {
                    this.number = Some(number);
                    Poll::Pending
                }
                Err(report) => Poll::Ready(Ok(report)),
            },
            Some(number) => {
                let (report, old) = state.epochs().poll_flush(number, context.waker());
                after.drop_waker(old);
                if report.is_some() {
                    this.number = None;
                }
                report.map_or(Poll::Pending, |report| Poll::Ready(Ok(report)))
            }
        };
        drop(state);
        this.shared.settle(after);
        poll
    }
}

impl<I, O, E> Drop for Flush<'_, I, O, E> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker = self.shared.lock().epochs().forget_flush(number);
            drop(waker);
        }
    }
}
