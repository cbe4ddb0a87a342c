//! Subscribers that lose messages instead of holding publishers up, and know what they lost.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::hash::Hash;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::task::coop::cooperative;

use super::slots::{LossyCursor, Trimmed};
use crate::sync::{Arc, AtomicU64, Ordering};

/// What a subscriber loses when more than its capacity is waiting for it.
#[non_exhaustive]
pub enum Loss<T> {
    /// What has waited longest.
    DropOldest,
    /// What comes while it is full.
    DropNewest,
    /// Everything that comes from then on: the subscription ends after what was waiting, with a [`Gap`].
    Disconnect,
    /// A message whose key comes again: the newer takes its place. More keys than the capacity: what has waited longest.
    /// Made by [`Loss::conflate_by`].
    Conflate(Conflation<T>),
}

impl<T> Loss<T> {
    /// At most one waiting message of each key, the latest. `key` is called by publishers and by the subscriber, and must say the
    /// same for the same message.
    pub fn conflate_by<K: Eq + Hash + Send + 'static>(key: impl Fn(&T) -> K + Send + 'static) -> Self
    where
        T: 'static,
    {
        Self::Conflate(Conflation(Box::new(ByKey { key, places: HashMap::new() })))
    }
}

impl<T> fmt::Debug for Loss<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DropOldest => "DropOldest",
            Self::DropNewest => "DropNewest",
            Self::Disconnect => "Disconnect",
            Self::Conflate(_) => "Conflate",
        })
    }
}

/// Where the waiting message of each key lies.
pub struct Conflation<T>(Box<dyn Places<T> + Send>);

impl<T> fmt::Debug for Conflation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conflation")
    }
}

trait Places<T> {
    /// The place of the message's key if it is not below `first`; otherwise the key's place is `next` from now on.
    fn place(&mut self, message: &T, first: u64, next: u64) -> Option<u64>;
    fn forget(&mut self, message: &T);
}

struct ByKey<K, F> {
    key: F,
    places: HashMap<K, u64>,
}

impl<T, K: Eq + Hash, F: Fn(&T) -> K> Places<T> for ByKey<K, F> {
    fn place(&mut self, message: &T, first: u64, next: u64) -> Option<u64> {
        let place = self.places.entry((self.key)(message)).or_insert(next);
        if *place >= first && *place < next {
            return Some(*place);
        }
        *place = next;
        None
    }

    fn forget(&mut self, message: &T) {
        self.places.remove(&(self.key)(message));
    }
}

/// What the user's code says, or `None` if it panics: that is the loss of one message and not of the ring.
fn contained<R>(foreign: impl FnOnce() -> R) -> Option<R> {
    let mut panicked = match catch_unwind(AssertUnwindSafe(foreign)) {
        Ok(result) => return Some(result),
        Err(payload) => Some(payload),
    };
    // What a panic carries has a destructor of the user's, too.
    while let Some(payload) = panicked {
        panicked = catch_unwind(AssertUnwindSafe(|| drop(payload))).err();
    }
    None
}

/// Drops messages one by one: a destructor that panics is not the business of whoever happens to drop them.
pub(super) fn discard<T>(messages: impl IntoIterator<Item = T>) {
    for message in messages {
        contained(|| drop(message));
    }
}

/// Messages that a subscriber did not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Position of the first of them: the number of messages published to the ring before it.
    pub first: u64,
    /// Position of the last of them. What lies between may have been delivered where messages conflate.
    pub last: u64,
    /// How many, exactly.
    pub missed: u64,
}

impl Gap {
    fn at(positions: Range<u64>) -> Option<Self> {
        let missed = positions.end - positions.start;
        (missed > 0).then(|| Self { first: positions.start, last: positions.end - 1, missed })
    }

    fn and(self, other: Option<Self>) -> Self {
        other.map_or(self, |other| Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            missed: self.missed + other.missed,
        })
    }
}

/// What a lossy subscriber receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// A message.
    Message(T),
    /// Messages that were lost since the last call.
    Gap(Gap),
}

impl<T> Received<T> {
    /// The message, if it is one.
    pub fn message(self) -> Option<T> {
        match self {
            Self::Message(message) => Some(message),
            Self::Gap(_) => None,
        }
    }
}

enum Waiting<T> {
    Message(u64, T),
    Gap(Gap),
}

/// What waits for a lossy subscriber, outside of the ring. It is put here by the subscriber before it reads, or by a publisher that
/// finds the ring full.
pub(super) struct Lossy<T> {
    loss: Loss<T>,
    capacity: usize,
    copy: fn(&T) -> T,
    /// Lost before the first of `waiting`.
    gap: Option<Gap>,
    waiting: VecDeque<Waiting<T>>,
    /// Messages in `waiting`.
    held: usize,
    /// The place of the first of `waiting`; places are counted on.
    first_place: u64,
    /// Lost, and yet to be dropped: what the user's destructors do is done outside of every lock.
    pub(super) discarded: Trimmed<T>,
    dropped: u64,
    received: u64,
}

impl<T> Lossy<T> {
    pub(super) fn new(loss: Loss<T>, capacity: usize) -> Self
    where
        T: Clone,
    {
        Self {
            loss,
            capacity,
            copy: T::clone,
            gap: None,
            waiting: VecDeque::new(),
            held: 0,
            first_place: 0,
            discarded: Trimmed::new(),
            dropped: 0,
            received: 0,
        }
    }

    /// Takes over the messages at `positions`. False if the subscription ends here.
    pub(super) fn absorb<'a>(&mut self, positions: Range<u64>, read: impl Fn(u64) -> &'a T) -> bool
    where
        T: 'a,
    {
        let coming = (positions.end - positions.start) as usize;
        match self.loss {
            Loss::DropOldest => {
                // What would be dropped at once is not copied.
                let kept = positions.end - coming.min(self.capacity) as u64;
                let excess = (self.held + coming).saturating_sub(self.capacity).min(self.held);
                for _ in 0..excess {
                    self.drop_oldest();
                }
                self.lose_first(Gap::at(positions.start..kept));
                self.take(kept..positions.end, read);
            }
            Loss::DropNewest | Loss::Disconnect => {
                let kept = positions.start + coming.min(self.capacity - self.held) as u64;
                self.take(positions.start..kept, read);
                let lost = Gap::at(kept..positions.end);
                if let Some(gap) = lost {
                    self.lose_last(gap);
                    return !matches!(self.loss, Loss::Disconnect);
                }
            }
            Loss::Conflate(_) => {
                let copy = self.copy;
                for position in positions {
                    match contained(|| copy(read(position))) {
                        Some(message) => self.conflate(position, message),
                        None => self.lose_first(Gap::at(position..position + 1)),
                    }
                }
            }
        }
        true
    }

    fn take<'a>(&mut self, positions: Range<u64>, read: impl Fn(u64) -> &'a T)
    where
        T: 'a,
    {
        let copy = self.copy;
        for position in positions {
            match contained(|| copy(read(position))) {
                Some(message) => {
                    self.waiting.push_back(Waiting::Message(position, message));
                    self.held += 1;
                }
                None => self.lose_last(Gap { first: position, last: position, missed: 1 }),
            }
        }
    }

    fn conflate(&mut self, position: u64, message: T) {
        let Loss::Conflate(Conflation(places)) = &mut self.loss else { return };
        let (first, next) = (self.first_place, self.first_place + self.waiting.len() as u64);
        match contained(|| places.place(&message, first, next)) {
            None => {
                self.discarded.push(message);
                self.lose_first(Gap::at(position..position + 1));
            }
            Some(None) => {
                self.waiting.push_back(Waiting::Message(position, message));
                self.held += 1;
                if self.held > self.capacity {
                    self.drop_oldest();
                }
            }
            Some(Some(place)) => {
                let slot = &mut self.waiting[(place - first) as usize];
                if let Waiting::Message(older, lost) = std::mem::replace(slot, Waiting::Message(position, message)) {
                    self.discarded.push(lost);
                    self.lose_first(Gap::at(older..older + 1));
                }
            }
        }
    }

    fn drop_oldest(&mut self) {
        match self.pop_waiting() {
            Some(Waiting::Message(position, lost)) => {
                self.discarded.push(lost);
                self.lose_first(Gap::at(position..position + 1));
            }
            Some(Waiting::Gap(gap)) => self.gap = Some(gap.and(self.gap)),
            None => {}
        }
    }

    fn lose_first(&mut self, gap: Option<Gap>) {
        if let Some(gap) = gap {
            self.dropped += gap.missed;
            self.gap = Some(gap.and(self.gap));
        }
    }

    fn lose_last(&mut self, gap: Gap) {
        self.dropped += gap.missed;
        match self.waiting.back_mut() {
            Some(Waiting::Gap(last)) => *last = gap.and(Some(*last)),
            _ => self.waiting.push_back(Waiting::Gap(gap)),
        }
    }

    fn pop_waiting(&mut self) -> Option<Waiting<T>> {
        let first = self.waiting.pop_front()?;
        self.first_place += 1;
        if let Waiting::Message(_, message) = &first {
            self.held -= 1;
            if let Loss::Conflate(Conflation(places)) = &mut self.loss {
                // A key that is not forgotten points below `first_place`, where nobody looks.
                contained(|| places.forget(message));
            }
        }
        Some(first)
    }

    fn pop(&mut self) -> Option<Received<T>> {
        if let Some(gap) = self.gap.take() {
            return Some(Received::Gap(gap));
        }
        Some(match self.pop_waiting()? {
            Waiting::Gap(gap) => Received::Gap(gap),
            Waiting::Message(_, message) => {
                self.received += 1;
                Received::Message(message)
            }
        })
    }

    /// Takes out all messages; what was lost stays in the account.
    fn take_all(&mut self) -> Vec<T> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        self.held = 0;
        let messages = waiting.filter_map(|waiting| match waiting {
            Waiting::Message(_, message) => Some(message),
            Waiting::Gap(_) => None,
        });
        messages.collect()
    }

    fn is_empty(&self) -> bool {
        self.gap.is_none() && self.waiting.is_empty()
    }
}

/// A subscriber that never holds a publisher up. It gets messages of its own (`T: Clone`, in practice an `Arc`), and a [`Gap`] with
/// the exact number where it lost some.
///
/// # Cancellation
/// Every future here may be dropped at any time: nothing is taken before it is returned.
pub struct LossySubscriber<T> {
    cursor: LossyCursor<T>,
    abandoned: Arc<AtomicU64>,
}

impl<T> LossySubscriber<T> {
    pub(super) fn new(cursor: LossyCursor<T>, abandoned: Arc<AtomicU64>) -> Self {
        Self { cursor, abandoned }
    }

    /// What comes next, or `None` once the subscription has ended and everything was received.
    pub async fn receive(&mut self) -> Option<Received<T>> {
        cooperative(poll_fn(|context| {
            self.cursor.poll_ready(context, || {
                // The end is looked at first: what was published before it is then there.
                let at_end = self.cursor.is_at_end();
                match self.cursor.with(Lossy::pop) {
                    Some(received) => Some(Some(received)),
                    None => at_end.then_some(None),
                }
            })
        }))
        .await
    }

    /// What comes next, if it is there.
    pub fn try_receive(&mut self) -> Option<Received<T>> {
        self.cursor.with(Lossy::pop)
    }

    /// What comes next; the thread sleeps until then. `None` once the subscription has ended and everything was received.
    ///
    /// Not for threads that run async tasks.
    #[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
    pub fn receive_blocking(&mut self) -> Option<Received<T>> {
        super::wait::block_on(self.receive())
    }

    /// True if the subscription has ended and everything was received.
    pub fn is_finished(&self) -> bool {
        let at_end = self.cursor.is_at_end();
        at_end && self.cursor.with(|lossy| lossy.is_empty())
    }

    /// Messages received so far.
    pub fn received(&self) -> u64 {
        self.cursor.with(|lossy| lossy.received)
    }

    /// Messages lost so far.
    pub fn dropped(&self) -> u64 {
        self.cursor.with(|lossy| lossy.dropped)
    }
}

impl<T> LossySubscriber<T> {
    /// Ends the subscription; returns how many messages were not received, and not lost before.
    pub(crate) fn end(&mut self) -> u64 {
        let in_the_ring = self.cursor.detach();
        let waiting = self.cursor.with(Lossy::take_all);
        let unread = in_the_ring + waiting.len() as u64;
        self.abandoned.fetch_add(unread, Ordering::AcqRel);
        discard(waiting);
        unread
    }
}

impl<T> Drop for LossySubscriber<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T> fmt::Debug for LossySubscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossySubscriber").finish_non_exhaustive()
    }
}
