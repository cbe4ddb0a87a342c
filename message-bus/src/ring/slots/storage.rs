//! The memory of all messages.

use super::cell::Cell;
use super::word::{self, EMPTY};
use crate::sync::{AtomicU64, Ordering};

pub(super) enum Storage<T> {
    /// For any number of publishers, which may publish in another order than they claimed: each slot says what is published there.
    Numbered(Box<[Slot<T>]>),
    /// For one publisher: everything below the tail is published. Messages lie side by side.
    Plain {
        cells: Box<[Cell<T>]>,
        /// Everything below was dropped or overwritten. The publisher's.
        trimmed: AtomicU64,
    },
}

pub(super) struct Slot<T> {
    pub(super) word: AtomicU64,
    value: Cell<T>,
}

impl<T> Slot<T> {
    /// Has the slot's memory come to this processor's cache, to be written soon. Nothing is read or written by it.
    #[inline]
    pub(super) fn fetch_for_writing(&self) {
        // SAFETY: a hint, for any address; processors that do not know it take it for nothing.
        #[cfg(all(target_arch = "x86_64", not(any(message_bus_loom, message_bus_shuttle))))]
        unsafe {
            std::arch::asm!("prefetchw [{slot}]", slot = in(reg) self, options(nostack, preserves_flags, readonly));
        }
    }
}

impl<T> Storage<T> {
    pub(super) fn numbered(capacity: u64) -> Self {
        // The first lap is numbered 0 and was never published: the first message has the number `capacity`.
        let slot = |number| Slot { word: AtomicU64::new(word::of(number, 1) | EMPTY), value: Cell::new() };
        Self::Numbered((0..capacity).map(slot).collect())
    }

    pub(super) fn plain(capacity: u64) -> Self {
        Self::Plain { cells: (0..capacity).map(|_| Cell::new()).collect(), trimmed: AtomicU64::new(capacity) }
    }

    #[inline]
    pub(super) fn cell(&self, index: usize) -> &Cell<T> {
        match self {
            Self::Numbered(slots) => &slots[index].value,
            Self::Plain { cells, .. } => &cells[index],
        }
    }

    /// Calls `each` with `count` cells from `first` on, around the end.
    #[inline]
    pub(super) fn each<'a>(&'a self, first: usize, count: usize, mut each: impl FnMut(&'a Cell<T>)) {
        match self {
            Self::Numbered(slots) => around(slots, first, count).for_each(|slot| each(&slot.value)),
            Self::Plain { cells, .. } => around(cells, first, count).for_each(each),
        }
    }

    /// True if there is nothing that the message `number` overwrites. Asked by whoever may write it.
    #[inline]
    pub(super) fn is_vacant(&self, index: usize, number: u64) -> bool {
        match self {
            Self::Numbered(slots) => slots[index].word.load(Ordering::Relaxed) & EMPTY != 0,
            Self::Plain { cells, trimmed } => number < trimmed.load(Ordering::Relaxed) + cells.len() as u64,
        }
    }

    /// The message `number` was taken out, as was everything before it.
    pub(super) fn vacate(&self, index: usize, number: u64) {
        match self {
            Self::Numbered(slots) => {
                slots[index].word.fetch_or(EMPTY, Ordering::Release);
            }
            Self::Plain { trimmed, .. } => trimmed.store(number + 1, Ordering::Relaxed),
        }
    }
}

fn around<S>(slots: &[S], first: usize, count: usize) -> impl Iterator<Item = &S> {
    let (before, after) = slots.split_at(first);
    after.iter().chain(before).take(count)
}
