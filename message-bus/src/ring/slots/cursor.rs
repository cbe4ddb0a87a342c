//! The reading side: subscribers' cursors, and how they sleep.

use std::ops::Range;
use std::task::{Context, Poll};

use super::{DETACHED, Gate, SHIFT, Slots};
use crate::ring::lossy::{Lossy, discard};
use crate::sync::{Arc, Ordering, full_fence};

/// Who reads in place: one owner of a [`Gate`]. What it lends borrows it, and it moves on only when nothing is lent.
pub(in crate::ring) struct Cursor<T> {
    slots: Arc<Slots<T>>,
    gate: Arc<Gate<T>>,
    /// The same as the gate's cursor.
    next: u64,
    /// Everything from the first message of this cursor on and below is known to be published.
    seen: u64,
    /// There was nothing at the last look, and other tasks were let run before the next.
    yielded: bool,
}

/// How far a subscriber looks ahead at once: what it finds is still in the nearest cache when it reads it.
const AHEAD: u64 = 256;

impl<T> Cursor<T> {
    pub(in crate::ring) fn new(slots: Arc<Slots<T>>, gate: Arc<Gate<T>>) -> Self {
        let next = gate.cursor.load(Ordering::Acquire);
        Self { slots, gate, next, seen: next, yielded: false }
    }

    pub(in crate::ring) fn slots(&self) -> &Arc<Slots<T>> {
        &self.slots
    }

    /// Where the next message lies, counted from 0.
    pub(in crate::ring) fn position(&self) -> u64 {
        self.next - self.slots.capacity()
    }

    /// How many of the next `most` messages can be read; not always all that could be.
    #[inline]
    pub(in crate::ring) fn available(&mut self, most: u64) -> u64 {
        let end = self.next.saturating_add(most);
        // Looking farther than asked would take lines from publishers that are about to write them.
        if self.seen < end {
            if most == 1 {
                self.seen = self.slots.published_until(self.seen, end);
            } else {
                self.look_ahead(end);
            }
        }
        self.seen.min(end) - self.next
    }

    /// What another subscriber has found needs no second look, and what this one finds it tells the others.
    fn look_ahead(&mut self, end: u64) {
        let found = self.slots.found.load(Ordering::Acquire);
        if found > self.seen {
            self.seen = found;
            return;
        }
        self.seen = self.slots.published_until(self.seen, end.min(self.seen + AHEAD));
        if self.gate.whole && self.seen > found {
            self.slots.found.store(self.seen, Ordering::Release);
        }
    }

    /// The message `offset` places ahead.
    ///
    /// # Panics
    /// If [`available`](Self::available) has not said that there is one.
    #[inline]
    pub(in crate::ring) fn peek(&self, offset: u64) -> &T {
        assert!(offset < self.seen - self.next, "only what is available can be read");
        // SAFETY: the number is published and not below the gate's cursor, which stays where it is while `self` is borrowed.
        unsafe { self.slots.cell(self.next + offset).get() }
    }

    /// Calls `each` with the messages so many places ahead.
    ///
    /// # Panics
    /// If [`available`](Self::available) has not said that they are there.
    #[inline]
    pub(in crate::ring) fn each<'a>(&'a self, offsets: Range<u64>, mut each: impl FnMut(&'a T)) {
        assert!(
            offsets.start <= offsets.end && offsets.end <= self.seen - self.next,
            "only what is available can be read"
        );
        let first = self.slots.index(self.next + offsets.start);
        let count = (offsets.end - offsets.start) as usize;
        // SAFETY: as for `peek`.
        self.slots.storage.each(first, count, |cell| each(unsafe { cell.get() }));
    }

    /// Lets go of the next `count` messages, and of publishers that wait for their room.
    #[inline]
    pub(in crate::ring) fn advance(&mut self, count: u64) {
        assert!(count <= self.seen - self.next, "only what was available can be left behind");
        if count == 0 {
            return;
        }
        #[cfg(message_bus_loom)]
        for number in self.next..self.next + count {
            self.slots.cell(number).touch();
        }
        self.next += count;
        self.gate.cursor.store(self.next, Ordering::Release);
        self.slots.room.made();
    }

    /// True if nothing will come any more: what was published before the end was read.
    pub(in crate::ring) fn is_at_end(&self) -> bool {
        self.slots.is_closed() && self.slots.tail.load(Ordering::Acquire) >> SHIFT == self.next
    }

    /// Ready when something is available, with true, or the end is reached.
    ///
    /// Who finds nothing lets other tasks run once before it sleeps: the publisher may be among them, or on another thread and at work.
    /// Sleeping and being woken costs both sides more.
    pub(in crate::ring) fn poll_available(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if self.available(1) > 0 {
            self.yielded = false;
            return Poll::Ready(true);
        }
        // Models are about those who sleep.
        if !self.yielded && !cfg!(message_bus_loom) && !self.is_at_end() {
            self.yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        poll_ready(&Arc::clone(&self.slots), &Arc::clone(&self.gate), context, || {
            if self.available(1) > 0 { Some(true) } else { self.is_at_end().then_some(false) }
        })
    }

    /// Ends the subscription; returns how many messages were not read.
    pub(in crate::ring) fn detach(&self) -> u64 {
        self.slots.unsubscribe(&self.gate)
    }
}

/// Who reads with losses: what lies in the ring belongs to the policy, by turns of publisher and subscriber.
pub(in crate::ring) struct LossyCursor<T> {
    slots: Arc<Slots<T>>,
    gate: Arc<Gate<T>>,
}

impl<T> LossyCursor<T> {
    pub(in crate::ring) fn new(slots: Arc<Slots<T>>, gate: Arc<Gate<T>>) -> Self {
        Self { slots, gate }
    }

    /// Applies the policy to all that is published, and lets `read` have the state.
    pub(in crate::ring) fn with<R>(&self, read: impl FnOnce(&mut Lossy<T>) -> R) -> R {
        let lossy = self.gate.lossy.as_ref().expect("a lossy subscriber");
        let mut lossy = lossy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.slots.absorb_locked(&self.gate, &mut lossy, u64::MAX);
        let result = read(&mut lossy);
        let discarded = std::mem::take(&mut lossy.discarded);
        drop(lossy);
        self.slots.room.made();
        discard(discarded);
        result
    }

    /// True if nothing will come into the policy's hands any more.
    pub(in crate::ring) fn is_at_end(&self) -> bool {
        let cursor = self.gate.cursor.load(Ordering::Acquire);
        cursor == DETACHED || self.slots.is_closed() && self.slots.tail.load(Ordering::Acquire) >> SHIFT == cursor
    }

    pub(in crate::ring) fn poll_ready<R>(
        &self,
        context: &mut Context<'_>,
        attempt: impl FnMut() -> Option<R>,
    ) -> Poll<R> {
        poll_ready(&self.slots, &self.gate, context, attempt)
    }

    pub(in crate::ring) fn detach(&self) -> u64 {
        self.slots.unsubscribe(&self.gate)
    }
}

/// Tries, and sleeps if there is nothing: the subscriber says that it sleeps, then looks once more; a publisher publishes, then
/// looks whether someone sleeps. With a full fence between each pair one of them sees the other.
fn poll_ready<T, R>(
    slots: &Slots<T>,
    gate: &Gate<T>,
    context: &mut Context<'_>,
    mut attempt: impl FnMut() -> Option<R>,
) -> Poll<R> {
    let mut ready = attempt();
    if ready.is_none() {
        gate.waker.register(context.waker());
        // Counted first: at no time are there fewer counted than asleep.
        slots.sleepers.fetch_add(1, Ordering::AcqRel);
        if gate.sleeping.swap(true, Ordering::AcqRel) {
            slots.sleepers.fetch_sub(1, Ordering::AcqRel);
        }
        slots.naps.fetch_add(1, Ordering::Relaxed);
        full_fence();
        if !slots.flags.alarm.is_set() {
            let _transition = slots.registry();
            slots.flags.alarm.set();
        }
        ready = attempt();
    }
    match ready {
        Some(result) => {
            if gate.sleeping.load(Ordering::Relaxed) {
                slots.rouse(gate);
            }
            Poll::Ready(result)
        }
        None => Poll::Pending,
    }
}
