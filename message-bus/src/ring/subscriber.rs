//! Subscribers that lose nothing and read in place.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::task::{Context, Poll};

use tokio::task::coop::cooperative;

use super::slots::Cursor;
use crate::sync::{Arc, AtomicU64, Ordering};

/// A subscriber that gets every message, in the order of publication, by reference. Publishers wait for it, or are refused, as its
/// [`Pressure`](super::Pressure) says.
///
/// # Cancellation
/// Every future here may be dropped at any time: a message counts as read when the [`Item`] or [`Batch`] that lends it is dropped.
/// On tokio they take part in cooperative scheduling: a subscriber that always finds something lets other tasks run.
///
/// # Performance
/// A read costs no allocation and no lock: an acquiring load, and once a batch a store of the cursor, with a full fence where publishers
/// have waited for room of late.
pub struct Subscriber<T> {
    cursor: Cursor<T>,
    read: u64,
    /// The last batch was smaller than it could have been.
    short: bool,
    abandoned: Arc<AtomicU64>,
}

/// How often a subscriber lets other tasks run after a batch that was shorter than asked for and than [`LARGE`].
const PATIENCE: u32 = if cfg!(any(message_bus_loom, message_bus_shuttle)) { 0 } else { 4 };
/// Messages of a batch that is worth its price whatever was asked for.
const LARGE: u64 = 256;

/// Why there is nothing to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryNextError {
    /// Nothing yet.
    #[error("no message is there yet")]
    Empty,
    /// Nothing any more: the ring is closed and all was read.
    #[error("the ring is closed and everything was read")]
    Closed,
}

impl<T> Subscriber<T> {
    pub(super) fn new(cursor: Cursor<T>, abandoned: Arc<AtomicU64>) -> Self {
        Self { cursor, read: 0, short: false, abandoned }
    }

    /// The next message, if it is there.
    ///
    /// # Errors
    /// [`TryNextError`] says whether there will be one.
    pub fn try_next(&mut self) -> Result<Item<'_, T>, TryNextError> {
        self.try_available(1)?;
        Ok(Item { subscriber: self })
    }

    /// The next messages, 1 to `most` of them, if there are any.
    ///
    /// # Errors
    /// [`TryNextError`] says whether there will be some.
    pub fn try_next_batch(&mut self, most: usize) -> Result<Batch<'_, T>, TryNextError> {
        let available = self.try_available(most)?;
        Ok(Batch { subscriber: self, available, wanted: most as u64, taken: Cell::new(0) })
    }

    fn try_available(&mut self, most: usize) -> Result<u64, TryNextError> {
        let most = most.max(1) as u64;
        match self.cursor.available(most) {
            0 if !self.cursor.is_at_end() => Err(TryNextError::Empty),
            // The last message may have been published, and the ring closed, since the first look.
            0 => match self.cursor.available(most) {
                0 => Err(TryNextError::Closed),
                available => Ok(available),
            },
            available => Ok(available),
        }
    }

    /// The next message, or `None` once the ring is closed and everything was read.
    pub async fn next(&mut self) -> Option<Item<'_, T>> {
        if !cooperative(poll_fn(|context| self.poll_ready(context))).await {
            return None;
        }
        Some(Item { subscriber: self })
    }

    /// The next messages, 1 to `most` of them, or `None` once the ring is closed and everything was read.
    ///
    /// After a batch shorter than asked for, and than 256, other tasks get four turns first, whatever is there by then: a subscriber
    /// and a publisher that touch the same cache lines in turn are both slow, and this one then lets more gather. Who cannot wait for
    /// that takes [`next`](Self::next).
    pub async fn next_batch(&mut self, most: usize) -> Option<Batch<'_, T>> {
        // A short batch says that this subscriber is at the publisher's heels, where each waits for cache lines of the other.
        if std::mem::take(&mut self.short) {
            for _ in 0..PATIENCE {
                super::wait::give_way().await;
            }
        }
        if !cooperative(poll_fn(|context| self.poll_ready(context))).await {
            return None;
        }
        self.try_next_batch(most).ok()
    }

    /// Ready with true when [`try_next`](Self::try_next) has a message, with false at the end.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        self.cursor.poll_available(context)
    }

    /// The next message; the thread sleeps until then. `None` once the ring is closed and everything was read.
    ///
    /// Not for threads that run async tasks.
    #[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
    pub fn next_blocking(&mut self) -> Option<Item<'_, T>> {
        self.wait_blocking().then(|| Item { subscriber: self })
    }

    /// The next messages, 1 to `most` of them; the thread sleeps until there are some. `None` once the ring is closed and everything
    /// was read.
    ///
    /// Not for threads that run async tasks.
    #[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
    pub fn next_batch_blocking(&mut self, most: usize) -> Option<Batch<'_, T>> {
        if !self.wait_blocking() {
            return None;
        }
        self.try_next_batch(most).ok()
    }

    #[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
    fn wait_blocking(&mut self) -> bool {
        if super::wait::spin(|| self.cursor.available(1) > 0) {
            return true;
        }
        super::wait::block_on(poll_fn(|context| self.poll_ready(context)))
    }

    /// Messages read so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Messages published and not yet read.
    pub fn pending(&self) -> u64 {
        self.cursor.slots().claimed() - self.cursor.position()
    }

    /// The position of the next message: how many were published to the ring before it.
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }

    fn advance(&mut self, count: u64) {
        self.read += count;
        self.cursor.advance(count);
    }
}

impl<T> Subscriber<T> {
    /// Ends the subscription; returns how many messages were not read.
    pub(crate) fn end(&mut self) -> u64 {
        let unread = self.cursor.detach();
        self.abandoned.fetch_add(unread, Ordering::AcqRel);
        unread
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("position", &self.position())
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

/// One message, lent by the ring. It counts as read when this is dropped.
#[must_use = "a message that is not looked at counts as read"]
pub struct Item<'a, T> {
    subscriber: &'a mut Subscriber<T>,
}

impl<T> Deref for Item<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.subscriber.cursor.peek(0)
    }
}

impl<T> Drop for Item<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.subscriber.advance(1);
    }
}

impl<T: fmt::Debug> fmt::Debug for Item<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Item").field(&**self).finish()
    }
}

/// Messages in a row, lent by the ring. Those that were iterated over count as read when this is dropped; the others come again.
#[must_use = "only what is iterated over counts as read"]
pub struct Batch<'a, T> {
    subscriber: &'a mut Subscriber<T>,
    available: u64,
    wanted: u64,
    taken: Cell<u64>,
}

impl<T> Batch<'_, T> {
    /// How many messages there are.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.available as usize
    }

    /// The messages, oldest first.
    pub fn iter(&self) -> BatchIter<'_, T> {
        BatchIter { cursor: &self.subscriber.cursor, taken: &self.taken, next: 0, end: self.available }
    }
}

impl<'a, T> IntoIterator for &'a Batch<'_, T> {
    type Item = &'a T;
    type IntoIter = BatchIter<'a, T>;

    fn into_iter(self) -> BatchIter<'a, T> {
        self.iter()
    }
}

impl<T> Drop for Batch<'_, T> {
    fn drop(&mut self) {
        self.subscriber.short = self.available < self.wanted.min(LARGE);
        self.subscriber.advance(self.taken.get());
    }
}

impl<T> fmt::Debug for Batch<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.available).finish_non_exhaustive()
    }
}

/// Iterates over a [`Batch`].
pub struct BatchIter<'a, T> {
    cursor: &'a Cursor<T>,
    taken: &'a Cell<u64>,
    next: u64,
    end: u64,
}

impl<'a, T> Iterator for BatchIter<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        if self.next == self.end {
            return None;
        }
        let message = self.cursor.peek(self.next);
        self.next += 1;
        Some(message)
    }

    /// What internal iteration uses, `for_each` and `sum` among it: the fastest way through a batch.
    #[inline]
    fn fold<B, F: FnMut(B, &'a T) -> B>(mut self, init: B, mut fold: F) -> B {
        let mut folded = Some(init);
        let offsets = self.next..self.end;
        self.cursor.each(offsets, |message| {
            self.next += 1;
            folded = folded.take().map(|before| fold(before, message));
        });
        folded.expect("put back after each message")
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.end - self.next) as usize;
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for BatchIter<'_, T> {}

impl<T> Drop for BatchIter<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.taken.set(self.taken.get().max(self.next));
    }
}

impl<T> fmt::Debug for BatchIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIter").field("left", &(self.end - self.next)).finish_non_exhaustive()
    }
}
