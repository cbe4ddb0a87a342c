//! Messages that no handler would take: kept with the reason, until they are handled again or thrown away.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::error::Cause;
use crate::metadata::{MessageId, Metadata};

/// Why a message became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// Its cause is permanent: a retry would not help.
    Permanent,
    /// It was tried as often as the retry policy says.
    RetriesExhausted,
    /// As many messages were waiting for a retry as the subscription allows.
    TooManyRetries,
    /// The bus was shut down while the message waited for a retry, or behind one that did, or for its delayed publish.
    Shutdown,
    /// Its delayed publish was refused when the time had come, or all its handlers failed.
    Unpublished,
}

/// The place of a dead letter in the order of arrival: 0 and up, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeadLetterId(u64);

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A message that one subscription could not handle.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its place in the order of arrival.
    pub id: DeadLetterId,
    /// Who the message is. Several subscriptions may each have failed with the same message.
    pub metadata: Metadata,
    /// The type of the message, by its [`Message::TYPE`](crate::Message::TYPE).
    pub message_type: &'static str,
    /// The subscription that could not handle it.
    pub handler: Arc<str>,
    /// Why it is here.
    pub reason: Reason,
    /// What the last call died of, if there was one.
    pub cause: Option<Arc<Cause>>,
    /// Calls that failed, replays included.
    pub attempts: u32,
    /// When it arrived.
    pub time: SystemTime,
    message: Arc<dyn Replay>,
}

impl DeadLetter {
    /// The message itself, if it is an `M`.
    pub fn message<M: 'static>(&self) -> Option<&M> {
        self.message.as_any().downcast_ref()
    }
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("message_type", &self.message_type)
            .field("handler", &self.handler)
            .field("reason", &self.reason)
            .field("cause", &self.cause)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

/// A message and the handler that could not handle it, their types forgotten.
pub(crate) trait Replay: Send + Sync {
    fn as_any(&self) -> &dyn std::any::Any;
    fn replay(&self, attempt: u32) -> Pin<Box<dyn Future<Output = Result<(), Cause>> + Send + '_>>;
}

/// What a subscription hands over.
pub(crate) struct Undeliverable {
    pub(crate) metadata: Metadata,
    pub(crate) message_type: &'static str,
    pub(crate) handler: Arc<str>,
    pub(crate) reason: Reason,
    pub(crate) cause: Option<Cause>,
    pub(crate) attempts: u32,
    pub(crate) message: Arc<dyn Replay>,
}

/// Why a dead letter was not replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// There is no such letter: it was evicted, purged or replayed.
    #[error("there is no dead letter {0}")]
    NotFound(DeadLetterId),
    /// The handler failed again, of this cause: the letter stays.
    #[error("{0}")]
    Failed(Arc<Cause>),
}

/// The dead letters of a bus, at most as many as its builder says: the oldest goes when one too many comes, and is counted.
#[derive(Debug)]
pub struct DeadLetters {
    capacity: usize,
    letters: Mutex<Letters>,
}

#[derive(Debug, Default)]
struct Letters {
    by_id: BTreeMap<DeadLetterId, DeadLetter>,
    by_message: HashMap<MessageId, Vec<DeadLetterId>>,
    counts: HashMap<Reason, usize>,
    next: u64,
    evicted: u64,
}

impl Letters {
    /// Returns the oldest if there is one too many.
    fn insert(&mut self, letter: DeadLetter, capacity: usize) -> Option<DeadLetter> {
        self.by_message.entry(letter.metadata.id).or_default().push(letter.id);
        *self.counts.entry(letter.reason).or_default() += 1;
        self.by_id.insert(letter.id, letter);
        if self.by_id.len() <= capacity {
            return None;
        }
        self.evicted += 1;
        let oldest = *self.by_id.first_key_value()?.0;
        self.remove(oldest)
    }

    fn remove(&mut self, id: DeadLetterId) -> Option<DeadLetter> {
        let letter = self.by_id.remove(&id)?;
        if let Some(ids) = self.by_message.get_mut(&letter.metadata.id) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_message.remove(&letter.metadata.id);
            }
        }
        if let Some(count) = self.counts.get_mut(&letter.reason) {
            *count -= 1;
        }
        Some(letter)
    }
}

impl DeadLetters {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, letters: Mutex::default() }
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, undeliverable: Undeliverable) {
        let Undeliverable { metadata, message_type, handler, reason, cause, attempts, message } = undeliverable;
        let mut letters = self.letters();
        let id = DeadLetterId(letters.next);
        letters.next += 1;
        let (cause, time) = (cause.map(Arc::new), SystemTime::now());
        let letter = DeadLetter { id, metadata, message_type, handler, reason, cause, attempts, time, message };
        let evicted = letters.insert(letter, self.capacity);
        drop(letters);
        // The user's message goes outside of the lock, and a panic of its destructor is not the worker's.
        drop(catch_unwind(AssertUnwindSafe(|| drop(evicted))));
    }

    /// How many letters there are.
    pub fn len(&self) -> usize {
        self.letters().by_id.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were evicted because one too many came.
    pub fn evicted(&self) -> u64 {
        self.letters().evicted
    }

    /// How many there are for this reason.
    pub fn count(&self, reason: Reason) -> usize {
        self.letters().counts.get(&reason).copied().unwrap_or(0)
    }

    /// Up to `limit` letters, oldest first, after the one named, or from the first. Cost: logarithmic, and linear in `limit`.
    pub fn page(&self, after: Option<DeadLetterId>, limit: usize) -> Vec<DeadLetter> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.letters().by_id.range((from, Bound::Unbounded)).take(limit).map(|(_, letter)| letter.clone()).collect()
    }

    /// One letter.
    pub fn get(&self, id: DeadLetterId) -> Option<DeadLetter> {
        self.letters().by_id.get(&id).cloned()
    }

    /// The letters of one message: one of each subscription that could not handle it.
    pub fn of_message(&self, id: MessageId) -> Vec<DeadLetter> {
        let letters = self.letters();
        let ids = letters.by_message.get(&id).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| letters.by_id.get(id)).cloned().collect()
    }

    /// Throws away the letters that `which` says yes to; returns how many. Called under the queue's lock: `which` must not use it.
    pub fn purge(&self, mut which: impl FnMut(&DeadLetter) -> bool) -> usize {
        let mut letters = self.letters();
        let ids: Vec<DeadLetterId> =
            letters.by_id.values().filter(|letter| which(letter)).map(|letter| letter.id).collect();
        let purged: Vec<DeadLetter> = ids.into_iter().filter_map(|id| letters.remove(id)).collect();
        drop(letters);
        purged.len()
    }

    /// Hands a letter's message to the handler that could not handle it, in the caller's task. If it succeeds now, the letter is gone;
    /// if not, the letter stays with the new cause. Other messages of the same key may have been handled since: a replay is out of
    /// order. A letter that is being replayed is taken out: a second replay does not find it.
    ///
    /// # Cancellation
    /// Dropped while the handler runs, the letter is back.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub async fn replay(&self, id: DeadLetterId) -> Result<(), ReplayError> {
        let letter = self.letters().remove(id).ok_or(ReplayError::NotFound(id))?;
        let mut taken = Taken { letters: self, letter, handled: false };
        let attempt = taken.letter.attempts + 1;
        let message = Arc::clone(&taken.letter.message);
        let Err(cause) = message.replay(attempt).await else {
            taken.handled = true;
            return Ok(());
        };
        let cause = Arc::new(cause);
        taken.letter.attempts = attempt;
        taken.letter.reason = if cause.is_permanent() { Reason::Permanent } else { Reason::RetriesExhausted };
        taken.letter.cause = Some(Arc::clone(&cause));
        Err(ReplayError::Failed(cause))
    }
}

/// A letter that is being replayed, and comes back if nothing becomes of it.
struct Taken<'a> {
    letters: &'a DeadLetters,
    letter: DeadLetter,
    handled: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.handled {
            let mut letters = self.letters.letters();
            let evicted = letters.insert(self.letter.clone(), self.letters.capacity);
            drop(letters);
            drop(evicted);
        }
    }
}
