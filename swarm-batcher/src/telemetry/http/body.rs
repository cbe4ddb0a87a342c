//! The body of one attempt.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Bytes that tell when a connection took them: until then the server cannot have got the whole request.
pub(super) struct AttemptBody {
    bytes: Bytes,
    taken: Arc<AtomicBool>,
}

/// Whether the connection took the body of an attempt.
pub(super) struct Taken(Arc<AtomicBool>);

impl AttemptBody {
    pub(super) fn new(bytes: Bytes) -> (Self, Taken) {
        // No connection asks for an empty body: it counts as taken from the start.
        let taken = Arc::new(AtomicBool::new(bytes.is_empty()));
        (Self { bytes, taken: Arc::clone(&taken) }, Taken(taken))
    }
}

impl Taken {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        self.taken.store(true, Ordering::Release);
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
