//! The service behind the batches, as tower-batch asks for it: one call an item, one call a flush.

use std::convert::Infallible;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use swarm_batcher_contest::Handler;
use tower_batch::BatchControl;
use tower_service::Service;

/// What the callers of a batch read once it is flushed.
type Replies = Arc<OnceLock<Vec<u64>>>;

/// Keeps the items until the flush.
pub(crate) struct Answers {
    handler: Handler,
    items: Vec<u64>,
    replies: Replies,
}

impl Answers {
    pub(crate) fn of(handler: Handler) -> Self {
        Self { handler, items: Vec::new(), replies: Replies::default() }
    }
}

impl Service<BatchControl<u64>> for Answers {
    type Response = u64;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, control: BatchControl<u64>) -> Answer {
        match control {
            BatchControl::Item(item) => {
                let place = self.items.len();
                self.items.push(item);
                Answer::OfItem { replies: Arc::clone(&self.replies), place }
            }
            BatchControl::Flush => {
                let capacity = self.items.capacity();
                let items = mem::replace(&mut self.items, Vec::with_capacity(capacity));
                let (replies, handler) = (mem::take(&mut self.replies), self.handler);
                Answer::OfFlush(Box::pin(async move {
                    let answers = handler.answers(items.into_iter()).await;
                    replies.set(answers).expect("a batch is flushed once");
                }))
            }
        }
    }
}

/// The future of both kinds of call.
pub(crate) enum Answer {
    /// Polled by the caller, after the flush.
    OfItem { replies: Replies, place: usize },
    /// Polled by the worker.
    OfFlush(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Future for Answer {
    type Output = Result<u64, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::OfItem { replies, place } => {
                let replies = replies.get().expect("callers are told after the flush");
                Poll::Ready(Ok(replies[*place]))
            }
            Self::OfFlush(flush) => {
                ready!(flush.as_mut().poll(context));
                Poll::Ready(Ok(0))
            }
        }
    }
}
