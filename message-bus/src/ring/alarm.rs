//! Whether one side looks for sleepers on the other after each message: a publisher for subscribers that wait for a message, a
//! subscriber for publishers that wait for room. What is said of the one here holds for the other.
//!
//! Looking takes a full fence between the message and the look, and the fence waits until the message's cache line has come over from
//! the subscriber that reads behind: of a hand-over between two processors that is nearly half. A stream whose subscribers do
//! not sleep goes without. Who falls asleep then sets the alarm first, with a barrier that the kernel puts into every running
//! thread of the process (`membarrier(2)`), so that the fences are all on the side that sleeps. Where there is no such barrier the
//! alarm is always set.

use std::sync::atomic::compiler_fence;

use crate::sync::{AtomicUsize, Ordering, full_fence, process_wide_barrier};

/// Messages that nobody slept through before the other side stops looking for sleepers: many enough that the price of looking again, some
/// microseconds for the next who sleeps, does not show.
pub(super) const CALM: u64 = if cfg!(message_bus_shuttle) { 2 } else { 1 << 12 };

/// Publishers do not look: nobody sleeps.
const CLEAR: usize = 0;
/// Publishers look, but some that did not may not be done yet.
const CHANGING: usize = 1;
/// Publishers look.
const SET: usize = 2;

/// Changed by one at a time: [`set`](Self::set) and [`clear`](Self::clear) are called under a lock, that of the ring's registry or of
/// its room.
#[derive(Debug)]
pub(super) struct Alarm(AtomicUsize);

impl Alarm {
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(SET))
    }

    /// After a message was published: whether to look for sleepers, with the fence that it takes.
    #[inline]
    pub(super) fn is_needed(&self) -> bool {
        compiler_fence(Ordering::SeqCst);
        if self.0.load(Ordering::Acquire) == CLEAR {
            return false;
        }
        full_fence();
        true
    }

    /// Whether every publisher looks. Asked by who falls asleep, after it is counted as sleeper and a full fence.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) == SET
    }

    /// From now on publishers look. What those that did not have published is visible here and to all who find the alarm set.
    pub(super) fn set(&self) {
        if self.is_set() {
            return;
        }
        self.0.store(CHANGING, Ordering::Release);
        process_wide_barrier();
        self.0.store(SET, Ordering::Release);
    }

    /// From now on publishers need not look, if nobody sleeps and the machine has the barrier. True if somebody fell asleep meanwhile: the
    /// alarm is set again, and sleepers have to be woken, since one may have missed a message.
    pub(super) fn clear(&self, nobody_sleeps: impl Fn() -> bool) -> bool {
        if !nobody_sleeps() || !process_wide_barrier() {
            return false;
        }
        self.0.store(CLEAR, Ordering::Release);
        full_fence();
        if nobody_sleeps() {
            return false;
        }
        self.set();
        true
    }
}
