//! Subscriptions with a queue: what reads the topic's ring, calls the handler, tries again and gives up.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::time::DelayQueue;

use crate::dead_letter::{DeadLetters, Reason, Replay, Undeliverable};
use crate::delivery::{Carrier, Delivery};
use crate::error::Cause;
use crate::handler::Handler;
use crate::message::Message;
use crate::metadata::{Busy, Current, Running, Source as _};
use crate::retry::RetryPolicy;
use crate::ring::{LossySubscriber, Received, Subscriber};
use crate::topic::Topic;

/// What became of a subscription's messages.
///
/// Every message that was published since the subscription began is in exactly one of these, once the subscription has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Handled.
    pub delivered: u64,
    /// Lost: by the overflow policy, or failed for good in a subscription without dead letters or after the bus was dropped.
    pub dropped: u64,
    /// Given to the dead letters.
    pub dead_lettered: u64,
    /// Not handled when the subscription ended.
    pub abandoned: u64,
    /// Calls beyond the first of each message.
    pub retried: u64,
}

impl QueueStats {
    /// How many messages are accounted for.
    pub fn total(&self) -> u64 {
        self.delivered + self.dropped + self.dead_lettered + self.abandoned
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    delivered: AtomicU64,
    dropped: AtomicU64,
    dead_lettered: AtomicU64,
    abandoned: AtomicU64,
    retried: AtomicU64,
}

impl Counts {
    pub(crate) fn stats(&self) -> QueueStats {
        let read = |count: &AtomicU64| count.load(Ordering::Acquire);
        QueueStats {
            delivered: read(&self.delivered),
            dropped: read(&self.dropped),
            dead_lettered: read(&self.dead_lettered),
            abandoned: read(&self.abandoned),
            retried: read(&self.retried),
        }
    }
}

fn add(count: &AtomicU64, number: u64) {
    count.fetch_add(number, Ordering::AcqRel);
}

/// What the workers of one subscription share.
pub(crate) struct Shared<M, H> {
    pub(crate) topic: Arc<Topic<M>>,
    pub(crate) handler: Arc<H>,
    pub(crate) name: Arc<str>,
    pub(crate) retry: Option<Arc<dyn RetryPolicy>>,
    /// Of the bus, which holds them, and through them this.
    pub(crate) dead_letters: Option<Weak<DeadLetters>>,
    pub(crate) timeout: Option<Duration>,
    /// Messages that may wait for a retry, or behind one, in each worker.
    pub(crate) waiting: usize,
    pub(crate) ordered: bool,
    pub(crate) counts: Arc<Counts>,
    /// Cancelled when the subscription is given up: workers finish what they are at.
    pub(crate) stop: CancellationToken,
    /// Cancelled when the bus shuts down: no more retries.
    pub(crate) draining: CancellationToken,
}

/// Where a worker's messages come from.
pub(crate) enum Inbox<M> {
    /// The topic's ring; workers that share it compete.
    Ring(Share<M>),
    /// A dispatcher that keeps the keys apart.
    Lane(mpsc::Receiver<Held<M>>),
}

pub(crate) enum RingReader<M> {
    Lossless(Subscriber<Arc<Carrier<M>>>),
    Lossy(LossySubscriber<Arc<Carrier<M>>>),
}

pub(crate) struct RingInbox<M> {
    reader: RingReader<M>,
    topic: Arc<Topic<M>>,
    /// Of the subscription that accounts for what nobody takes: the last to leave.
    counts: Arc<Counts>,
    /// What the reader has dropped and is in an account.
    overflowed: u64,
}

impl<M> RingInbox<M> {
    pub(crate) fn new(reader: RingReader<M>, topic: Arc<Topic<M>>, counts: Arc<Counts>) -> Self {
        Self { reader, topic, counts, overflowed: 0 }
    }

    /// The next message, if it is there.
    fn try_next(&mut self) -> Option<Arc<Carrier<M>>> {
        loop {
            match &mut self.reader {
                RingReader::Lossless(subscriber) => return subscriber.try_next().ok().map(|item| Arc::clone(&item)),
                RingReader::Lossy(subscriber) => match subscriber.try_receive()? {
                    Received::Message(carrier) => return Some(carrier),
                    Received::Gap(_) => self.account_for_losses(),
                },
            }
        }
    }

    /// The next message, or `None` at the end. Nothing is taken before it is returned.
    async fn next(&mut self) -> Option<Arc<Carrier<M>>> {
        loop {
            if let Some(carrier) = self.try_next() {
                return Some(carrier);
            }
            match &mut self.reader {
                RingReader::Lossless(subscriber) => {
                    // Idle: what all have read is let go.
                    self.topic.trim();
                    return subscriber.next().await.map(|item| Arc::clone(&item));
                }
                RingReader::Lossy(subscriber) => match subscriber.receive().await? {
                    Received::Message(carrier) => return Some(carrier),
                    Received::Gap(_) => self.account_for_losses(),
                },
            }
        }
    }

    fn account_for_losses(&mut self) {
        if let RingReader::Lossy(subscriber) = &self.reader {
            let dropped = subscriber.dropped();
            add(&self.counts.dropped, dropped - self.overflowed);
            self.overflowed = dropped;
        }
    }
}

impl<M> Drop for RingInbox<M> {
    fn drop(&mut self) {
        // Publishes that begin from here on do not count on this queue.
        self.topic.remove_queue();
        let unread = match &mut self.reader {
            RingReader::Lossless(subscriber) => subscriber.end(),
            RingReader::Lossy(subscriber) => subscriber.end(),
        };
        add(&self.counts.abandoned, unread);
        self.account_for_losses();
    }
}

/// One worker's share of an inbox.
pub(crate) struct Share<M> {
    inbox: Arc<Mutex<RingInbox<M>>>,
    counts: Arc<Counts>,
}

impl<M> Share<M> {
    pub(crate) fn new(inbox: Arc<Mutex<RingInbox<M>>>, counts: Arc<Counts>) -> Self {
        Self { inbox, counts }
    }

    /// The next message, if it is there and no other worker is waiting for it.
    fn try_next(&self) -> Option<Held<M>> {
        let carrier = self.inbox.try_lock().ok()?.try_next()?;
        Some(Held::new(carrier, &self.counts))
    }

    async fn next(&self) -> Option<Held<M>> {
        let carrier = self.inbox.lock().await.next().await?;
        Some(Held::new(carrier, &self.counts))
    }
}

impl<M> Drop for Share<M> {
    fn drop(&mut self) {
        // Whoever holds the lock stays, and leaves later.
        if let Ok(mut inbox) = self.inbox.try_lock() {
            inbox.counts = Arc::clone(&self.counts);
        }
    }
}

impl<M> Inbox<M> {
    fn try_next(&mut self) -> Option<Held<M>> {
        match self {
            Self::Ring(share) => share.try_next(),
            Self::Lane(receiver) => receiver.try_recv().ok(),
        }
    }

    async fn next(&mut self) -> Option<Held<M>> {
        match self {
            Self::Ring(share) => share.next().await,
            Self::Lane(receiver) => receiver.recv().await,
        }
    }
}

/// A message in a worker's hands: dropped there, it is counted as abandoned.
pub(crate) struct Held<M> {
    carrier: Option<Arc<Carrier<M>>>,
    counts: Arc<Counts>,
}

impl<M> Held<M> {
    fn new(carrier: Arc<Carrier<M>>, counts: &Arc<Counts>) -> Self {
        Self { carrier: Some(carrier), counts: Arc::clone(counts) }
    }

    fn carrier(&self) -> &Arc<Carrier<M>> {
        self.carrier.as_ref().expect("it is taken out only by `release`, which consumes it")
    }

    /// Takes it out of the count: it has become something else.
    fn release(mut self) -> Arc<Carrier<M>> {
        self.carrier.take().expect("it is taken out once")
    }
}

impl<M> Drop for Held<M> {
    fn drop(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            Carrier::let_go(carrier);
            add(&self.counts.abandoned, 1);
        }
    }
}

/// The timers of a worker reach no farther than two years.
const LONGEST_DELAY: Duration = Duration::from_secs(365 * 86_400);

struct Retry<M> {
    held: Held<M>,
    /// Calls so far.
    attempts: u32,
    cause: Cause,
    key: Option<u64>,
}

/// The hash of a message's key: messages of different keys may share it, and then each other's order.
pub(crate) fn hashed_key<M: Message>(message: &M) -> Option<u64> {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    message.key().map(|key| HASHER.hash_one(key))
}

/// Takes messages from the inbox and calls the handler, until there are no more or the subscription is given up.
pub(crate) async fn work<M: Message, H: Handler<M>>(shared: Arc<Shared<M, H>>, inbox: Inbox<M>) {
    let worker = Worker { shared, retries: DelayQueue::new(), parked: HashMap::new(), behind: 0 };
    worker.run(inbox).await;
}

struct Worker<M, H> {
    shared: Arc<Shared<M, H>>,
    retries: DelayQueue<Retry<M>>,
    /// Messages behind one of their key that waits for its retry.
    parked: HashMap<u64, VecDeque<Held<M>>>,
    /// How many those are.
    behind: usize,
}

enum Next<M> {
    Message(Held<M>),
    Retry(Retry<M>),
    Drain,
    End,
}

impl<M: Message, H: Handler<M>> Worker<M, H> {
    async fn run(mut self, mut inbox: Inbox<M>) {
        let mut ended = false;
        let shared = Arc::clone(&self.shared);
        loop {
            // A full waiting room stops the intake where order matters; elsewhere the failed message becomes a dead letter.
            let intake = !ended && (!shared.ordered || self.retries.len() + self.behind < shared.waiting);
            // The usual way: nothing waits for a retry, the next message is there, and nobody is to be listened to.
            if intake
                && self.retries.is_empty()
                && !shared.stop.is_cancelled()
                && let Some(held) = inbox.try_next()
            {
                self.first(held).await;
                tokio::task::coop::consume_budget().await;
                continue;
            }
            let next = tokio::select! {
                biased;
                () = shared.stop.cancelled() => return,
                () = shared.draining.cancelled(), if !self.retries.is_empty() => Next::Drain,
                Some(due) = poll_fn(|context| self.retries.poll_expired(context)), if !self.retries.is_empty() => {
                    Next::Retry(due.into_inner())
                }
                message = inbox.next(), if intake => message.map_or(Next::End, Next::Message),
                else => return,
            };
            match next {
                Next::Message(held) => self.first(held).await,
                Next::Retry(retry) => self.again(retry).await,
                Next::Drain => self.give_up_waiting(),
                Next::End => ended = true,
            }
            if ended && self.retries.is_empty() {
                return;
            }
            // A queue that is never empty must not keep its thread from other tasks.
            tokio::task::coop::consume_budget().await;
        }
    }

    async fn first(&mut self, held: Held<M>) {
        let key = if self.shared.ordered { hashed_key(held.carrier().message()) } else { None };
        if let Some(key) = key
            && let Some(behind) = self.parked.get_mut(&key)
        {
            behind.push_back(held);
            self.behind += 1;
            return;
        }
        self.attempt(held, 1, key).await;
    }

    async fn again(&mut self, retry: Retry<M>) {
        add(&self.shared.counts.retried, 1);
        let Retry { held, attempts, key, .. } = retry;
        if self.attempt(held, attempts + 1, key).await {
            return;
        }
        let Some(key) = key else { return };
        // What waited behind it goes on, until one of them has to wait itself.
        while let Some(next) = self.parked.get_mut(&key).and_then(VecDeque::pop_front) {
            self.behind -= 1;
            if self.shared.stop.is_cancelled() {
                return;
            }
            if self.attempt(next, 1, Some(key)).await {
                return;
            }
        }
        self.parked.remove(&key);
    }

    /// Calls the handler. True if the message waits for a retry.
    async fn attempt(&mut self, held: Held<M>, attempt: u32, key: Option<u64>) -> bool {
        let shared = &self.shared;
        let Err(cause) = shared.call(Arc::clone(held.carrier()), attempt).await else {
            Carrier::let_go(held.release());
            add(&shared.counts.delivered, 1);
            return false;
        };
        if cause.is_permanent() {
            shared.bury(held, Reason::Permanent, Some(cause), attempt);
            return false;
        }
        let delay = shared
            .retry
            .as_ref()
            .and_then(|policy| catch_unwind(AssertUnwindSafe(|| policy.delay(attempt, &cause))).unwrap_or_default());
        match delay {
            None => shared.bury(held, Reason::RetriesExhausted, Some(cause), attempt),
            Some(_) if shared.draining.is_cancelled() => shared.bury(held, Reason::Shutdown, Some(cause), attempt),
            Some(_) if key.is_none() && self.retries.len() >= shared.waiting => {
                shared.bury(held, Reason::TooManyRetries, Some(cause), attempt);
            }
            Some(delay) => {
                self.retries.insert(Retry { held, attempts: attempt, cause, key }, delay.min(LONGEST_DELAY));
                if let Some(key) = key {
                    self.parked.entry(key).or_default();
                }
                return true;
            }
        }
        false
    }

    /// The bus shuts down: what waits for a retry, and what waits behind it, will not be tried.
    fn give_up_waiting(&mut self) {
        while let Some(first) = self.retries.peek() {
            let Retry { held, attempts, cause, .. } = self.retries.remove(&first).into_inner();
            self.shared.bury(held, Reason::Shutdown, Some(cause), attempts);
        }
        for held in std::mem::take(&mut self.parked).into_values().flatten() {
            self.shared.bury(held, Reason::Shutdown, None, 0);
        }
        self.behind = 0;
    }
}

impl<M: Message, H: Handler<M>> Shared<M, H> {
    /// One call of the handler, in this task.
    async fn call(&self, carrier: Arc<Carrier<M>>, attempt: u32) -> Result<(), Cause> {
        let mut current =
            Current::new(Running::Carried(Arc::clone(&carrier) as Arc<_>), Busy::NONE.with(self.topic.id));
        let call = async move {
            let mut handling = pin!({
                let _in_here = current.enter();
                self.handler.handle(Delivery::new(carrier, attempt))
            });
            let handled = poll_fn(|context| {
                let _in_here = current.enter();
                handling.as_mut().poll(context)
            });
            handled.await.map_err(Cause::Error)
        };
        contained(async {
            match self.timeout {
                None => call.await,
                Some(limit) => tokio::time::timeout(limit, call).await.unwrap_or(Err(Cause::TimedOut)),
            }
        })
        .await
    }

    /// The message will not be handled: it becomes a dead letter, or is dropped.
    fn bury(self: &Arc<Self>, held: Held<M>, reason: Reason, cause: Option<Cause>, attempts: u32) {
        let carrier = held.release();
        // Nobody can look at the dead letters of a bus that is gone.
        let Some(dead_letters) = self.dead_letters.as_ref().and_then(Weak::upgrade) else {
            Carrier::let_go(carrier);
            add(&self.counts.dropped, 1);
            return;
        };
        add(&self.counts.dead_lettered, 1);
        dead_letters.add(Undeliverable {
            metadata: carrier.metadata().clone(),
            message_type: M::TYPE,
            handler: Arc::clone(&self.name),
            reason,
            cause,
            attempts,
            message: Arc::new(Letter { shared: Arc::clone(self), carrier }),
        });
    }
}

/// A panic, also one in what a future drops, is a cause of failure and not the worker's end.
async fn contained(future: impl Future<Output = Result<(), Cause>>) -> Result<(), Cause> {
    let mut future = pin!(future);
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)))
            .unwrap_or_else(|payload| Poll::Ready(Err(Cause::panicked(&*payload))))
    })
    .await
}

struct Letter<M, H> {
    shared: Arc<Shared<M, H>>,
    carrier: Arc<Carrier<M>>,
}

impl<M: Message, H: Handler<M>> Replay for Letter<M, H> {
    fn as_any(&self) -> &dyn std::any::Any {
        self.carrier.message()
    }

    fn replay(&self, attempt: u32) -> Pin<Box<dyn Future<Output = Result<(), Cause>> + Send + '_>> {
        Box::pin(self.shared.call(Arc::clone(&self.carrier), attempt))
    }
}

/// Deals the messages of the ring to lanes by their keys. What has no key goes from lane to lane.
pub(crate) async fn dispatch<M: Message>(inbox: Share<M>, lanes: Vec<mpsc::Sender<Held<M>>>, stop: CancellationToken) {
    let mut next_lane = 0;
    loop {
        let held = match inbox.try_next() {
            Some(held) if !stop.is_cancelled() => held,
            Some(_) => return,
            None => tokio::select! {
                biased;
                () = stop.cancelled() => return,
                held = inbox.next() => match held {
                    Some(held) => held,
                    None => return,
                },
            },
        };
        let lane = hashed_key(held.carrier().message()).map_or_else(
            || {
                next_lane = (next_lane + 1) % lanes.len();
                next_lane
            },
            |hash| (hash % lanes.len() as u64) as usize,
        );
        let held = match lanes[lane].try_send(held) {
            Ok(()) => {
                tokio::task::coop::consume_budget().await;
                continue;
            }
            Err(TrySendError::Full(held)) => held,
            // A lane that is gone was stopped, and so is this.
            Err(TrySendError::Closed(_)) => return,
        };
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            place = lanes[lane].reserve() => place,
        };
        let Ok(place) = place else { return };
        place.send(held);
    }
}
