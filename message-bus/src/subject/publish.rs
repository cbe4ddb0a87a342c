//! Subscribing to patterns, and publishing to subjects.

use crate::bus::{Bus, Inner};
use crate::handler::Handler;
use crate::metadata::Metadata;
use crate::publish::{Origin, publish_carried, publish_on_the_stack};
use crate::publisher::{FailurePolicy, PublishError, PublishReport};
use crate::raw::RawMessage;
use crate::subject::SubjectPattern;
use crate::subscription::{SubscribeError, Subscription, SubscriptionBuilder};

impl Bus {
    /// Subscribes an asynchronous handler to the subjects that a pattern matches; publishers call it and wait for it.
    ///
    /// # Errors
    /// [`SubscribeError::Closed`], [`SubscribeError::Subject`].
    pub fn subscribe_subject(
        &self,
        pattern: &str,
        handler: impl Handler<RawMessage>,
    ) -> Result<Subscription, SubscribeError> {
        self.subject_subscription(pattern)?.run(handler)
    }

    /// A subscription to the subjects that a pattern matches, with options: a name, a queue, retries, a group.
    ///
    /// Members of a group name the same pattern.
    ///
    /// # Errors
    /// [`SubscribeError::Subject`].
    pub fn subject_subscription(&self, pattern: &str) -> Result<SubscriptionBuilder<RawMessage>, SubscribeError> {
        let (topic, lease) = self.inner().routes.lease(&SubjectPattern::new(pattern)?);
        Ok(self.subscription_to(topic, Some(lease)))
    }

    /// Publishes a message to every subscription whose pattern matches its subject, in the way of
    /// [`Publisher::publish`](crate::Publisher::publish): room in all queues is taken first, inline handlers are called in the order of
    /// subscription, then the queues get it. A message to a [`reply_to`](RawMessage::reply_to) goes to who waits there, and to no pattern.
    ///
    /// # Cancellation
    /// As that of [`Publisher::publish`](crate::Publisher::publish).
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_subject(&self, message: RawMessage) -> Result<PublishReport, PublishError<RawMessage>> {
        publish(self.inner(), self.inner().policy, message, Origin::here(None)).await
    }

    /// [`publish_subject`](Self::publish_subject) with metadata that the publisher has.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_subject_with(
        &self,
        metadata: Metadata,
        message: RawMessage,
    ) -> Result<PublishReport, PublishError<RawMessage>> {
        publish(self.inner(), self.inner().policy, message, Origin::here(Some(Box::new(metadata)))).await
    }
}

/// A publish to what a subject reaches, or an answer to who waits for it.
pub(crate) async fn publish(
    inner: &Inner,
    policy: FailurePolicy,
    message: RawMessage,
    origin: Origin,
) -> Result<PublishReport, PublishError<RawMessage>> {
    let Origin { metadata, busy } = origin;
    // Requests that are worked off in a shutdown are still answered.
    let (message, metadata) = match inner.inboxes.answer(message, metadata) {
        Ok(taken) => return Ok(PublishReport { queued: usize::from(taken), ..PublishReport::default() }),
        Err(no_answer) => no_answer,
    };
    if inner.is_shut_down() {
        return Err(PublishError::Closed(message));
    }
    // Held by itself: the table of routes would keep the handlers of other subjects alive as long as those of this one run.
    let route = inner.routes.find(&message.subject);
    if route.handlers.are_all_synchronous() && metadata.is_none() {
        return publish_on_the_stack(&route.handlers, policy, &message);
    }
    let Some((topic, _)) = route.topics.first() else { return Ok(PublishReport::default()) };
    let carrier = topic.carry(message, metadata);
    publish_carried(&route.topics, &route.handlers, policy, carrier, busy).await.map_err(PublishError::returned)
}
