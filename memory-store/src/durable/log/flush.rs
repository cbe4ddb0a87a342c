//! The thread behind a log that does not sync at each commit.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Flusher, Shared, Task};
use crate::durable::Durability;

impl Shared {
    /// Writes what is buffered a little after it came, and syncs it when the interval says so, until the log closes or fails.
    pub(super) fn flush(&self) {
        const GATHER: Duration = Duration::from_millis(10);
        let interval = match self.durability {
            Durability::Interval(interval) => Some(interval),
            Durability::Buffered | Durability::Sync => None,
        };
        // Since when there is something that is not on disk.
        let mut since: Option<Instant> = None;
        let mut state = self.lock();
        while !state.closing && state.failure.is_none() {
            let unwritten = state.written < state.appended;
            // Whoever finds the buffer full writes it too, and syncs nothing: what is to be synced is told by what is, not by what this wrote.
            if !unwritten && (interval.is_none() || state.durable == state.appended) {
                since = None;
                state.flusher = Flusher::Idle;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let first = *since.get_or_insert_with(Instant::now);
            let until_sync = interval.map(|interval| interval.saturating_sub(first.elapsed()));
            let (phase, pause) = match until_sync {
                Some(rest) if !unwritten => (Flusher::Resting, rest),
                rest => (Flusher::Gathering, rest.map_or(GATHER, |rest| rest.min(GATHER))),
            };
            state.flusher = phase;
            state = self.work.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
            state.flusher = Flusher::Busy;
            let sync = interval.is_some_and(|interval| first.elapsed() >= interval);
            if phase == Flusher::Resting && !sync {
                // Something came, which is to be written first.
                continue;
            }
            while state.tail.is_none() && state.failure.is_none() {
                state = self.wait(state);
            }
            let is_due = if sync { state.durable < state.appended } else { state.written < state.appended };
            if state.failure.is_none() && is_due {
                state = self.lead(state, if sync { Task::Sync } else { Task::Write }).0;
            }
            if sync {
                since = None;
            }
        }
    }
}
