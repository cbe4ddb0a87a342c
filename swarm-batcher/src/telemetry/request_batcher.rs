//! Items in, compressed POSTs out.

mod builder;
mod dead_letters;
mod delivery;
mod session;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

pub use builder::RequestBatcherBuilder;
use dead_letters::DeadLetters;
pub use delivery::DeliveryError;
use session::{Counters, Session, Settings};

use super::{EncodeError, EncodedItem, EndpointError, HttpSink, encode_item};
use crate::dead_letter::DeadLetter;
use crate::error::{Reason, Rejected};
use crate::state::FlushReport;
use crate::stats::Stats;

/// Collects telemetry and sends it by HTTP: items are encoded as they come, a batch of them is one compressed POST.
///
/// A POST leaves when [`batch_size`](RequestBatcherBuilder::batch_size) items are there, or when the oldest has waited for
/// [`max_wait`](RequestBatcherBuilder::max_wait). A handle: clones share the batcher.
///
/// ```no_run
/// use std::collections::BTreeMap;
/// use std::time::Duration;
/// use swarm_batcher::telemetry::RequestBatcher;
///
/// # async fn send() -> Result<(), Box<dyn std::error::Error>> {
/// let batcher = RequestBatcher::new("http://127.0.0.1:4318/telemetry")?;
/// batcher.start();
/// batcher.add(&BTreeMap::from([("cpu", 0.5)])).await?;
/// let report = batcher.stop(Duration::from_secs(5)).await;
/// assert!(report.drained);
/// # Ok(())
/// # }
/// ```
///
/// # When a POST fails
/// The sink sends it again, up to [`max_attempts`](super::HttpSinkBuilder::max_attempts) times. What becomes of its items then:
///
/// - If another attempt may help (no connection, no answer, 408, 429, 5xx) they are kept and sent again after a wait, not before the
///   time that the last answer's `Retry-After` names, for as long as the batcher runs. They count towards the bounds: when these are
///   reached, `add` waits and `try_add` refuses ([`on_full`](RequestBatcherBuilder::on_full) may say otherwise). When the batcher is
///   stopped they are sent once more; what fails from then on is a dead letter.
/// - Items that the server refuses for good (any other status) are dead letters at once.
///
/// With a [`dead_letter`](RequestBatcherBuilder::dead_letter) sink of your own nothing is kept: it gets the items of every POST that
/// failed, one by one.
///
/// # Dead letters
/// They are kept until they are [taken](Self::take_dead_letters), over stops and starts, with the reason of each; they can be
/// [added again](Self::add_encoded), here or to another batcher. Nothing that was accepted is dropped, but what
/// [`OnFull::ShedOldest`](crate::OnFull::ShedOldest) sheds.
///
/// They have bounds of their own, the same as those of the queue. Once there are
/// [`max_queue_items`](RequestBatcherBuilder::max_queue_items) of them, or they have
/// [`max_queue_bytes`](RequestBatcherBuilder::max_queue_bytes), adding is refused ([`AddError::TooManyDeadLetters`]) until they are
/// taken. What was accepted before that, or waited for room, may still join them: queue and dead letters together hold at most twice
/// the bounds, and what the `add`s hold that wait already.
///
/// # Duplicates
/// A server that answers 5xx, or not at all, may have taken the items: they may then arrive twice. Nothing else sends an item twice.
///
/// After some failed POSTs in a row the [`breaker`](RequestBatcherBuilder::breaker) holds POSTs back, and items wait in line. A POST that is
/// refused for good does not count for it, and ends the row.
///
/// # Order
/// With [`max_in_flight`](RequestBatcherBuilder::max_in_flight) 1, the default, POSTs leave in the order of their items. A batch that is
/// kept for later is overtaken by those behind it.
///
/// # Cancellation
/// Every future may be dropped at any time. An `add` that waits for room then adds nothing; a POST under way goes on, whoever waits for it.
///
/// # Dropping it
/// Dropped with its last handle, it is stopped with a grace of a minute, by a task of the runtime in which it was started. Its dead
/// letters, which nobody can take any more, are dropped: stop it and take them first.
#[derive(Clone)]
pub struct RequestBatcher {
    inner: Arc<Inner>,
}

struct Inner {
    sink: HttpSink,
    settings: Settings,
    /// The last one that was started. It may have been stopped.
    session: Mutex<Option<Arc<Session>>>,
    dead_letters: Arc<DeadLetters>,
}

/// Why an item was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// It cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The batcher has not been started, or was stopped.
    #[error("the batcher is stopped")]
    Stopped,
    /// The bound is reached ([`Reason::Full`]), or there is no tokio runtime ([`Reason::NoRuntime`]).
    #[error("rejected: {0}")]
    Rejected(Reason),
    /// There are as many dead letters as there may be: [`RequestBatcher::take_dead_letters`] makes room.
    #[error("there are too many dead letters: take them first")]
    TooManyDeadLetters,
}

impl From<Rejected<EncodedItem>> for AddError {
    fn from(rejected: Rejected<EncodedItem>) -> Self {
        match rejected.reason {
            Reason::Closed => Self::Stopped,
            reason => Self::Rejected(reason),
        }
    }
}

/// What has become of items and requests since the last start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RequestStats {
    /// The items.
    pub items: Stats,
    /// Requests that were begun, each of which may be sent several times.
    pub requests: u64,
    /// Requests that the server took.
    pub delivered: u64,
    /// Bytes of MessagePack in the requests, before compression.
    pub encoded_bytes: u64,
    /// Bytes of their bodies, after it.
    pub body_bytes: u64,
    /// Dead letters that are kept at this moment, those from before the last start included.
    pub dead_letters: usize,
    /// Encoded bytes of their items.
    pub dead_letter_bytes: u64,
}

/// What a stop came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// Whether everything ended in time. It does not say that the server took it: `stats.failed` are those that it did not.
    pub drained: bool,
    /// What has become of the items since the last start: `queued` is zero, `closed` are those that were not sent in time, and `in_flight`
    /// those whose POST was under way.
    pub stats: Stats,
    /// Dead letters that are kept, for [`RequestBatcher::take_dead_letters`]: all of those from before the last start, of failed POSTs and
    /// of what was closed. What is still in flight may join them.
    pub dead_letters: usize,
}

impl fmt::Debug for RequestBatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBatcher")
            .field("sink", &self.inner.sink)
            .field("settings", &self.inner.settings)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl RequestBatcher {
    /// A batcher with the defaults of [`RequestBatcherBuilder`]: 20 items a POST, which wait for at most 100 ms. It is not started.
    ///
    /// # Errors
    /// As [`HttpSink::new`](super::HttpSink::new).
    pub fn new(endpoint: &str) -> Result<Self, EndpointError> {
        Self::builder(endpoint).build()
    }

    /// Sets a batcher up.
    pub fn builder(endpoint: &str) -> RequestBatcherBuilder {
        RequestBatcherBuilder::new(endpoint)
    }

    fn with(sink: HttpSink, settings: Settings) -> Self {
        let dead_letters = Arc::new(DeadLetters::new(settings.max_queue_items, settings.max_queue_bytes));
        Self { inner: Arc::new(Inner { sink, settings, session: Mutex::new(None), dead_letters }) }
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.inner.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes items from now on, and counts anew. Nothing happens if it does already.
    ///
    /// It may be started again after it was stopped; what a stop under way has not sent yet goes on leaving beside it.
    pub fn start(&self) {
        let mut session = self.inner.session.lock().unwrap_or_else(PoisonError::into_inner);
        if session.as_ref().is_none_or(|session| !session.is_open()) {
            let old = session.replace(Arc::new(Session::new(
                &self.inner.sink,
                &self.inner.settings,
                &self.inner.dead_letters,
            )));
            drop(session);
            drop(old);
        }
    }

    /// Whether items are taken.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.session().is_some_and(|session| session.is_open())
    }

    /// Takes no more items, sends what is there without waiting for more, and waits for that, at most for `grace`. What is not sent by
    /// then is a dead letter; a POST under way goes on. An open breaker is waited for, and so is the time that a server asked for by
    /// `Retry-After`.
    ///
    /// Dropped, the future leaves a batcher that takes nothing and sends what is there.
    ///
    /// # Panics
    /// In a runtime without time, unless nothing has to be waited for.
    pub async fn stop(&self, grace: Duration) -> StopReport {
        let (drained, stats) = match self.session() {
            Some(session) => {
                let report = session.stop(grace).await;
                (report.drained, report.stats)
            }
            None => (true, Stats::default()),
        };
        StopReport { drained, stats, dead_letters: self.inner.dead_letters.size().0 }
    }

    /// The session that is to take an item.
    fn open_session(&self) -> Result<Arc<Session>, AddError> {
        let session = self.session().ok_or(AddError::Stopped)?;
        if self.inner.dead_letters.is_full() && session.is_open() {
            session.count_rejected();
            return Err(AddError::TooManyDeadLetters);
        }
        Ok(session)
    }

    /// Encodes an item, at once, and takes it. It waits for nothing but room: never for a POST, until
    /// [`max_queue_items`](RequestBatcherBuilder::max_queue_items) or [`max_queue_bytes`](RequestBatcherBuilder::max_queue_bytes) is reached.
    ///
    /// # Errors
    /// [`AddError`]; the item was not taken.
    pub fn add<'a, T>(&'a self, item: &T) -> impl Future<Output = Result<(), AddError>> + Send + use<'a, T>
    where
        T: Serialize + ?Sized,
    {
        // Not in the future: it would borrow the item, and need one that is `Sync`.
        let encoded = encode_item(item);
        async move { Ok(self.open_session()?.batcher().push(encoded?).await?) }
    }

    /// As [`RequestBatcher::add`], but never waits.
    ///
    /// # Errors
    /// [`AddError`]; the item was not taken.
    pub fn try_add<T: Serialize + ?Sized>(&self, item: &T) -> Result<(), AddError> {
        let session = self.open_session()?;
        Ok(session.batcher().try_push(encode_item(item)?)?)
    }

    /// As [`RequestBatcher::add`], for an item that is encoded already: a dead letter of this batcher or of another one, say. It is sent
    /// as it is, byte for byte. Costs one allocation, for a copy: yours is still there if it is refused, or if you stop waiting.
    ///
    /// A dead letter's [`PostError::outcome`](super::PostError::outcome) says whether the server may have taken it before.
    ///
    /// ```no_run
    /// # async fn again(batcher: swarm_batcher::telemetry::RequestBatcher) {
    /// let mut letters = std::collections::VecDeque::from(batcher.take_dead_letters());
    /// while let Some(letter) = letters.front() {
    ///     println!("{}", letter.error);
    ///     if let Some(item) = &letter.item
    ///         && batcher.add_encoded(item).await.is_err()
    ///     {
    ///         break; // It is still in `letters`, and so are those behind it.
    ///     }
    ///     letters.pop_front();
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AddError`]; the item was not taken.
    pub fn add_encoded<'a>(
        &'a self,
        item: &EncodedItem,
    ) -> impl Future<Output = Result<(), AddError>> + Send + use<'a> {
        let item = item.clone();
        async move { Ok(self.open_session()?.batcher().push(item).await?) }
    }

    /// As [`RequestBatcher::add_encoded`], but never waits.
    ///
    /// # Errors
    /// [`AddError`]; the item was not taken.
    pub fn try_add_encoded(&self, item: &EncodedItem) -> Result<(), AddError> {
        let session = self.open_session()?;
        Ok(session.batcher().try_push(item.clone())?)
    }

    /// The [dead letters](Self#dead-letters) that are kept, the oldest first, without taking them. Each has its item. Costs a copy of all
    /// of them; [`RequestStats::dead_letters`] is how many there are.
    ///
    /// None are there if a [`dead_letter`](RequestBatcherBuilder::dead_letter) sink gets them.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter<EncodedItem, DeliveryError>> {
        self.inner.dead_letters.copy()
    }

    /// Takes the [dead letters](Self#dead-letters) out, the oldest first: they are yours then, and there is room for others. Each has its
    /// item. Takes no time to speak of, however many there are.
    #[must_use = "they are kept nowhere else"]
    pub fn take_dead_letters(&self) -> Vec<DeadLetter<EncodedItem, DeliveryError>> {
        self.inner.dead_letters.take()
    }

    /// A barrier: lets everything leave that was added before, and waits until it has ended. What is added meanwhile is not waited for.
    ///
    /// Without a dead-letter sink of your own, that is as long as the server is away: give it a time-out where that matters, which changes
    /// nothing for the items. While the batcher is stopped there is nothing to wait for but what the stop has left.
    pub async fn flush(&self) -> FlushReport {
        let Some(session) = self.session() else { return FlushReport::default() };
        // Refused in the handler alone, which calls no foreign code.
        session.batcher().flush().await.unwrap_or_default()
    }

    /// What has become of items and requests since the last start.
    #[must_use]
    pub fn stats(&self) -> RequestStats {
        let counts = self.session().map_or_else(RequestStats::default, |session| session.stats());
        let (dead_letters, dead_letter_bytes) = self.inner.dead_letters.size();
        RequestStats { dead_letters, dead_letter_bytes, ..counts }
    }
}
