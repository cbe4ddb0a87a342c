//! What users write: functions of a message.

use std::future::Future;
use std::sync::Arc;

use tokio_util::sync::ReusableBoxFuture;

use crate::delivery::{Carrier, Delivery};
use crate::error::HandlerError;
use crate::message::Message;

/// An asynchronous handler. Every `Fn(Delivery<M>) -> impl Future<Output = impl Outcome> + Send` is one.
pub trait Handler<M: Message>: Send + Sync + 'static {
    /// Handles a message.
    fn handle(&self, delivery: Delivery<M>) -> impl Future<Output = Result<(), HandlerError>> + Send + 'static;
}

impl<M, F, Fut> Handler<M> for F
where
    M: Message,
    F: Fn(Delivery<M>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Outcome> + Send + 'static,
{
    fn handle(&self, delivery: Delivery<M>) -> impl Future<Output = Result<(), HandlerError>> + Send + 'static {
        let handling = self(delivery);
        async move { handling.await.into_result() }
    }
}

/// What a handler may return: nothing, or a result whose error is a [`HandlerError`] or becomes one.
pub trait Outcome {
    /// As a result.
    ///
    /// # Errors
    /// The handler's own.
    fn into_result(self) -> Result<(), HandlerError>;
}

impl Outcome for () {
    #[inline]
    fn into_result(self) -> Result<(), HandlerError> {
        Ok(())
    }
}

impl<E: Into<HandlerError>> Outcome for Result<(), E> {
    #[inline]
    fn into_result(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}

/// A future of a handler, in memory that is used again.
pub(crate) type Pending = ReusableBoxFuture<'static, Result<(), HandlerError>>;

/// A [`Handler`] whose type is forgotten.
pub(crate) trait Invoke<M>: Send + Sync {
    /// Starts the handler with a message in the memory of `pending`, or, without one, only drops what is there.
    fn start(&self, pending: &mut Option<Pending>, carrier: Option<Arc<Carrier<M>>>);
}

pub(crate) struct Invoker<H>(pub(crate) Arc<H>);

impl<M: Message, H: Handler<M>> Invoke<M> for Invoker<H> {
    fn start(&self, pending: &mut Option<Pending>, carrier: Option<Arc<Carrier<M>>>) {
        // One type for both, so that the memory fits.
        let call = carrier.map(|carrier| (Arc::clone(&self.0), Delivery::new(carrier, 1)));
        let future = async move {
            match call {
                Some((handler, delivery)) => handler.handle(delivery).await,
                None => Ok(()),
            }
        };
        match pending {
            Some(pending) => pending.set(future),
            None => *pending = Some(ReusableBoxFuture::new(future)),
        }
    }
}
