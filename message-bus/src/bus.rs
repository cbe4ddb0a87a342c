//! The bus.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::by_type::ByType;
use crate::command::Commands;
use crate::dead_letter::DeadLetters;
use crate::delayed::Delays;
use crate::handler::{Handler, Outcome};
use crate::message::{Event, Message};
use crate::publish::publish;
use crate::publisher::{FailurePolicy, PublishError, PublishReport, Publisher};
use crate::queue::QueueStats;
use crate::request::Inboxes;
use crate::subject::routes::{Lease, Routes};
use crate::subscription::{QueueControl, SubscribeError, Subscription, SubscriptionBuilder};
use crate::topic::Topic;

/// A message bus in one process. Clones are the same bus; when the last is dropped it takes no more messages, and its queues are
/// worked off.
///
/// A handler that holds a clone of its own bus keeps both alive until [`shutdown`](Self::shutdown), and longer while a message that it
/// could not handle is a dead letter: it should hold a [`WeakBus`].
#[derive(Clone, Debug)]
pub struct Bus {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    topics: ByType<dyn AnyTopic>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) inboxes: Inboxes,
    pub(crate) delays: Delays,
    commands: Commands,
    pub(crate) policy: FailurePolicy,
    ring_capacity: usize,
    dead_letters: Arc<DeadLetters>,
    shutdown: Arc<Shutdown>,
}

impl Inner {
    pub(crate) fn is_shut_down(&self) -> bool {
        self.shutdown.check().is_err()
    }

    fn topics(&self) -> Vec<Arc<dyn AnyTopic>> {
        let of_patterns = self.routes.topics().into_iter().map(|topic| topic as Arc<dyn AnyTopic>);
        self.topics.values().into_iter().chain(of_patterns).collect()
    }
}

/// A [`Bus`] that is not kept alive: what a handler holds that belongs to the same bus.
#[derive(Clone, Debug)]
pub struct WeakBus {
    inner: Weak<Inner>,
}

impl WeakBus {
    /// The bus, unless it is gone.
    pub fn upgrade(&self) -> Option<Bus> {
        self.inner.upgrade().map(|inner| Bus { inner })
    }
}

/// A topic whose message type is forgotten.
trait AnyTopic: Any + Send + Sync {
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn as_any_ref(&self) -> &dyn Any;
    fn refuse(&self);
    /// Closes the ring if nobody has room set aside in it.
    fn close(&self, at_once: bool) -> bool;
    fn forget_handlers(&self);
}

impl<M: Message> AnyTopic for Topic<M> {
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn as_any_ref(&self) -> &dyn Any {
        self
    }

    fn refuse(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn close(&self, at_once: bool) -> bool {
        let Some(ring) = self.ring.get() else { return true };
        if ring.reserved() > 0 && !at_once {
            return false;
        }
        ring.close();
        true
    }

    fn forget_handlers(&self) {
        self.clear();
    }
}

/// How a bus comes to its end.
#[derive(Debug)]
pub(crate) struct Shutdown {
    closed: AtomicBool,
    pub(crate) draining: CancellationToken,
    pub(crate) abort: CancellationToken,
    queues: Mutex<Vec<Arc<QueueControl>>>,
}

impl Shutdown {
    pub(crate) fn check(&self) -> Result<(), SubscribeError> {
        if self.closed.load(Ordering::Acquire) { Err(SubscribeError::Closed) } else { Ok(()) }
    }

    /// Keeps an account of the queue until the end; of those that have ended by themselves, only until there are many. A queue that comes
    /// after the beginning of a shutdown is refused.
    pub(crate) fn watch(&self, control: &Arc<QueueControl>) -> Result<(), SubscribeError> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // A shutdown looks at the queues after it has closed the bus.
        self.check()?;
        queues.retain(|queue| !queue.tasks.is_empty());
        queues.push(Arc::clone(control));
        Ok(())
    }
}

/// An option that a bus cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The capacity of the rings is 0 or above 2³².
    #[error("a ring holds 1 to 2^32 messages, not {0}")]
    Ring(usize),
    /// No dead letter could be kept.
    #[error("a bus keeps at least one dead letter")]
    DeadLetters,
}

/// Options of a [`Bus`].
#[derive(Clone, Debug)]
#[must_use]
pub struct BusBuilder {
    policy: FailurePolicy,
    ring_capacity: usize,
    dead_letters: usize,
    pending_requests: usize,
    delayed: usize,
}

impl Default for BusBuilder {
    fn default() -> Self {
        Self {
            policy: FailurePolicy::AllFailed,
            ring_capacity: 1024,
            dead_letters: 10_000,
            pending_requests: 10_000,
            delayed: 10_000,
        }
    }
}

impl BusBuilder {
    /// When a publish whose handlers failed is an error; by default when all failed.
    pub fn failure_policy(self, policy: FailurePolicy) -> Self {
        Self { policy, ..self }
    }

    /// How many messages of one type can be on their way to queues, 1 to 2³², rounded up to a power of two; by default 1,024. A queue's
    /// capacity is at most this. The memory, 16 bytes each, is taken with the first queue of a type.
    pub fn ring_capacity(self, messages: usize) -> Self {
        Self { ring_capacity: messages, ..self }
    }

    /// How many dead letters are kept, 1 and up; by default 10,000. Beyond, the oldest goes, and is counted.
    pub fn dead_letters(self, letters: usize) -> Self {
        Self { dead_letters: letters, ..self }
    }

    /// How many [requests](Bus::request) may wait for answers at once; by default 10,000. Beyond, they are refused.
    pub fn pending_requests(self, requests: usize) -> Self {
        Self { pending_requests: requests, ..self }
    }

    /// How many messages may wait for a [delayed publish](Bus::publish_after) at once; by default 10,000. Beyond, they are refused.
    pub fn delayed(self, messages: usize) -> Self {
        Self { delayed: messages, ..self }
    }

    /// The bus.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<Bus, BuildError> {
        if self.ring_capacity == 0 || self.ring_capacity as u64 > 1 << 32 {
            return Err(BuildError::Ring(self.ring_capacity));
        }
        if self.dead_letters == 0 {
            return Err(BuildError::DeadLetters);
        }
        let shutdown = Arc::new(Shutdown {
            closed: AtomicBool::new(false),
            draining: CancellationToken::new(),
            abort: CancellationToken::new(),
            queues: Mutex::default(),
        });
        let dead_letters = Arc::new(DeadLetters::new(self.dead_letters));
        let (ended, abort) = (shutdown.draining.child_token(), shutdown.abort.clone());
        let inner = Inner {
            delays: Delays::new(self.delayed, &dead_letters, ended, abort),
            topics: ByType::new(),
            routes: Routes::new(self.ring_capacity),
            inboxes: Inboxes::new(self.pending_requests),
            commands: Commands::new(),
            policy: self.policy,
            ring_capacity: self.ring_capacity,
            dead_letters,
            shutdown,
        };
        Ok(Bus { inner: Arc::new(inner) })
    }
}

/// What a shutdown has done with the messages in queues, and with those that waited for a delayed publish. Their sum is what was there when it began, and what publishers under way
/// still put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Handled during the shutdown.
    pub drained: u64,
    /// Given to the dead letters during the shutdown.
    pub dead_lettered: u64,
    /// Lost during the shutdown by subscriptions without dead letters.
    pub dropped: u64,
    /// Not handled when the deadline came.
    pub abandoned: u64,
    /// Queues with a handler at work that could not be dropped in the moment that it was given after the deadline: the message that it
    /// has in hand is in none of the numbers.
    pub unfinished: usize,
    /// The account of each queue that was there, by the name of its subscription.
    pub queues: Vec<(Arc<str>, QueueStats)>,
}

impl Default for Bus {
    /// A bus with the default options.
    fn default() -> Self {
        BusBuilder::default().build().expect("the defaults are valid")
    }
}

impl Bus {
    /// A bus with the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// A bus with options.
    pub fn builder() -> BusBuilder {
        BusBuilder::default()
    }

    /// The same bus, for its own handlers to hold.
    pub fn downgrade(&self) -> WeakBus {
        WeakBus { inner: Arc::downgrade(&self.inner) }
    }

    pub(crate) fn topic<M: Event>(&self) -> Arc<Topic<M>> {
        let topic = self.inner.topics.get_or_insert(TypeId::of::<M>(), || {
            let topic = Topic::<M>::new(self.inner.ring_capacity);
            if self.inner.shutdown.check().is_err() {
                topic.closed.store(true, Ordering::Release);
            }
            Arc::new(topic)
        });
        topic.as_any().downcast().expect("the table holds for each type its own topic")
    }

    /// A subscription to a topic.
    pub(crate) fn subscription_to<M>(&self, topic: Arc<Topic<M>>, lease: Option<Lease>) -> SubscriptionBuilder<M> {
        SubscriptionBuilder {
            topic,
            shutdown: Arc::clone(&self.inner.shutdown),
            dead_letters: Arc::clone(&self.inner.dead_letters),
            name: None,
            lease,
        }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn commands(&self) -> &Commands {
        &self.inner.commands
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.inner.is_shut_down()
    }

    /// Subscribes an asynchronous handler that publishers call and wait for.
    ///
    /// # Errors
    /// [`SubscribeError::Closed`].
    pub fn subscribe<M: Event>(&self, handler: impl Handler<M>) -> Result<Subscription, SubscribeError> {
        self.subscription().run(handler)
    }

    /// Subscribes a synchronous handler that publishers call.
    ///
    /// # Errors
    /// [`SubscribeError::Closed`].
    pub fn subscribe_sync<M: Event, O: Outcome>(
        &self,
        handler: impl Fn(&M) -> O + Send + Sync + 'static,
    ) -> Result<Subscription, SubscribeError> {
        self.subscription().run_sync(handler)
    }

    /// A subscription with options: a name, a queue, retries.
    pub fn subscription<M: Event>(&self) -> SubscriptionBuilder<M> {
        self.subscription_to(self.topic(), None)
    }

    /// Publishes messages of one type, with the look-up done once.
    pub fn publisher<M: Event>(&self) -> Publisher<M> {
        Publisher::new(self.topic(), self.inner.policy)
    }

    /// Publishes a message: see [`Publisher::publish`].
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish<M: Event>(&self, message: M) -> Result<PublishReport, PublishError<M>> {
        let found = self.inner.topics.with(TypeId::of::<M>(), Arc::clone);
        match found.as_ref().and_then(|topic| topic.as_any_ref().downcast_ref()) {
            Some(topic) => publish(topic, self.inner.policy, message).await,
            // A type that nobody subscribed to or asked a publisher of.
            None if self.is_shut_down() => Err(PublishError::Closed(message)),
            None => Ok(PublishReport::default()),
        }
    }

    /// The messages that no handler would take.
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.inner.dead_letters
    }

    /// Ends the bus: refuses new messages, works off the queues, and after `deadline` drops what is left. What waits for a retry or
    /// for a delayed publish becomes a dead letter. Inline handlers and commands under way are their callers' business.
    ///
    /// # Cancellation
    /// Dropped, the bus is shut down and its queues go on being worked off, without a deadline; another call waits for them.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        // A deadline beyond what the clock can say is none.
        let deadline = Instant::now().checked_add(deadline);
        let shutdown = &self.inner.shutdown;
        shutdown.closed.store(true, Ordering::Release);
        let queues = shutdown.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let delayed_before = self.inner.delays.stats();
        let before: Vec<QueueStats> = queues.iter().map(|queue| queue.counts.stats()).collect();
        let topics = self.inner.topics();
        topics.iter().for_each(|topic| topic.refuse());
        shutdown.draining.cancel();
        // Publishers that have room set aside are calling inline handlers: their messages are accepted.
        let mut open = topics.clone();
        loop {
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            open.retain(|topic| !topic.close(late));
            if open.is_empty() {
                break;
            }
            tokio::time::sleep(CLOSING).await;
        }
        let worked_off = async || {
            for queue in &queues {
                queue.tasks.wait().await;
            }
            self.inner.delays.tasks.wait().await;
        };
        let in_time = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, worked_off()).await.is_ok(),
            None => {
                worked_off().await;
                true
            }
        };
        if !in_time {
            shutdown.abort.cancel();
            drop(tokio::time::timeout(ABORTING, worked_off()).await);
        }
        topics.iter().for_each(|topic| topic.forget_handlers());
        self.inner.commands.clear();
        let delayed = self.inner.delays.stats();
        let mut report = ShutdownReport::default();
        report.dead_lettered += delayed.dead_lettered - delayed_before.dead_lettered;
        for (queue, before) in queues.iter().zip(before) {
            let after = queue.counts.stats();
            report.drained += after.delivered - before.delivered;
            report.dead_lettered += after.dead_lettered - before.dead_lettered;
            report.dropped += after.dropped - before.dropped;
            report.abandoned += after.abandoned - before.abandoned;
            report.unfinished += usize::from(!queue.tasks.is_empty());
            report.queues.push((Arc::clone(&queue.name), after));
        }
        report
    }
}

/// Between two looks at publishers that have room set aside.
const CLOSING: Duration = Duration::from_millis(1);
/// What tasks get to drop their handlers after the deadline.
const ABORTING: Duration = Duration::from_millis(5);

impl Drop for Inner {
    fn drop(&mut self) {
        self.delays.ended.cancel();
        self.shutdown.closed.store(true, Ordering::Release);
        for topic in self.topics() {
            topic.refuse();
            topic.close(true);
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("policy", &self.policy)
            .field("ring_capacity", &self.ring_capacity)
            .field("topics", &self.topics.values().len())
            .finish_non_exhaustive()
    }
}
