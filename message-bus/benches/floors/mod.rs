//! What the hardware allows, for the same work: floors that are measured in the same run.

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use harness::together;

/// The payload of the ring's benchmarks: 64 bytes.
pub(crate) type Message = [u64; 8];

pub(crate) fn message(number: u64) -> Message {
    [number, 1, 2, 3, 4, 5, 6, 7]
}

/// What a consumer makes of a message: all of its words are read.
pub(crate) fn checksum(message: &Message) -> u64 {
    message.iter().sum()
}

/// The sum that the consumer of the first `count` messages must come to.
pub(crate) fn checksum_of(count: u64) -> u64 {
    count * (count - 1) / 2 + 28 * count
}

#[repr(align(128))]
struct Padded<T>(T);

/// A ring of two counters, each written by one side: one producer, one consumer, no waiting, no closing, nothing to drop.
pub(crate) struct TwoCounterRing {
    slots: Box<[UnsafeCell<Message>]>,
    mask: u64,
    head: Padded<AtomicU64>,
    tail: Padded<AtomicU64>,
    claimed: Padded<AtomicU64>,
}

// SAFETY: one producer writes slots from the tail on, one consumer reads slots below it; the counters hand them over.
#[expect(unsafe_code, reason = "a floor is what one would write by hand")]
unsafe impl Sync for TwoCounterRing {}

pub(crate) struct Producer<'a>(&'a TwoCounterRing, u64, u64);
pub(crate) struct Consumer<'a>(&'a TwoCounterRing, u64, u64);

impl TwoCounterRing {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(message(0))).collect(),
            mask: capacity.next_power_of_two() as u64 - 1,
            head: Padded(AtomicU64::new(0)),
            tail: Padded(AtomicU64::new(0)),
            claimed: Padded(AtomicU64::new(0)),
        }
    }

    pub(crate) fn split(&mut self) -> (Producer<'_>, Consumer<'_>) {
        let (head, tail) = (self.head.0.load(Ordering::Relaxed), self.tail.0.load(Ordering::Relaxed));
        (Producer(self, tail, head), Consumer(self, head, tail))
    }
}

#[expect(unsafe_code, reason = "a floor is what one would write by hand")]
impl Producer<'_> {
    /// Puts one message in, if there is room.
    #[inline]
    pub(crate) fn try_push_one(&mut self, message: Message) -> bool {
        if !self.has_room(1) {
            return false;
        }
        let Self(ring, tail, _) = self;
        // SAFETY: between tail and head + capacity the producer is alone.
        unsafe { *ring.slots[(*tail & ring.mask) as usize].get() = message };
        *tail += 1;
        ring.tail.0.store(*tail, Ordering::Release);
        true
    }

    /// The compare-exchange by which producers agree on who writes where, if there could be more and there is room.
    #[inline]
    pub(crate) fn claim(&mut self, count: u64) -> bool {
        let claimed = self.0.claimed.0.load(Ordering::Relaxed);
        let agree = |to| self.0.claimed.0.compare_exchange(claimed, to, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        self.has_room(count) && agree(claimed + count)
    }

    #[inline]
    fn has_room(&mut self, count: u64) -> bool {
        let Self(ring, tail, head) = self;
        if *tail + count > *head + ring.mask + 1 {
            *head = ring.head.0.load(Ordering::Acquire);
        }
        *tail + count <= *head + ring.mask + 1
    }

    /// Puts all of `messages` in, if there is room.
    #[inline]
    pub(crate) fn try_push(&mut self, messages: &[Message]) -> bool {
        if !self.has_room(messages.len() as u64) {
            return false;
        }
        let Self(ring, tail, _) = self;
        for (place, message) in (*tail..).zip(messages) {
            // SAFETY: between tail and head + capacity the producer is alone.
            unsafe { *ring.slots[(place & ring.mask) as usize].get() = *message };
        }
        *tail += messages.len() as u64;
        ring.tail.0.store(*tail, Ordering::Release);
        true
    }
}

#[expect(unsafe_code, reason = "a floor is what one would write by hand")]
impl Consumer<'_> {
    /// Reads up to `most` messages in place; returns how many.
    #[inline]
    pub(crate) fn read(&mut self, most: u64, mut each: impl FnMut(&Message)) -> u64 {
        let Self(ring, head, tail) = self;
        if *tail == *head {
            *tail = ring.tail.0.load(Ordering::Acquire);
        }
        let count = most.min(*tail - *head);
        for place in *head..*head + count {
            // SAFETY: between head and tail the consumer is alone.
            each(unsafe { &*ring.slots[(place & ring.mask) as usize].get() });
        }
        if count > 0 {
            *head += count;
            ring.head.0.store(*head, Ordering::Release);
        }
        count
    }
}

/// A number goes there and back `turns` times: time, and the sum of what came back.
pub(crate) fn cache_line_ping_pong(turns: u64) -> (Duration, u64) {
    let (there, back) = (Padded(AtomicU64::new(0)), Padded(AtomicU64::new(0)));
    let (time, sums) = together(
        2,
        |thread| thread,
        |thread| {
            let mut sum = 0;
            for turn in 1..=turns {
                let (mine, other) = if thread == 0 { (&there, &back) } else { (&back, &there) };
                if thread == 0 {
                    mine.0.store(turn, Ordering::Release);
                }
                while other.0.load(Ordering::Acquire) != turn {
                    spin_loop();
                }
                if thread == 1 {
                    mine.0.store(turn, Ordering::Release);
                } else {
                    sum += turn - 1;
                }
            }
            sum
        },
    );
    (time, sums.iter().sum())
}

/// The same by threads that sleep until the other wakes them.
pub(crate) fn park_ping_pong(turns: u64) -> (Duration, u64) {
    let (there, back) = (Padded(AtomicU64::new(0)), Padded(AtomicU64::new(0)));
    let threads: [OnceLock<Thread>; 2] = [OnceLock::new(), OnceLock::new()];
    let prepare = |thread: usize| {
        threads[thread].set(thread::current()).expect("once");
        thread
    };
    let (time, sums) = together(2, prepare, |thread| {
        let mut sum = 0;
        let other_thread = threads[1 - thread].get().expect("both have prepared");
        for turn in 1..=turns {
            let (mine, other) = if thread == 0 { (&there, &back) } else { (&back, &there) };
            if thread == 0 {
                mine.0.store(turn, Ordering::Release);
                other_thread.unpark();
            }
            while other.0.load(Ordering::Acquire) != turn {
                thread::park();
            }
            if thread == 1 {
                mine.0.store(turn, Ordering::Release);
                other_thread.unpark();
            } else {
                sum += turn - 1;
            }
        }
        sum
    });
    (time, sums.iter().sum())
}
