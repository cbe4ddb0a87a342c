//! What a subscription takes from the store in memory, and who is woken by an append.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Shared;
use super::reading::{Owned, walk};
use crate::error::ReadError;
use crate::event::Position;
use crate::query::Query;
use crate::read::Read;
use crate::subscription::{Feed, More, Page};

/// The subscriptions that sleep. Behind the writer's lock: who finds nothing new under it cannot miss the next append.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    wakers: HashMap<u64, Waker>,
    next: u64,
    closed: bool,
}

impl Sleepers {
    /// Everyone who sleeps, to be woken once the lock is released.
    pub(super) fn take(&mut self) -> HashMap<u64, Waker> {
        std::mem::take(&mut self.wakers)
    }

    /// As [`Sleepers::take`], for the last time: nobody sleeps any more.
    pub(super) fn close(&mut self) -> HashMap<u64, Waker> {
        self.closed = true;
        self.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wakers.is_empty()
    }
}

/// Wakes everyone in `sleepers`. Holds no lock: what a waker does is the executor's code.
pub(super) fn wake(sleepers: HashMap<u64, Waker>) {
    for waker in sleepers.into_values() {
        waker.wake();
    }
}

/// A subscription's way to the store.
pub(super) struct MemoryFeed {
    shared: Arc<Shared>,
    /// Its place among the sleepers, once it has one.
    sleeper: Option<u64>,
}

impl MemoryFeed {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, sleeper: None }
    }
}

impl Feed for MemoryFeed {
    fn poll_head(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Position>, ReadError>> {
        Poll::Ready(Ok(self.shared.head()))
    }

    fn poll_page(
        &mut self,
        _: &mut Context<'_>,
        after: Option<Position>,
        query: &Query,
        limit: u64,
    ) -> Poll<Result<Page, ReadError>> {
        let view = self.shared.log.view();
        let watermark = Position::new(u64::from(view.len()));
        if watermark <= after {
            return Poll::Ready(Ok(Page { events: Vec::new(), seen: after }));
        }
        let next = after.map_or(Some(Position::FIRST), |after| Position::new(after.get().saturating_add(1)));
        let read = next.map_or_else(Read::all, |next| Read::query_from(query.clone(), next)).limit(limit);
        let mut owned = Owned::new(&self.shared.names);
        let mut events = Vec::new();
        walk(&self.shared.names, view, &read, |run, event| {
            events.push(owned.event(run, event));
            ControlFlow::<()>::Continue(())
        });
        let is_full = events.len() as u64 >= limit;
        let seen = if is_full { events.last().map(|event| event.position()) } else { watermark };
        Poll::Ready(Ok(Page { events, seen }))
    }

    fn poll_more(&mut self, context: &mut Context<'_>, after: Option<Position>) -> Poll<More> {
        // A store whose append broke off takes no more of them; what it has is still read.
        let mut writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.head() > after {
            return Poll::Ready(More::Events);
        }
        let sleepers = &mut writer.sleepers;
        if sleepers.closed {
            return Poll::Ready(More::Closed);
        }
        let sleeper = *self.sleeper.get_or_insert_with(|| {
            sleepers.next += 1;
            sleepers.next
        });
        sleepers.wakers.insert(sleeper, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for MemoryFeed {
    fn drop(&mut self) {
        let Some(sleeper) = self.sleeper else { return };
        let mut writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = writer.sleepers.wakers.remove(&sleeper);
        drop(writer);
        // Outside the lock, for the same reason as waking.
        drop(waker);
    }
}
