//! Where callers wait: each has a seat, which is a small lock of its own, so that replies are laid down and picked up without the
//! batcher's. Seats are used again, and never move.

use std::sync::OnceLock;
use std::task::{Poll, Waker};

use crate::arena::{Id, NONE};
use crate::error::{Reason, Reply};
use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering, lock};

/// The first chunk has this many seats, as a power of two; from there on there are four chunks to each doubling, so that at most a fifth
/// of the seats was never used.
const FIRST_BITS: u32 = if cfg!(any(swarm_batcher_loom, swarm_batcher_shuttle)) { 2 } else { 6 };
/// Chunks for all numbers below 2³¹.
const CHUNKS: usize = 1 + 4 * (31 - FIRST_BITS as usize);

/// The chunk of a seat, its place there, and how many seats the chunk has.
#[inline]
fn place_of(id: Id) -> (usize, usize, u32) {
    if id < 1 << FIRST_BITS {
        return (0, id as usize, 1 << FIRST_BITS);
    }
    let bits = id.ilog2();
    let quarter = (id >> (bits - 2)) & 3;
    let len = 1 << (bits - 2);
    ((1 + 4 * (bits - FIRST_BITS) + quarter) as usize, (id & (len - 1)) as usize, len)
}

/// What is found at a seat. Who refers to it: its caller, and the line or the batch that its item is in.
pub(crate) enum Seat<I, O, E> {
    /// Nobody does; or both do, and there is no reply yet.
    Waits(Option<Waker>),
    /// Both do, and the caller was answered without its batch, which still runs.
    Early(Reply<O, E>),
    /// The batch alone does: its caller is gone.
    Left,
    /// So it does, and its caller was answered without it before.
    Answered,
    // The caller alone does.
    Replied(Reply<O, E>),
    /// There is room for the item.
    Admitted,
    /// The item is given back, and why: it will never run.
    Back(I, Reason),
}

/// What is to be dropped, or woken, where no lock is held.
pub(crate) enum Told<O, E> {
    Wake(Waker),
    Nobody,
    /// The caller is gone, or was answered before.
    Unwanted(Reply<O, E>),
}

/// Some seats, and beside each the next one of those that are free.
struct Chunk<I, O, E> {
    seats: Box<[Mutex<Seat<I, O, E>>]>,
    next: Box<[AtomicU32]>,
}

/// All seats of a batcher. It grows to as many callers as ever waited at once, and never shrinks.
pub(crate) struct Seats<I, O, E> {
    chunks: [OnceLock<Chunk<I, O, E>>; CHUNKS],
    /// Those that callers gave back: a stack of which single ones are put in and only all are taken out.
    given_back: AtomicU32,
}

/// The free seats that the state knows.
#[derive(Debug)]
pub(crate) struct FreeSeats {
    first: Id,
    /// How many seats there are, free or not.
    len: Id,
}

impl FreeSeats {
    pub(crate) fn new() -> Self {
        Self { first: NONE, len: 0 }
    }
}

impl<I, O, E> Seats<I, O, E> {
    pub(crate) fn new() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS], given_back: AtomicU32::new(NONE) }
    }

    #[inline]
    fn find(&self, id: Id) -> (&Chunk<I, O, E>, usize) {
        let (chunk, place, _) = place_of(id);
        (self.chunks[chunk].get().expect("a seat that was given out is there"), place)
    }

    #[inline]
    fn at(&self, id: Id) -> MutexGuard<'_, Seat<I, O, E>> {
        let (chunk, place) = self.find(id);
        lock(&chunk.seats[place])
    }

    #[inline]
    fn next(&self, id: Id) -> &AtomicU32 {
        let (chunk, place) = self.find(id);
        &chunk.next[place]
    }

    /// A seat for a caller. The batcher's lock is held, as `free` shows.
    #[inline]
    pub(crate) fn claim(&self, free: &mut FreeSeats) -> Id {
        if free.first == NONE {
            free.first = self.given_back.swap(NONE, Ordering::Acquire);
            if free.first == NONE {
                self.grow(free);
            }
        }
        let id = free.first;
        free.first = self.next(id).load(Ordering::Relaxed);
        debug_assert!(matches!(*self.at(id), Seat::Waits(None)), "nothing lies at a free seat");
        id
    }

    #[cold]
    fn grow(&self, free: &mut FreeSeats) {
        assert!(free.len < 1 << 31, "a batcher has fewer than two thousand million callers");
        let (chunk, _, len) = place_of(free.len);
        let last = free.len + len - 1;
        self.chunks[chunk].get_or_init(|| Chunk {
            seats: (0..len).map(|_| Mutex::new(Seat::Waits(None))).collect(),
            next: (free.len..=last).map(|id| AtomicU32::new(if id == last { NONE } else { id + 1 })).collect(),
        });
        free.first = free.len;
        free.len += len;
    }

    /// The caller is gone, and so is the batch.
    #[inline]
    fn give_back(&self, id: Id, mut seat: MutexGuard<'_, Seat<I, O, E>>) -> Seat<I, O, E> {
        let before = std::mem::replace(&mut *seat, Seat::Waits(None));
        drop(seat);
        let next = self.next(id);
        let mut first = self.given_back.load(Ordering::Relaxed);
        loop {
            next.store(first, Ordering::Relaxed);
            match self.given_back.compare_exchange_weak(first, id, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return before,
                Err(now) => first = now,
            }
        }
    }

    /// Who is to be told at this seat. A waker that is returned is to be woken: the caller was answered, or is gone, or has said otherwise
    /// whom to tell, and to be woken once too often does no harm.
    #[inline]
    pub(crate) fn listen(&self, id: Id, waker: Waker) -> Option<Waker> {
        match &mut *self.at(id) {
            Seat::Waits(known @ None) => {
                *known = Some(waker);
                None
            }
            _ => Some(waker),
        }
    }

    /// The reply, for good: the batch no longer refers to the seat.
    #[inline]
    pub(crate) fn reply(&self, id: Id, reply: Reply<O, E>) -> Told<O, E> {
        let mut seat = self.at(id);
        match &mut *seat {
            Seat::Waits(waker) => {
                let waker = waker.take();
                *seat = Seat::Replied(reply);
                waker.map_or(Told::Nobody, Told::Wake)
            }
            Seat::Early(_) => {
                if let Seat::Early(early) = std::mem::replace(&mut *seat, Seat::Left) {
                    *seat = Seat::Replied(early);
                }
                Told::Unwanted(reply)
            }
            Seat::Left | Seat::Answered => {
                self.give_back(id, seat);
                Told::Unwanted(reply)
            }
            _ => unreachable!("a caller is answered once"),
        }
    }

    /// A reply from elsewhere than the batch, which goes on and still refers to the seat.
    pub(crate) fn reply_early(&self, id: Id, reply: Reply<O, E>) -> Told<O, E> {
        let mut seat = self.at(id);
        match &mut *seat {
            Seat::Waits(waker) => {
                let waker = waker.take();
                *seat = Seat::Early(reply);
                waker.map_or(Told::Nobody, Told::Wake)
            }
            _ => Told::Unwanted(reply),
        }
    }

    /// Answers every caller whose batch runs: what stood in line was answered before. It also leaves replies at seats that are free, so no
    /// seat may be claimed after this.
    pub(crate) fn reply_early_to_all(
        &self,
        free: &FreeSeats,
        reply: impl Fn() -> Reply<O, E>,
        mut told: impl FnMut(Told<O, E>),
    ) {
        for id in 0..free.len {
            if matches!(&*self.at(id), Seat::Waits(_)) {
                told(self.reply_early(id, reply()));
            }
        }
    }

    /// Tells whoever waits for room: it is [`Seat::Admitted`] or gets its item [`Seat::Back`].
    pub(crate) fn answer_for_room(&self, id: Id, answer: Seat<I, O, E>) -> Option<Waker> {
        match std::mem::replace(&mut *self.at(id), answer) {
            Seat::Waits(waker) => waker,
            _ => unreachable!("who waits for room does so until it is told"),
        }
    }

    /// What the caller finds, which leaves its seat then; or nothing yet, and then `waker` is told. Beside it a waker that is of no more use.
    #[inline]
    pub(crate) fn poll(&self, id: Id, waker: &Waker) -> (Poll<Seat<I, O, E>>, Option<Waker>) {
        let mut seat = self.at(id);
        match &mut *seat {
            Seat::Waits(known) if known.as_ref().is_some_and(|known| known.will_wake(waker)) => (Poll::Pending, None),
            Seat::Waits(known) => (Poll::Pending, known.replace(waker.clone())),
            Seat::Early(_) => (Poll::Ready(std::mem::replace(&mut *seat, Seat::Answered)), None),
            Seat::Replied(_) | Seat::Admitted | Seat::Back(..) => (Poll::Ready(self.give_back(id, seat)), None),
            Seat::Left | Seat::Answered => unreachable!("a caller that waits has a seat"),
        }
    }

    /// The caller goes away while its item runs, or after that. What it leaves is to be dropped.
    pub(crate) fn leave(&self, id: Id) -> Seat<I, O, E> {
        let mut seat = self.at(id);
        match &*seat {
            Seat::Waits(_) => std::mem::replace(&mut *seat, Seat::Left),
            Seat::Early(_) => std::mem::replace(&mut *seat, Seat::Answered),
            Seat::Replied(_) | Seat::Admitted | Seat::Back(..) => self.give_back(id, seat),
            Seat::Left | Seat::Answered => unreachable!("a caller leaves once"),
        }
    }

    /// Caller and item are gone together, before the item ran.
    pub(crate) fn clear(&self, id: Id) -> Seat<I, O, E> {
        self.give_back(id, self.at(id))
    }

    /// Whether the caller waits for a reply, or was answered without its batch, or is gone.
    pub(crate) fn presence(&self, id: Id) -> Presence {
        match &*self.at(id) {
            Seat::Early(_) | Seat::Answered => Presence::Answered,
            Seat::Left => Presence::Gone,
            _ => Presence::Waits,
        }
    }
}

/// See [`Seats::presence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Waits,
    Answered,
    Gone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_fill_their_chunks_in_order() {
        let mut next = (0, 0);
        for id in 0..1 << 14 {
            let (chunk, place, len) = place_of(id);
            assert_eq!((chunk, place), next, "seat {id}");
            next = if place + 1 == len as usize { (chunk + 1, 0) } else { (chunk, place + 1) };
        }
        assert!(place_of((1 << 31) - 1).0 == CHUNKS - 1);
    }
}
