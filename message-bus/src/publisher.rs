//! Publishing.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::Guard;

use crate::delivery::Carrier;
use crate::dispatch::{call_asynchronous, call_synchronous};
use crate::error::Failure;
use crate::message::Event;
use crate::metadata::{Current, Metadata, Rooted, Running, inherited};
use crate::ring::{self, Permit, Refused};
use crate::topic::{Handlers, Topic};

/// When a publish is an error although it reached its handlers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailurePolicy {
    /// When every handler that was called failed, and there was one, and no queue took the message.
    #[default]
    AllFailed,
    /// When a handler failed; all are called.
    AnyFailed,
    /// Never: the report tells.
    Collect,
    /// When a handler failed; those that have not finished are dropped, those after it are not called. Queues still get the message.
    FailFast,
}

/// What a publish has done.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct PublishReport {
    /// Handlers that the publish called itself.
    pub called: usize,
    /// Those of them that failed, and why.
    pub failures: Vec<Failure>,
    /// Subscriptions with a queue, which have yet to handle the message.
    pub queued: usize,
}

impl PublishReport {
    /// Handlers that have done their work.
    pub fn succeeded(&self) -> usize {
        self.called - self.failures.len()
    }

    fn is_error(&self, policy: FailurePolicy) -> bool {
        match policy {
            FailurePolicy::AllFailed => self.called > 0 && self.succeeded() == 0 && self.queued == 0,
            FailurePolicy::AnyFailed | FailurePolicy::FailFast => !self.failures.is_empty(),
            FailurePolicy::Collect => false,
        }
    }
}

impl fmt::Display for PublishReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} handlers failed", self.failures.len(), self.called)?;
        for (index, failure) in self.failures.iter().enumerate() {
            write!(f, "{} {failure}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

/// Why a publish was refused, with the message, or what its handlers have done.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PublishError<M> {
    /// Handlers failed, and by the bus's [`FailurePolicy`] that is an error. The others have done their work.
    #[error("{0}")]
    HandlersFailed(PublishReport),
    /// A queue is full and its subscription lets nobody wait. Nobody got the message.
    #[error("a queue is full")]
    Full(M),
    /// A queue stayed full for as long as its subscription lets a publisher wait. Nobody got the message.
    #[error("a queue stayed full")]
    Timeout(M),
    /// A queue is full, and the publisher is the handler that would have to empty it. Nobody got the message.
    #[error("a queue is full, and its own handler would wait for it")]
    WouldDeadlock(M),
    /// The bus is shut down. Nobody got the message.
    #[error("the bus is shut down")]
    Closed(M),
    /// From [`Publisher::try_publish`] alone: a handler is asynchronous and has to be awaited. Nobody got the message.
    #[error("a handler is asynchronous: the publish has to be awaited")]
    NeedsAwait(M),
}

impl<M> PublishError<M> {
    /// The message, unless handlers got it.
    pub fn into_message(self) -> Option<M> {
        match self {
            Self::HandlersFailed(_) => None,
            Self::Full(message)
            | Self::Timeout(message)
            | Self::WouldDeadlock(message)
            | Self::Closed(message)
            | Self::NeedsAwait(message) => Some(message),
        }
    }

    fn refused(reason: Refused, message: M) -> Self {
        match reason {
            Refused::Closed => Self::Closed(message),
            Refused::Timeout => Self::Timeout(message),
            Refused::Full | Refused::TooLarge => Self::Full(message),
        }
    }
}

impl<M> fmt::Debug for PublishError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandlersFailed(report) => f.debug_tuple("HandlersFailed").field(report).finish(),
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Timeout(_) => f.write_str("Timeout(..)"),
            Self::WouldDeadlock(_) => f.write_str("WouldDeadlock(..)"),
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::NeedsAwait(_) => f.write_str("NeedsAwait(..)"),
        }
    }
}

/// Publishes messages of one type: what [`Bus::publish`](crate::Bus::publish) looks up every time is held here.
pub struct Publisher<M> {
    topic: Arc<Topic<M>>,
    policy: FailurePolicy,
}

impl<M: Event> Publisher<M> {
    pub(crate) fn new(topic: Arc<Topic<M>>, policy: FailurePolicy) -> Self {
        Self { topic, policy }
    }

    /// Publishes a message: reserves room in the queues, calls the inline handlers and waits for them, then hands the message to the
    /// queues.
    ///
    /// The handlers are those of one moment at the start: what subscribes meanwhile gets the next message. Synchronous ones are
    /// called first, in the order of subscription, asynchronous ones then at once, in the caller's own task. With no subscription
    /// at all the publish succeeds.
    ///
    /// # Cancellation
    /// Dropped while it waits for room, it has done nothing. Dropped while handlers run, it drops those that have not finished, and
    /// the queues do not get the message.
    ///
    /// # Errors
    /// [`PublishError`].
    #[inline]
    pub fn publish(&self, message: M) -> impl Future<Output = Result<PublishReport, PublishError<M>>> + Send + '_ {
        publish(&self.topic, self.policy, message)
    }

    /// Publishes a message without waiting for anything: synchronous handlers are called, queues that have room get it.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::NeedsAwait`] while an inline handler is asynchronous.
    pub fn try_publish(&self, message: M) -> Result<PublishReport, PublishError<M>> {
        let topic = &*self.topic;
        if topic.closed.load(Ordering::Acquire) {
            return Err(PublishError::Closed(message));
        }
        let handlers = topic.handlers.load();
        if handlers.asynchronous > 0 {
            return Err(PublishError::NeedsAwait(message));
        }
        if handlers.queued == 0 {
            return publish_on_the_stack(&handlers, self.policy, message);
        }
        let Some(ring) = topic.ring.get() else { return Err(PublishError::Closed(message)) };
        let (metadata, draining) = inherited();
        let mut permit = match ring.try_reserve(1) {
            Ok(permit) => permit,
            Err(reason) => return Err(PublishError::refused(reason, message)),
        };
        let mut report = PublishReport::default();
        let (message, metadata) = synchronous(&handlers, self.policy, message, metadata, draining, &mut report);
        let carrier = topic.carry(message, metadata);
        finish(topic, &mut permit, carrier, handlers.queued, report, self.policy)
    }
}

impl<M> Clone for Publisher<M> {
    fn clone(&self) -> Self {
        Self { topic: Arc::clone(&self.topic), policy: self.policy }
    }
}

impl<M> fmt::Debug for Publisher<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("topic", &self.topic).field("policy", &self.policy).finish()
    }
}

#[inline]
pub(crate) async fn publish<M: Event>(
    topic: &Topic<M>,
    policy: FailurePolicy,
    message: M,
) -> Result<PublishReport, PublishError<M>> {
    if topic.closed.load(Ordering::Acquire) {
        return Err(PublishError::Closed(message));
    }
    let handlers = topic.handlers.load();
    if handlers.are_all_synchronous() {
        return publish_on_the_stack(&handlers, policy, message);
    }
    let handlers = Guard::into_inner(handlers);
    publish_carried(topic, &handlers, policy, message).await
}

#[inline]
fn publish_on_the_stack<M>(
    handlers: &Handlers<M>,
    policy: FailurePolicy,
    message: M,
) -> Result<PublishReport, PublishError<M>> {
    let mut report = PublishReport::default();
    if let Some(_in_here) = Rooted::enter() {
        report.called = call_synchronous(&handlers.inline, &message, policy, &mut report.failures);
    } else {
        let (metadata, draining) = inherited();
        synchronous(handlers, policy, message, metadata, draining, &mut report);
    }
    judged(report, policy)
}

/// Calls the synchronous handlers; gives back the message with the metadata that they may have asked for.
#[inline]
fn synchronous<M>(
    handlers: &Handlers<M>,
    policy: FailurePolicy,
    message: M,
    metadata: Option<Box<Metadata>>,
    draining: u64,
    report: &mut PublishReport,
) -> (M, Option<Box<Metadata>>) {
    if handlers.asynchronous == handlers.inline.len() {
        return (message, metadata);
    }
    let mut current = Current::new(Running::OnTheStack(metadata), draining);
    {
        let _in_here = current.enter();
        report.called = call_synchronous(&handlers.inline, &message, policy, &mut report.failures);
    }
    let Running::OnTheStack(metadata) = current.message else { return (message, None) };
    (message, metadata)
}

async fn publish_carried<M: Event>(
    topic: &Topic<M>,
    handlers: &Handlers<M>,
    policy: FailurePolicy,
    message: M,
) -> Result<PublishReport, PublishError<M>> {
    let (metadata, draining) = inherited();
    let ring = topic.ring.get().filter(|_| handlers.queued > 0);
    if let Some(ring) = ring
        && handlers.inline.is_empty()
    {
        return enqueue(topic, ring, draining, topic.carry(message, metadata), handlers.queued).await;
    }
    let mut permit = match ring {
        None => None,
        Some(ring) => match reserve(topic, ring, draining).await {
            Ok(permit) => Some(permit),
            Err(refused) => return Err(refused(message)),
        },
    };
    let mut report = PublishReport::default();
    let (message, metadata) = synchronous(handlers, policy, message, metadata, draining, &mut report);
    let stopped = policy == FailurePolicy::FailFast && !report.failures.is_empty();
    let carrier = if handlers.asynchronous > 0 && !stopped {
        report.called += handlers.asynchronous;
        let load = |used: Option<Arc<Carrier<M>>>| match used {
            Some(mut carrier) => {
                Carrier::load(&mut carrier, message, metadata);
                carrier
            }
            None => topic.carry(message, metadata),
        };
        call_asynchronous(handlers, load, draining, policy, &mut report.failures).await
    } else {
        permit.as_ref().map(|_| topic.carry(message, metadata))
    };
    match permit.as_mut().zip(carrier) {
        Some((permit, carrier)) => finish(topic, permit, carrier, handlers.queued, report, policy),
        None => judged(report, policy),
    }
}

/// Sets room for one message aside. A handler that drains the queue itself does not wait for it.
async fn reserve<'a, M>(
    topic: &Topic<M>,
    ring: &'a ring::Multicast<Arc<Carrier<M>>>,
    draining: u64,
) -> Result<Permit<'a, Arc<Carrier<M>>>, fn(M) -> PublishError<M>> {
    let refused = |reason| -> fn(M) -> PublishError<M> {
        match reason {
            Refused::Closed => PublishError::Closed,
            Refused::Timeout => PublishError::Timeout,
            Refused::Full | Refused::TooLarge => PublishError::Full,
        }
    };
    match ring.try_reserve(1) {
        Ok(permit) => Ok(permit),
        Err(Refused::Full) if draining == topic.id => Err(PublishError::WouldDeadlock),
        Err(Refused::Full) => ring.reserve(1).await.map_err(refused),
        Err(reason) => Err(refused(reason)),
    }
}

/// Publishes to queues alone.
async fn enqueue<M>(
    topic: &Topic<M>,
    ring: &ring::Multicast<Arc<Carrier<M>>>,
    draining: u64,
    carrier: Arc<Carrier<M>>,
    queued: usize,
) -> Result<PublishReport, PublishError<M>> {
    let mut published = ring.try_publish_over(carrier);
    if let Err(ring::PublishError { reason: Refused::Full, message: carrier }) = published {
        if draining == topic.id {
            return Err(PublishError::WouldDeadlock(returned(carrier)));
        }
        published = ring.publish_over(carrier).await;
    }
    match published {
        Ok((_, old)) => {
            topic.recycle(old);
            Ok(PublishReport { queued, ..PublishReport::default() })
        }
        Err(ring::PublishError { reason, message }) => Err(PublishError::refused(reason, returned(message))),
    }
}

/// Hands a message to the queues, after the inline handlers.
fn finish<M>(
    topic: &Topic<M>,
    permit: &mut Permit<'_, Arc<Carrier<M>>>,
    carrier: Arc<Carrier<M>>,
    queued: usize,
    mut report: PublishReport,
    policy: FailurePolicy,
) -> Result<PublishReport, PublishError<M>> {
    // A shutdown closes the ring only when no room is set aside in it.
    if let Ok((_, old)) = permit.publish_over(carrier) {
        topic.recycle(old);
        report.queued = queued;
    }
    judged(report, policy)
}

fn returned<M>(carrier: Arc<Carrier<M>>) -> M {
    Carrier::into_message(carrier).expect("a carrier that was not published is its publisher's alone")
}

#[inline]
fn judged<M>(report: PublishReport, policy: FailurePolicy) -> Result<PublishReport, PublishError<M>> {
    if !report.failures.is_empty() && report.is_error(policy) {
        return Err(PublishError::HandlersFailed(report));
    }
    Ok(report)
}
