//! What a runner and those who look at it or stop it share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::options::ProjectionStats;
use crate::event::Position;

/// State beside the run.
#[derive(Debug, Default)]
pub(super) struct Control {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_running: bool,
    is_stopping: bool,
    waker: Option<Waker>,
    stats: ProjectionStats,
    /// What the runner has dealt with, saved or not.
    seen: Option<Position>,
}

/// The right to run. It ends when it is dropped, with the run.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a Control);

impl Control {
    /// `None` while there is a run.
    pub(super) fn enter(&self) -> Option<Running<'_>> {
        let mut state = self.lock();
        if state.is_running {
            return None;
        }
        state.is_running = true;
        Some(Running(self))
    }

    /// Asks the run to end, or the next one if there is none.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_stopping = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn poll_stop(&self, context: &Context<'_>) -> Poll<()> {
        // Wakers are the executor's code: cloned and dropped outside the lock.
        let waker = context.waker().clone();
        let mut state = self.lock();
        if state.is_stopping {
            return Poll::Ready(());
        }
        let replaced = state.waker.replace(waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.lock().is_stopping
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut ProjectionStats)) {
        change(&mut self.lock().stats);
    }

    pub(super) fn see(&self, seen: Option<Position>) {
        self.lock().seen = seen;
    }

    pub(super) fn stats(&self, head: Option<Position>) -> ProjectionStats {
        let state = self.lock();
        let number = |position: Option<Position>| position.map_or(0, Position::get);
        let dealt_with = state.seen.max(state.stats.checkpoint);
        ProjectionStats { head, lag: number(head).saturating_sub(number(dealt_with)), ..state.stats }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can break off half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_running = false;
        state.is_stopping = false;
        let waker = state.waker.take();
        drop(state);
        drop(waker);
    }
}
