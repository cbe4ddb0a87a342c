//! Where items wait: places that are used again, in chunks that never move, linked into lines.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::task::Waker;

use crate::error::{Reason, Reply};
use crate::handler::Entry;

/// A place's number.
pub(crate) type Id = u32;

/// No place.
pub(crate) const NONE: Id = Id::MAX;

/// Places of a chunk: few allocations, and no long pause when one is made.
const CHUNK: usize = 256;

/// One item on its way, or its reply.
///
/// Who refers to it: the line it stands in (its content is an item), the batch that took it (`running`), and a caller (`caller`). It is
/// free again when none does.
pub(crate) struct Place<I, O, E> {
    pub(crate) content: Content<I, O, E>,
    pub(crate) waker: Option<Waker>,
    /// When it has to be answered, in nanoseconds of the batcher's clock.
    pub(crate) deadline: Option<NonZeroU64>,
    /// Neighbours in the line, or among those that share one item; of a free place, the next one.
    pub(crate) previous: Id,
    pub(crate) next: Id,
    /// The first of those that share this item, or who waits until there is room for it.
    pub(crate) followers: Id,
    pub(crate) lane: u32,
    pub(crate) epoch: u32,
    pub(crate) weight: u32,
    pub(crate) bytes: u32,
    pub(crate) level: u8,
    /// A batch refers to it.
    pub(crate) running: bool,
    /// That batch waits until it runs again.
    pub(crate) resting: bool,
    /// What a caller waits for.
    pub(crate) caller: Caller,
}

pub(crate) enum Content<I, O, E> {
    Empty,
    Item(I),
    /// Items one after the other that nobody waits for: they leave as they lie.
    Block(Box<Block<I, O, E>>),
    Reply(Reply<O, E>),
    /// The item lies at that place: the caller shares it with others, or waits until there is room for it.
    Follows(Id),
    /// There is room for the item.
    Admitted,
    /// The item is given back, and why: it will never run.
    Back(I, Reason),
}

/// Items that were given to be forgotten, with what they weigh together.
pub(crate) struct Block<I, O, E> {
    pub(crate) entries: VecDeque<Entry<I, O, E>>,
    pub(crate) weight: u64,
}

impl<I, O, E> Default for Block<I, O, E> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), weight: 0 }
    }
}

/// Whose an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Nobody's: it was given to be forgotten, or its caller has left.
    None,
    /// Of a caller who waits for the reply at this place.
    Reply,
    /// Of a caller who waits for room at the place of its follower, and will then have given it to be forgotten.
    Room,
    /// Of all who follow it; they wait for the reply at places of their own.
    Shared,
}

impl<I, O, E> Place<I, O, E> {
    fn empty(next: Id) -> Self {
        Self {
            content: Content::Empty,
            waker: None,
            deadline: None,
            previous: NONE,
            next,
            followers: NONE,
            lane: 0,
            epoch: 0,
            weight: 0,
            bytes: 0,
            level: 0,
            running: false,
            resting: false,
            caller: Caller::None,
        }
    }
}

/// All places of a batcher. It grows by chunks to as many items as were ever there at once, and never shrinks.
pub(crate) struct Arena<I, O, E> {
    chunks: Vec<Box<[Place<I, O, E>]>>,
    free: Id,
}

impl<I, O, E> Arena<I, O, E> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: NONE }
    }

    /// A free place, to be filled in.
    #[inline]
    pub(crate) fn claim(&mut self) -> (Id, &mut Place<I, O, E>) {
        if self.free == NONE {
            self.grow();
        }
        let id = self.free;
        let place = &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK];
        self.free = place.next;
        place.next = NONE;
        (id, place)
    }

    #[cold]
    fn grow(&mut self) {
        let first = self.chunks.len() * CHUNK;
        let last = first + CHUNK;
        assert!(last < NONE as usize, "a batcher holds fewer than four thousand million items");
        let place = |id| Place::empty(if id + 1 == last { NONE } else { (id + 1) as Id });
        self.chunks.push((first..last).map(place).collect());
        self.free = first as Id;
    }

    /// The place is free again. It has to be empty, and nobody may refer to it.
    #[inline]
    pub(crate) fn release(&mut self, id: Id) {
        let free = self.free;
        let place = self.at(id);
        debug_assert!(matches!(place.content, Content::Empty) && place.waker.is_none() && !place.running);
        place.deadline = None;
        place.previous = NONE;
        place.followers = NONE;
        place.caller = Caller::None;
        place.next = free;
        self.free = id;
    }

    /// How many places there are, free ones included.
    pub(crate) fn len(&self) -> Id {
        (self.chunks.len() * CHUNK) as Id
    }

    #[inline]
    pub(crate) fn at(&mut self, id: Id) -> &mut Place<I, O, E> {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }
}

/// A line of places, first come first served. Leaves from anywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) head: Id,
    tail: Id,
}

impl Line {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(crate) fn last(self) -> Id {
        self.tail
    }

    pub(crate) fn is_empty(self) -> bool {
        self.head == NONE
    }

    #[inline]
    pub(crate) fn push<I, O, E>(&mut self, arena: &mut Arena<I, O, E>, id: Id) {
        let tail = self.tail;
        let place = arena.at(id);
        place.previous = tail;
        place.next = NONE;
        match tail {
            NONE => self.head = id,
            tail => arena.at(tail).next = id,
        }
        self.tail = id;
    }

    #[inline]
    pub(crate) fn remove<I, O, E>(&mut self, arena: &mut Arena<I, O, E>, id: Id) {
        let place = arena.at(id);
        let (previous, next) = (place.previous, place.next);
        place.previous = NONE;
        place.next = NONE;
        match previous {
            NONE => self.head = next,
            previous => arena.at(previous).next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => arena.at(next).previous = previous,
        }
    }
}
