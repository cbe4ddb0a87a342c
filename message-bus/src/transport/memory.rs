//! The bus as the transport in one process.

use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::{mpsc, oneshot};

use crate::bus::Bus;
use crate::delivery::Delivery;
use crate::error::HandlerError;
use crate::metadata::Metadata;
use crate::publisher::PublishError;
use crate::raw::RawMessage;
use crate::subscription::{SubscribeError, Subscription};
use crate::transport::{
    Capabilities, Durability, Inbound, OutboundMessage, PublishAck, SubscriptionSpec, Transport, TransportError,
};

#[derive(Debug)]
enum Answer {
    Ack,
    Nak,
    Term(String),
}

/// A message of the bus that waits for an answer; a worker of its subscription's queue waits with it.
#[derive(Debug)]
pub struct MemoryInbound {
    delivery: Delivery<RawMessage>,
    answer: oneshot::Sender<Answer>,
}

impl Deref for MemoryInbound {
    type Target = RawMessage;

    fn deref(&self) -> &RawMessage {
        &self.delivery
    }
}

impl MemoryInbound {
    fn answer(self, answer: Answer) -> Result<(), TransportError> {
        self.answer.send(answer).map_err(|_| TransportError::Closed)
    }
}

impl Inbound for MemoryInbound {
    fn metadata(&self) -> &Metadata {
        self.delivery.metadata()
    }

    fn attempt(&self) -> u32 {
        self.delivery.attempt()
    }

    async fn ack(self) -> Result<(), TransportError> {
        self.answer(Answer::Ack)
    }

    async fn nak(self) -> Result<(), TransportError> {
        self.answer(Answer::Nak)
    }

    async fn term(self, reason: &str) -> Result<(), TransportError> {
        self.answer(Answer::Term(reason.to_owned()))
    }
}

/// What comes to a subscription of the bus.
#[derive(Debug)]
pub struct MemorySubscription {
    inbound: mpsc::Receiver<MemoryInbound>,
    _subscription: Subscription,
}

impl Stream for MemorySubscription {
    type Item = MemoryInbound;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<MemoryInbound>> {
        self.inbound.poll_recv(context)
    }
}

/// A bus as the transport in one process.
#[derive(Clone, Debug)]
pub struct MemoryTransport(Bus);

impl MemoryTransport {
    /// Carries messages over the subjects of this bus.
    pub fn new(bus: Bus) -> Self {
        Self(bus)
    }
}

/// Nothing outlives the process, and nothing its subscription: a message in hand that was not acknowledged when that ends is a dead
/// letter, or is abandoned, with what had not come yet, if a retry policy would have it come again. Both are counted.
impl Transport for MemoryTransport {
    type Inbound = MemoryInbound;
    type Subscription = MemorySubscription;

    fn capabilities(&self) -> Capabilities {
        Capabilities { durability: Durability::None, deduplicates: false, groups: true, resumes: false }
    }

    async fn publish(&self, messages: Vec<OutboundMessage>) -> Vec<Result<PublishAck, TransportError>> {
        let mut acks = Vec::with_capacity(messages.len());
        for OutboundMessage { metadata, message } in messages {
            let id = metadata.id;
            acks.push(match self.0.publish_subject_with(metadata, message).await {
                // What handlers make of an accepted message is not the transport's business.
                Ok(_) | Err(PublishError::HandlersFailed(_)) => Ok(PublishAck { id, duplicate: false }),
                Err(PublishError::Closed(_)) => Err(TransportError::Closed),
                Err(error) => Err(TransportError::Refused(error.to_string().into())),
            });
        }
        acks
    }

    async fn subscribe(&self, spec: SubscriptionSpec) -> Result<MemorySubscription, TransportError> {
        if spec.durability > Durability::None {
            return Err(TransportError::Unsupported("messages in memory outlive no process"));
        }
        let (sender, inbound) = mpsc::channel(spec.window.max(1));
        let handler = move |delivery: Delivery<RawMessage>| {
            let sender = sender.clone();
            async move {
                let (answer, answered) = oneshot::channel();
                // If nobody takes it, it is dropped, and with it the answer.
                drop(sender.send(MemoryInbound { delivery, answer }).await);
                match answered.await {
                    Ok(Answer::Ack) => Ok(()),
                    Ok(Answer::Term(reason)) => Err(HandlerError::permanent(reason)),
                    Ok(Answer::Nak) | Err(_) => Err(HandlerError::transient("not acknowledged")),
                }
            }
        };
        let subscription = self.0.subject_subscription(&spec.pattern).map_err(refused)?.name(&spec.name);
        let mut queue = subscription.queue(spec.capacity).concurrency(spec.window);
        if let Some(group) = &spec.group {
            queue = queue.group(group);
        }
        if let Some(retry) = spec.retry {
            queue = queue.retry(retry);
        }
        let subscription = queue.run(handler).map_err(refused)?;
        Ok(MemorySubscription { inbound, _subscription: subscription })
    }
}

fn refused(error: SubscribeError) -> TransportError {
    match error {
        SubscribeError::Closed => TransportError::Closed,
        error => TransportError::Refused(error.into()),
    }
}
