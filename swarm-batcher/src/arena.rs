//! Where items wait: places that are used again, in chunks that never move, linked into lines.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::task::Waker;

/// A place's number.
pub(crate) type Id = u32;

/// No place.
pub(crate) const NONE: Id = Id::MAX;

/// Places of a chunk: few allocations, and no long pause when one is made.
const CHUNK: usize = 256;

/// A block of items, or one of which something is special: it has a deadline, waits for room, is shared, or is a call with a weight.
///
/// Who refers to it: the line it stands in, or the batch that took it (`running`).
pub(crate) struct Place<I> {
    pub(crate) content: Content<I>,
    /// When it has to be answered, in nanoseconds of the batcher's clock.
    pub(crate) deadline: Option<NonZeroU64>,
    /// Neighbours in the line, or among those that share one item; of a free place, the next one.
    pub(crate) previous: Id,
    pub(crate) next: Id,
    /// The first of those that share this item.
    pub(crate) followers: Id,
    /// Where its caller waits, for the reply or for room.
    pub(crate) seat: Id,
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

pub(crate) enum Content<I> {
    Empty,
    Item(I),
    /// Items one after the other: they leave as they lie.
    Block(Box<Block<I>>),
    /// The item lies at that place: the caller shares it with others.
    Follows(Id),
}

/// Items of which nothing is special, with what they weigh together.
pub(crate) struct Block<I> {
    pub(crate) items: VecDeque<Queued<I>>,
    pub(crate) weight: u64,
}

/// One of them.
pub(crate) struct Queued<I> {
    pub(crate) item: I,
    /// Where its caller waits, or none if it was given to be forgotten.
    pub(crate) seat: Id,
    /// The caller's, until the batch starts.
    pub(crate) waker: Option<Waker>,
    pub(crate) epoch: u32,
    pub(crate) weight: u32,
    pub(crate) bytes: u32,
}

impl<I> Default for Block<I> {
    fn default() -> Self {
        Self { items: VecDeque::new(), weight: 0 }
    }
}

/// How a caller finds its item again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Where it waits. No other caller has this seat until it has left.
    pub(crate) seat: Id,
    /// The place of its item, or of the block that it was put into, or none; used again by others once that has left its line.
    pub(crate) place: Id,
}

/// Whose an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Nobody's: it was given to be forgotten, or its caller has left.
    None,
    /// Of a caller who waits for the reply.
    Reply,
    /// Of a caller who waits for room, and will then have given it to be forgotten.
    Room,
    /// Of all who follow it.
    Shared,
}

impl<I> Place<I> {
    fn empty(next: Id) -> Self {
        Self {
            content: Content::Empty,
            deadline: None,
            previous: NONE,
            next,
            followers: NONE,
            seat: NONE,
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
pub(crate) struct Arena<I> {
    chunks: Vec<Box<[Place<I>]>>,
    free: Id,
}

impl<I> Arena<I> {
    pub(crate) fn new() -> Self {
        Self { chunks: Vec::new(), free: NONE }
    }

    /// A free place, to be filled in.
    #[inline]
    pub(crate) fn claim(&mut self) -> (Id, &mut Place<I>) {
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
        debug_assert!(matches!(place.content, Content::Empty));
        place.deadline = None;
        place.previous = NONE;
        place.followers = NONE;
        place.seat = NONE;
        place.running = false;
        place.resting = false;
        place.caller = Caller::None;
        place.next = free;
        self.free = id;
    }

    #[inline]
    pub(crate) fn at(&mut self, id: Id) -> &mut Place<I> {
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
    pub(crate) fn push<I>(&mut self, arena: &mut Arena<I>, id: Id) {
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
    pub(crate) fn remove<I>(&mut self, arena: &mut Arena<I>, id: Id) {
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
