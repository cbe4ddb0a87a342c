//! What an operation leaves to be done when the lock is no longer held.

use std::task::Waker;

use smallvec::SmallVec;

use crate::arena::Content;
use crate::dead_letter::DeadLetter;
use crate::engine::Engine;
use crate::error::{BatchError, Reply};
use crate::key::AnyKey;

/// Wakers of a batch's callers.
pub(crate) type Wakers = SmallVec<[Waker; 2]>;

/// Wakes, spawns and drops: foreign code all of it. [`Shared::settle`](crate::shared::Shared::settle) does it.
pub(crate) struct Aftermath<I, O, E> {
    pub(crate) wakers: Wakers,
    /// A runner has to be spawned.
    pub(crate) spawn: Option<u64>,
    pub(crate) letters: Vec<DeadLetter<I, E>>,
    // The rest is only to be dropped.
    pub(crate) old_waker: Option<Waker>,
    pub(crate) items: Vec<I>,
    pub(crate) replies: Vec<Reply<O, E>>,
    pub(crate) contents: Vec<Content<I, O, E>>,
    pub(crate) keys: Vec<Box<dyn AnyKey>>,
    pub(crate) engines: Vec<Engine<I, O, E>>,
}

impl<I, O, E> Aftermath<I, O, E> {
    pub(crate) fn new() -> Self {
        Self::with(SmallVec::new())
    }

    /// One that uses an empty list's memory.
    pub(crate) fn with(wakers: Wakers) -> Self {
        Self {
            wakers,
            spawn: None,
            letters: Vec::new(),
            old_waker: None,
            items: Vec::new(),
            replies: Vec::new(),
            contents: Vec::new(),
            keys: Vec::new(),
            engines: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        self.wakers.extend(waker);
    }

    /// An item without a caller has ended without an output.
    pub(crate) fn give_up(&mut self, item: Option<I>, error: BatchError<E>) {
        self.letters.push(DeadLetter { item, error });
    }
}
