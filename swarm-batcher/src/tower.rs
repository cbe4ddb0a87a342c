//! A batcher as a `tower::Service`: layers for timeouts, limits or tracing go around it.

use std::task::{Context, Poll};

use tower_service::Service;

use crate::batcher::Batcher;
use crate::call::Receipt;
use crate::error::{BatchError, Rejected};

/// The future of [`Batcher`] as a service: a receipt, or why the item was not taken.
#[derive(Debug)]
#[must_use = "dropping a response cancels its item"]
pub struct Response<I, O, E>(Result<Receipt<I, O, E>, BatchError<E>>);

impl<I, O, E> Unpin for Response<I, O, E> {}

impl<I, O, E> Future for Response<I, O, E> {
    type Output = Result<O, BatchError<E>>;

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            Ok(receipt) => std::pin::Pin::new(receipt).poll(context),
            Err(error) => Poll::Ready(Err(std::mem::replace(error, BatchError::Closed { started: false }))),
        }
    }
}

/// A request is an item, submitted when `call` is called; it is always ready. When the queue is full the response is
/// [`Rejected`](BatchError::Rejected): put `tower`'s concurrency limit in front to wait instead.
impl<I, O, E> Service<I> for Batcher<I, O, E> {
    type Response = O;
    type Error = BatchError<E>;
    type Future = Response<I, O, E>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, item: I) -> Self::Future {
        Response(self.submit(item).map_err(|Rejected { reason, .. }| BatchError::Rejected(reason)))
    }
}
