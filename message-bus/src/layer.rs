//! Tower layers: around publishing, since a [`Publisher`] is a service of its messages and a [`Bus`] of those to subjects, and around
//! handlers.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::bus::Bus;
use crate::delivery::Delivery;
use crate::error::{BoxError, HandlerError};
use crate::handler::Handler;
use crate::message::{Event, Message};
use crate::publisher::{PublishError, PublishReport, Publisher};
use crate::raw::RawMessage;

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Publishes what it is called with: [`Publisher::publish`] for tower's layers, at the price of an allocation. It is always ready; a
/// full queue shows in the future. A layer that moves the call to another task also moves it out of the handler that made it: the
/// message then inherits nothing.
impl<M: Event> Service<M> for Publisher<M> {
    type Response = PublishReport;
    type Error = PublishError<M>;
    type Future = BoxFuture<PublishReport, PublishError<M>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: M) -> Self::Future {
        let publisher = self.clone();
        Box::pin(async move { publisher.publish(message).await })
    }
}

/// Publishes to subjects what it is called with: [`Bus::publish_subject`] for tower's layers, as a [`Publisher`] does for a type.
impl Service<RawMessage> for Bus {
    type Response = PublishReport;
    type Error = PublishError<RawMessage>;
    type Future = BoxFuture<PublishReport, PublishError<RawMessage>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: RawMessage) -> Self::Future {
        let bus = self.clone();
        Box::pin(async move { bus.publish_subject(message).await })
    }
}

/// A handler as a service of deliveries: what the layers of [`layered`] go around.
pub struct HandlerService<H>(Arc<H>);

impl<M: Message, H: Handler<M>> Service<Delivery<M>> for HandlerService<H> {
    type Response = ();
    type Error = HandlerError;
    type Future = BoxFuture<(), HandlerError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery<M>) -> Self::Future {
        // It starts when it is polled, which is where the layers have it run.
        let handler = Arc::clone(&self.0);
        Box::pin(async move { handler.handle(delivery).await })
    }
}

impl<H> Clone for HandlerService<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H> fmt::Debug for HandlerService<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandlerService({})", std::any::type_name::<H>())
    }
}

/// A handler with a tower layer around it, or with a whole `ServiceBuilder` of them; for subscriptions of every kind.
///
/// Each delivery gets a clone of the layered service, is made ready and called, so layers keep what they share behind their clones, as
/// tower's do. The error of a layer is a transient failure; a [`HandlerError`] of the handler passes through layers that box errors as
/// what it was. Cost: an allocation or more a delivery, of which handlers without layers know nothing.
pub fn layered<M, H, L>(layer: L, handler: H) -> impl Handler<M>
where
    M: Message,
    H: Handler<M>,
    L: Layer<HandlerService<H>>,
    L::Service: Service<Delivery<M>, Response = ()> + Clone + Send + Sync + 'static,
    <L::Service as Service<Delivery<M>>>::Error: Into<BoxError>,
    <L::Service as Service<Delivery<M>>>::Future: Send + 'static,
{
    Layered(layer.layer(HandlerService(Arc::new(handler))))
}

struct Layered<S>(S);

impl<M, S> Handler<M> for Layered<S>
where
    M: Message,
    S: Service<Delivery<M>, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    fn handle(&self, delivery: Delivery<M>) -> impl Future<Output = Result<(), HandlerError>> + Send + 'static {
        let mut service = self.0.clone();
        async move {
            let handled = async {
                poll_fn(|context| service.poll_ready(context)).await?;
                service.call(delivery).await
            };
            handled.await.map_err(|error: S::Error| HandlerError::from_boxed(error.into()))
        }
    }
}
