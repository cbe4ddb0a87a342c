//! Subscribing.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::Shutdown;
use crate::dead_letter::DeadLetters;
use crate::handler::{Handler, Invoker, Outcome};
use crate::message::Message;
use crate::queue::{Counts, Inbox, QueueStats, RingInbox, RingReader, Share, Shared, dispatch, hashed_key, work};
use crate::retry::RetryPolicy;
use crate::ring::{CapacityError, Loss, Pressure};
use crate::subject::SubjectError;
use crate::subject::routes::Lease;
use crate::topic::{Call, Topic};

/// What a queue does with a message that it has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The publisher waits. Nothing is lost.
    #[default]
    Block,
    /// The publisher waits, at most this long; then the publish is refused and reaches nobody.
    BlockTimeout(Duration),
    /// The publish is refused and reaches nobody.
    Error,
    /// The queue loses the message.
    DropNewest,
    /// The queue loses the one that has waited longest.
    DropOldest,
    /// The subscription ends, after what is in the queue.
    Disconnect,
    /// Of messages with the same [key](crate::Message::key) the queue keeps the latest; those without a key are all kept. With more
    /// keys than it has room for it loses the one that has waited longest.
    Conflate,
}

/// Why a subscription was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The bus is shut down.
    #[error("the bus is shut down")]
    Closed,
    /// The queue's capacity is 0 or above that of the bus's rings.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// A concurrency of 0, or above 1,024.
    #[error("a queue has 1 to 1,024 workers, not {0}")]
    Concurrency(usize),
    /// No message could wait for a retry.
    #[error("at least one message has to be able to wait for a retry")]
    Waiting,
    /// A queue's workers are tokio tasks: it has to be made within a tokio runtime.
    #[error("a queue has to be made within a tokio runtime")]
    NoRuntime,
    /// Another member of the group has another capacity or overflow policy, or one of them asks for order by key, which a group of
    /// competing members cannot keep.
    #[error("group `{0}` exists with other options, or asks for order by key")]
    Group(Arc<str>),
    /// What was subscribed to is no pattern of subjects.
    #[error(transparent)]
    Subject(#[from] SubjectError),
}

/// A subscription. Dropping it ends it: no publish that begins afterwards reaches its handler; what is in its queue is abandoned, and
/// counted.
#[must_use = "dropping the subscription ends it"]
#[derive(Debug)]
pub struct Subscription {
    name: Arc<str>,
    end: Option<End>,
    /// On the topic of a pattern; those of types stay anyway.
    lease: Option<Lease>,
}

enum End {
    Inline { remove: Box<dyn FnOnce() + Send + Sync>, gone: oneshot::Receiver<()> },
    Queue(Arc<QueueControl>),
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inline { .. } => "Inline",
            Self::Queue(_) => "Queue",
        })
    }
}

/// The tasks of a queue, from outside.
#[derive(Debug)]
pub(crate) struct QueueControl {
    pub(crate) name: Arc<str>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Ends even a handler that is at work.
    pub(crate) abort: CancellationToken,
}

impl Subscription {
    pub(crate) fn inline(
        name: Arc<str>,
        remove: impl FnOnce() + Send + Sync + 'static,
        gone: oneshot::Receiver<()>,
    ) -> Self {
        Self { name, end: Some(End::Inline { remove: Box::new(remove), gone }), lease: None }
    }

    /// Its name: in reports and dead letters.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What became of its messages so far, if it has a queue.
    pub fn stats(&self) -> Option<QueueStats> {
        match &self.end {
            Some(End::Queue(control)) => Some(control.counts.stats()),
            _ => None,
        }
    }

    /// Ends the subscription and waits for the handler to return, where it is at work. A handler that waits for the end of its own
    /// subscription waits for itself: it drops the subscription instead.
    ///
    /// Returns the final account, if it has a queue.
    ///
    /// # Cancellation
    /// Dropped, the subscription has ended, and nobody waits.
    pub async fn unsubscribe(mut self) -> Option<QueueStats> {
        match self.end.take()? {
            End::Inline { remove, gone } => {
                remove();
                // The other side never sends: it is dropped with the handler.
                let _gone = gone.await;
                None
            }
            End::Queue(control) => {
                control.stop.cancel();
                control.tasks.wait().await;
                Some(control.counts.stats())
            }
        }
    }

    /// Lets the subscription live as long as the bus.
    pub fn detach(mut self) {
        self.end = None;
        if let Some(lease) = self.lease.take() {
            lease.keep();
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        match self.end.take() {
            Some(End::Inline { remove, .. }) => remove(),
            Some(End::Queue(control)) => control.stop.cancel(),
            None => {}
        }
    }
}

/// A subscription with options. Made by [`Bus::subscription`](crate::Bus::subscription).
#[derive(Debug)]
pub struct SubscriptionBuilder<M> {
    pub(crate) topic: Arc<Topic<M>>,
    pub(crate) shutdown: Arc<Shutdown>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) lease: Option<Lease>,
}

impl<M: Message> SubscriptionBuilder<M> {
    /// A name for reports and dead letters; by default the handler's type.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    fn named<H>(name: Option<Arc<str>>) -> Arc<str> {
        name.unwrap_or_else(|| std::any::type_name::<H>().into())
    }

    /// Subscribes an asynchronous handler that publishers call and wait for.
    ///
    /// # Errors
    /// [`SubscribeError::Closed`].
    pub fn run<H: Handler<M>>(self, handler: H) -> Result<Subscription, SubscribeError> {
        let name = Self::named::<H>(self.name);
        let call = Call::Async(Box::new(Invoker(Arc::new(handler))));
        inline(&self.topic, &self.shutdown, name, call, self.lease)
    }

    /// Subscribes a synchronous handler that publishers call.
    ///
    /// # Errors
    /// [`SubscribeError::Closed`].
    pub fn run_sync<O: Outcome>(
        self,
        handler: impl Fn(&M) -> O + Send + Sync + 'static,
    ) -> Result<Subscription, SubscribeError> {
        let name = self.name.unwrap_or_else(|| std::any::type_name_of_val(&handler).into());
        let call = Call::Sync(Box::new(move |message| handler(message).into_result()));
        inline(&self.topic, &self.shutdown, name, call, self.lease)
    }

    /// A subscription with a queue of its own, which holds up to `capacity` messages: publishers do not wait for its handler.
    pub fn queue(self, capacity: usize) -> QueueBuilder<M> {
        QueueBuilder {
            subscription: self,
            capacity,
            overflow: Overflow::Block,
            concurrency: 1,
            ordered: false,
            retry: None,
            dead_letter: true,
            waiting: 1024,
            timeout: None,
            group: None,
        }
    }
}

fn inline<M: Message>(
    topic: &Arc<Topic<M>>,
    shutdown: &Shutdown,
    name: Arc<str>,
    call: Call<M>,
    lease: Option<Lease>,
) -> Result<Subscription, SubscribeError> {
    shutdown.check()?;
    let (id, gone) = topic.add(Arc::clone(&name), call);
    let topic: Weak<Topic<M>> = Arc::downgrade(topic);
    let remove = move || {
        if let Some(topic) = topic.upgrade() {
            topic.remove(id);
        }
    };
    let mut subscription = Subscription::inline(name, remove, gone);
    subscription.lease = lease;
    Ok(subscription)
}

/// A subscription with a queue and its options.
pub struct QueueBuilder<M> {
    subscription: SubscriptionBuilder<M>,
    capacity: usize,
    overflow: Overflow,
    concurrency: usize,
    ordered: bool,
    retry: Option<Arc<dyn RetryPolicy>>,
    dead_letter: bool,
    waiting: usize,
    timeout: Option<Duration>,
    group: Option<Arc<str>>,
}

/// Messages that wait at the door of a worker that keeps the order of keys, beside the queue's own.
const LANE: usize = 16;
const MOST_WORKERS: usize = 1024;

impl<M: Message> QueueBuilder<M> {
    /// What happens when the queue is full; by default publishers wait.
    #[must_use]
    pub fn overflow(self, overflow: Overflow) -> Self {
        Self { overflow, ..self }
    }

    /// How many messages are handled at once, 1 to 1,024; by default 1. With more than one, order is lost unless it is kept
    /// [by key](Self::ordered_by_key).
    #[must_use]
    pub fn concurrency(self, workers: usize) -> Self {
        Self { concurrency: workers, ..self }
    }

    /// Messages of one [key](crate::Message::key) are handled one after the other in the order of publication, retries included:
    /// while one waits for its retry, those of its key wait behind it, and others go on.
    #[must_use]
    pub fn ordered_by_key(self) -> Self {
        Self { ordered: true, ..self }
    }

    /// When a failed message is handed to the handler again; by default never.
    #[must_use]
    pub fn retry(self, policy: impl RetryPolicy) -> Self {
        Self { retry: Some(Arc::new(policy)), ..self }
    }

    /// How many messages of each worker may wait for a retry, or behind one, 1 and up; by default 1,024. Beyond that a failed message becomes a
    /// dead letter; with order by key the worker takes nothing new until one is through.
    #[must_use]
    pub fn waiting(self, messages: usize) -> Self {
        Self { waiting: messages, ..self }
    }

    /// Whether messages that failed for good are kept as dead letters, which is the default, or dropped and counted.
    #[must_use]
    pub fn dead_letter(self, keep: bool) -> Self {
        Self { dead_letter: keep, ..self }
    }

    /// How long one call of the handler may take; by default forever. Then it is dropped at its next await, and counts as failed.
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        Self { timeout: Some(limit), ..self }
    }

    /// Makes the subscription a member of a group: each message goes to one of the members, whichever is free. Members share one
    /// queue and name the same capacity and overflow policy.
    #[must_use]
    pub fn group(self, name: &str) -> Self {
        Self { group: Some(name.into()), ..self }
    }

    /// Subscribes the handler and starts its workers.
    ///
    /// # Errors
    /// [`SubscribeError`].
    pub fn run<H: Handler<M>>(self, handler: H) -> Result<Subscription, SubscribeError> {
        let SubscriptionBuilder { topic, shutdown, dead_letters, name, lease } = self.subscription;
        shutdown.check()?;
        if self.concurrency == 0 || self.concurrency > MOST_WORKERS {
            return Err(SubscribeError::Concurrency(self.concurrency));
        }
        if self.waiting == 0 {
            return Err(SubscribeError::Waiting);
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| SubscribeError::NoRuntime)?;
        let name = SubscriptionBuilder::<M>::named::<H>(name);
        let counts = Arc::new(Counts::default());
        let inbox = match &self.group {
            None => open(&topic, self.capacity, self.overflow, &counts)?,
            Some(group) if self.ordered => return Err(SubscribeError::Group(Arc::clone(group))),
            Some(group) => {
                let open = || open(&topic, self.capacity, self.overflow, &counts);
                topic.group(group, self.capacity, self.overflow, open)?
            }
        };
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            topic,
            handler: Arc::new(handler),
            name: Arc::clone(&name),
            retry: self.retry,
            dead_letters: self.dead_letter.then(|| Arc::downgrade(&dead_letters)),
            timeout: self.timeout,
            waiting: self.waiting,
            ordered: self.ordered,
            counts: Arc::clone(&counts),
            stop: stop.clone(),
            draining: shutdown.draining.clone(),
        });
        let control = Arc::new(QueueControl {
            name: Arc::clone(&name),
            counts,
            tasks: TaskTracker::new(),
            stop,
            abort: shutdown.abort.clone(),
        });
        let spawn = |task: futures_core::future::BoxFuture<'static, ()>| {
            let abort = control.abort.clone();
            control.tasks.spawn_on(
                async move {
                    tokio::select! { biased; () = abort.cancelled() => {}, () = task => {} }
                },
                &runtime,
            );
        };
        if self.ordered && self.concurrency > 1 {
            let mut lanes = Vec::with_capacity(self.concurrency);
            for _ in 0..self.concurrency {
                let (lane, messages) = mpsc::channel(LANE);
                lanes.push(lane);
                spawn(Box::pin(work(Arc::clone(&shared), Inbox::Lane(messages))));
            }
            let share = Share::new(inbox, Arc::clone(&shared.counts));
            spawn(Box::pin(dispatch(share, lanes, shared.stop.clone())));
        } else {
            for _ in 0..self.concurrency {
                let share = Share::new(Arc::clone(&inbox), Arc::clone(&shared.counts));
                spawn(Box::pin(work(Arc::clone(&shared), Inbox::Ring(share))));
            }
        }
        control.tasks.close();
        if let Err(closed) = shutdown.watch(&control) {
            control.stop.cancel();
            return Err(closed);
        }
        Ok(Subscription { name, end: Some(End::Queue(control)), lease })
    }
}

impl<M> fmt::Debug for QueueBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueBuilder")
            .field("capacity", &self.capacity)
            .field("overflow", &self.overflow)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

fn open<M: Message>(
    topic: &Arc<Topic<M>>,
    capacity: usize,
    overflow: Overflow,
    counts: &Arc<Counts>,
) -> Result<Arc<Mutex<RingInbox<M>>>, SubscribeError> {
    let ring = topic.ring();
    let lossy = |loss| ring.subscribe_lossy(capacity, loss).map(RingReader::Lossy);
    let lossless = |pressure| ring.subscribe_with(capacity, pressure).map(RingReader::Lossless);
    let reader = match overflow {
        Overflow::Block => lossless(Pressure::Block),
        Overflow::BlockTimeout(limit) => lossless(Pressure::BlockTimeout(limit)),
        Overflow::Error => lossless(Pressure::Error),
        Overflow::DropNewest => lossy(Loss::DropNewest),
        Overflow::DropOldest => lossy(Loss::DropOldest),
        Overflow::Disconnect => lossy(Loss::Disconnect),
        Overflow::Conflate => {
            // A message without a key is alone with its address, as long as it waits.
            lossy(Loss::conflate_by(|carrier: &Arc<crate::delivery::Carrier<M>>| {
                hashed_key(carrier.message()).ok_or_else(|| Arc::as_ptr(carrier).addr())
            }))
        }
    }?;
    topic.add_queue();
    Ok(Arc::new(Mutex::new(RingInbox::new(reader, Arc::clone(topic), Arc::clone(counts)))))
}
