//! Who publishes messages of one type, and what comes of it.

use std::fmt;
use std::sync::Arc;

use crate::error::Failure;
use crate::message::Event;
use crate::metadata::Metadata;
use crate::publish::{publish, publish_with, try_publish};
use crate::topic::Topic;

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
    /// Subscriptions with a queue, which have yet to handle the message; a group counts as one.
    pub queued: usize,
}

impl PublishReport {
    /// Handlers that have done their work.
    pub fn succeeded(&self) -> usize {
        self.called - self.failures.len()
    }

    pub(crate) fn is_error(&self, policy: FailurePolicy) -> bool {
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

    /// The same with another message.
    pub(crate) fn map<R>(self, change: impl FnOnce(M) -> R) -> PublishError<R> {
        match self {
            Self::HandlersFailed(report) => PublishError::HandlersFailed(report),
            Self::Full(message) => PublishError::Full(change(message)),
            Self::Timeout(message) => PublishError::Timeout(change(message)),
            Self::WouldDeadlock(message) => PublishError::WouldDeadlock(change(message)),
            Self::Closed(message) => PublishError::Closed(change(message)),
            Self::NeedsAwait(message) => PublishError::NeedsAwait(change(message)),
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
    /// The inline handlers are those of one moment at the start: what subscribes meanwhile gets the next message. A queue that
    /// subscribes while they run gets this one already, and is not counted in the report. Synchronous ones are
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
        try_publish(&self.topic, self.policy, message)
    }

    /// [`publish`](Self::publish) with metadata that the publisher has: from a request that it answers, or from another process.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish_with(
        &self,
        metadata: Metadata,
        message: M,
    ) -> impl Future<Output = Result<PublishReport, PublishError<M>>> + Send + '_ {
        publish_with(&self.topic, self.policy, message, metadata)
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
