//! Messages that are published later.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::{Bus, Inner};
use crate::dead_letter::{DeadLetters, Reason, Replay, Undeliverable};
use crate::delivery::Carrier;
use crate::error::{Cause, HandlerError};
use crate::message::{Event, Message};
use crate::metadata::{Busy, Source as _};
use crate::publish::{Origin, publish_carried};
use crate::publisher::{FailurePolicy, PublishError, PublishReport};
use crate::raw::RawMessage;
use crate::topic::Topic;

/// Why a delayed publish was refused, with the message.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DelayError<M> {
    /// As many messages wait as the bus's builder allows.
    #[error("too many delayed messages wait")]
    TooMany(M),
    /// The bus is shut down.
    #[error("the bus is shut down")]
    Closed(M),
    /// Timers are tokio's: it has to be called within a tokio runtime.
    #[error("a delayed publish has to be made within a tokio runtime")]
    NoRuntime(M),
}

impl<M> DelayError<M> {
    /// The message.
    pub fn into_message(self) -> M {
        match self {
            Self::TooMany(message) | Self::Closed(message) | Self::NoRuntime(message) => message,
        }
    }
}

impl<M> fmt::Debug for DelayError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany(_) => "TooMany(..)",
            Self::Closed(_) => "Closed(..)",
            Self::NoRuntime(_) => "NoRuntime(..)",
        })
    }
}

/// What became of a bus's delayed messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DelayedStats {
    /// Waiting for their time, or being published.
    pub waiting: u64,
    /// Published.
    pub published: u64,
    /// Given to the dead letters: refused when their time came, failed in all their handlers, or still waiting at the shutdown.
    pub dead_lettered: u64,
    /// Taken back.
    pub cancelled: u64,
}

/// A message that waits for its time. Dropping this does nothing: the message is published all the same.
pub struct Delayed<M> {
    waiting: Arc<Waiting<M>>,
    task: AbortHandle,
    counts: Arc<Counts>,
}

impl<M> Delayed<M> {
    /// Takes the message back, unless it is being published.
    pub fn cancel(self) -> Option<M> {
        let (carrier, _place) = self.waiting.take()?;
        self.counts.cancelled.fetch_add(1, Ordering::AcqRel);
        self.task.abort();
        // Nobody else has seen it.
        Carrier::into_message(carrier)
    }
}

impl<M> fmt::Debug for Delayed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delayed").finish_non_exhaustive()
    }
}

/// A message and its place among those that may wait.
struct Waiting<M>(Mutex<Option<(Arc<Carrier<M>>, OwnedSemaphorePermit)>>);

impl<M> Waiting<M> {
    fn take(&self) -> Option<(Arc<Carrier<M>>, OwnedSemaphorePermit)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    published: AtomicU64,
    dead_lettered: AtomicU64,
    cancelled: AtomicU64,
}

/// The delayed messages of a bus.
pub(crate) struct Delays {
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
    dead_letters: Weak<DeadLetters>,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the bus shuts down, or is gone.
    pub(crate) ended: CancellationToken,
    /// Cancelled when the deadline of a shutdown is over.
    abort: CancellationToken,
}

impl Delays {
    pub(crate) fn new(
        capacity: usize,
        dead_letters: &Arc<DeadLetters>,
        ended: CancellationToken,
        abort: CancellationToken,
    ) -> Self {
        let tasks = TaskTracker::new();
        // Waiting for the tasks needs no further sign; it does not keep new ones out.
        tasks.close();
        Self {
            places: Arc::new(Semaphore::new(capacity.min(Semaphore::MAX_PERMITS))),
            counts: Arc::default(),
            dead_letters: Arc::downgrade(dead_letters),
            tasks,
            ended,
            abort,
        }
    }

    pub(crate) fn stats(&self) -> DelayedStats {
        let read = |count: &AtomicU64| count.load(Ordering::Acquire);
        // What has come to its end is read first: a message is never counted as neither.
        let (published, dead_lettered) = (read(&self.counts.published), read(&self.counts.dead_lettered));
        let cancelled = read(&self.counts.cancelled);
        let waiting = read(&self.counts.accepted) - published - dead_lettered - cancelled;
        DelayedStats { waiting, published, dead_lettered, cancelled }
    }

    fn delay<M: Message>(
        &self,
        delay: Duration,
        message: M,
        target: impl Target<M>,
    ) -> Result<Delayed<M>, DelayError<M>> {
        if self.ended.is_cancelled() {
            return Err(DelayError::Closed(message));
        }
        let Ok(runtime) = Handle::try_current() else { return Err(DelayError::NoRuntime(message)) };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return Err(DelayError::TooMany(message)) };
        let carrier = Carrier::new(message, Origin::here(None).metadata);
        let waiting = Arc::new(Waiting(Mutex::new(Some((carrier, place)))));
        self.counts.accepted.fetch_add(1, Ordering::AcqRel);
        let due = Due {
            waiting: Arc::clone(&waiting),
            target: Arc::new(target),
            counts: Arc::clone(&self.counts),
            dead_letters: Weak::clone(&self.dead_letters),
            ended: self.ended.clone(),
            abort: self.abort.clone(),
        };
        let task = self.tasks.spawn_on(due.run(delay), &runtime).abort_handle();
        Ok(Delayed { waiting, task, counts: Arc::clone(&self.counts) })
    }
}

/// Where a message goes when its time has come.
trait Target<M>: Send + Sync + 'static {
    fn publish(
        &self,
        carrier: Arc<Carrier<M>>,
    ) -> impl Future<Output = Result<PublishReport, PublishError<Arc<Carrier<M>>>>> + Send;
}

struct OfType<M>(Arc<Topic<M>>);

impl<M: Event> Target<M> for OfType<M> {
    async fn publish(&self, carrier: Arc<Carrier<M>>) -> Result<PublishReport, PublishError<Arc<Carrier<M>>>> {
        if self.0.closed.load(Ordering::Acquire) {
            return Err(PublishError::Closed(carrier));
        }
        let handlers = self.0.handlers.load_full();
        publish_carried(&[(&*self.0, handlers.queued)], &handlers, FailurePolicy::AllFailed, carrier, Busy::NONE).await
    }
}

struct BySubject(Weak<Inner>);

impl Target<RawMessage> for BySubject {
    async fn publish(
        &self,
        carrier: Arc<Carrier<RawMessage>>,
    ) -> Result<PublishReport, PublishError<Arc<Carrier<RawMessage>>>> {
        let Some(inner) = self.0.upgrade().filter(|inner| !inner.is_shut_down()) else {
            return Err(PublishError::Closed(carrier));
        };
        let route = inner.routes.find(&carrier.message().subject);
        // The bus is not kept alive by a publish that waits.
        drop(inner);
        publish_carried(&route.topics, &route.handlers, FailurePolicy::AllFailed, carrier, Busy::NONE).await
    }
}

struct Due<M, T> {
    waiting: Arc<Waiting<M>>,
    target: Arc<T>,
    counts: Arc<Counts>,
    dead_letters: Weak<DeadLetters>,
    ended: CancellationToken,
    abort: CancellationToken,
}

impl<M: Message, T: Target<M>> Due<M, T> {
    async fn run(self, delay: Duration) {
        tokio::select! {
            biased;
            () = self.ended.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
        let Some((carrier, _place)) = self.waiting.take() else { return };
        if self.ended.is_cancelled() {
            return self.bury(carrier, Reason::Shutdown, None, 0);
        }
        let published = tokio::select! {
            biased;
            published = self.target.publish(Arc::clone(&carrier)) => published,
            () = self.abort.cancelled() => return self.bury(carrier, Reason::Shutdown, None, 1),
        };
        match published {
            Ok(_) => {
                Carrier::let_go(carrier);
                self.counts.published.fetch_add(1, Ordering::AcqRel);
            }
            Err(error) => self.bury(carrier, Reason::Unpublished, Some(unpublished(&error)), 1),
        }
    }

    fn bury(self, carrier: Arc<Carrier<M>>, reason: Reason, cause: Option<Cause>, attempts: u32) {
        // Of a bus that is gone nobody can look at the letters; nor at the counts.
        if let Some(dead_letters) = self.dead_letters.upgrade() {
            dead_letters.add(Undeliverable {
                metadata: carrier.metadata().clone(),
                message_type: M::TYPE,
                handler: "delayed publish".into(),
                reason,
                cause,
                attempts,
                message: Arc::new(Letter { carrier, target: self.target }),
            });
        }
        self.counts.dead_lettered.fetch_add(1, Ordering::AcqRel);
    }
}

fn unpublished<R>(error: &PublishError<R>) -> Cause {
    Cause::Error(HandlerError::transient(error.to_string()))
}

struct Letter<M, T> {
    carrier: Arc<Carrier<M>>,
    target: Arc<T>,
}

impl<M: Message, T: Target<M>> Replay for Letter<M, T> {
    fn as_any(&self) -> &dyn std::any::Any {
        self.carrier.message()
    }

    fn replay(&self, _: u32) -> Pin<Box<dyn Future<Output = Result<(), Cause>> + Send + '_>> {
        Box::pin(async {
            let published = self.target.publish(Arc::clone(&self.carrier)).await;
            published.map(drop).map_err(|error| unpublished(&error))
        })
    }
}

impl Bus {
    /// Publishes a message after `delay`, in a task of its own: to the handlers that are subscribed then. What is refused then, or
    /// fails in all its handlers and reaches no queue, whatever the bus's [`FailurePolicy`], becomes a dead letter, whose replay
    /// publishes it again. A message delayed by a handler inherits, as if it were published.
    ///
    /// The delay has the precision of tokio's timers, a millisecond; the runtime has to have them enabled.
    ///
    /// # Errors
    /// [`DelayError`].
    pub fn publish_after<M: Event>(&self, delay: Duration, message: M) -> Result<Delayed<M>, DelayError<M>> {
        self.inner().delays.delay(delay, message, OfType(self.topic()))
    }

    /// Publishes a message to its subject after `delay`: see [`publish_after`](Self::publish_after).
    ///
    /// # Errors
    /// [`DelayError`].
    pub fn publish_subject_after(
        &self,
        delay: Duration,
        message: RawMessage,
    ) -> Result<Delayed<RawMessage>, DelayError<RawMessage>> {
        self.inner().delays.delay(delay, message, BySubject(Arc::downgrade(self.inner())))
    }

    /// What became of the delayed messages.
    pub fn delayed(&self) -> DelayedStats {
        self.inner().delays.stats()
    }
}
