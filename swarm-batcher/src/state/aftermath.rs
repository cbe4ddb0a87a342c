//! What an operation leaves to be done when the lock is no longer held.

use std::task::Waker;

use smallvec::SmallVec;

use crate::dead_letter::DeadLetter;
use crate::engine::Engine;
use crate::error::{BatchError, Reply};
use crate::key::AnyKey;
use crate::seats::{Seat, Told};

/// Wakers of the callers of a batch: those of most that callers run themselves are few.
pub(crate) type Wakers = SmallVec<[Waker; 8]>;

/// Wakes, spawns and drops: foreign code all of it. [`Shared::settle`](crate::shared::Shared::settle) does it.
pub(crate) struct Aftermath<I, O, E> {
    pub(crate) wakers: Wakers,
    /// A runner has to be spawned.
    pub(crate) spawn: Option<u64>,
    pub(crate) letters: Vec<DeadLetter<I, E>>,
    pub(crate) trash: Vec<Trash<I, O, E>>,
}

/// What is only to be dropped.
#[expect(dead_code, reason = "the fields are there to be dropped")]
pub(crate) enum Trash<I, O, E> {
    Item(I),
    Reply(Reply<O, E>),
    Seat(Seat<I, O, E>),
    Key(Box<dyn AnyKey>),
    Engine(Engine<I, O, E>),
    Waker(Waker),
}

impl<I, O, E> Aftermath<I, O, E> {
    #[inline]
    pub(crate) fn new() -> Self {
        Self::with(SmallVec::new())
    }

    /// One that uses an empty list's memory.
    #[inline]
    pub(crate) fn with(wakers: Wakers) -> Self {
        Self { wakers, spawn: None, letters: Vec::new(), trash: Vec::new() }
    }

    #[inline]
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.wakers.extend(waker);
    }

    /// What an answer came to.
    #[inline]
    pub(crate) fn told(&mut self, told: Told<O, E>) {
        match told {
            Told::Wake(waker) => self.wakers.push(waker),
            Told::Nobody => {}
            Told::Unwanted(reply) => self.trash.push(Trash::Reply(reply)),
        }
    }

    #[inline]
    pub(crate) fn drop_item(&mut self, item: I) {
        if std::mem::needs_drop::<I>() {
            self.trash.push(Trash::Item(item));
        }
    }

    pub(crate) fn drop_waker(&mut self, waker: Option<Waker>) {
        self.trash.extend(waker.map(Trash::Waker));
    }

    /// An item without a caller has ended without an output.
    pub(crate) fn give_up(&mut self, item: Option<I>, error: BatchError<E>) {
        self.letters.push(DeadLetter { item, error });
    }
}
