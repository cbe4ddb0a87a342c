//! What a subscription takes from the store in memory, and who is woken by an append.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;

use super::Shared;
use super::reading::{Owned, walk};
use crate::error::ReadError;
use crate::event::Position;
use crate::query::Query;
use crate::read::Read;
use crate::subscription::{Feed, More, Page};
use crate::sync::HashSeed;

/// Sleepers that a table has room for without a second thought.
const SMALL_TABLE: usize = 64;

/// The subscriptions that sleep. Behind the writer's lock: who finds nothing new under it cannot miss the next append.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    wakers: HashMap<u64, Waker, HashSeed>,
    next: u64,
    closed: bool,
}

/// Wakers of those who slept; few need no allocation.
pub(super) type Woken = SmallVec<[Waker; 4]>;

impl Sleepers {
    /// Everyone who sleeps, to be woken once the lock is released.
    pub(super) fn take(&mut self) -> Woken {
        let woken: Woken = self.wakers.drain().map(|(_, waker)| waker).collect();
        // The table stays for the next time, unless it is that of many who are gone: to look through it takes as long as it is large.
        if self.wakers.capacity() > SMALL_TABLE.max(8 * woken.len()) {
            self.wakers.shrink_to(2 * woken.len());
        }
        woken
    }

    /// As [`Sleepers::take`], for the last time: nobody sleeps any more.
    pub(super) fn close(&mut self) -> Woken {
        self.closed = true;
        self.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wakers.is_empty()
    }

    fn new_sleeper(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Wakes everyone in `sleepers`. Holds no lock: what a waker does is the executor's code. One that panics concerns its own task: the
/// others are woken, and the append keeps its verdict.
pub(super) fn wake(sleepers: Woken) {
    for waker in sleepers {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
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
        let log = self.shared.log.load();
        let view = log.view();
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
        // Wakers are the executor's code: cloned before the lock is taken, dropped after it is released.
        let waker = context.waker().clone();
        // A store whose append broke off takes no more of them; what it has is still read.
        let mut writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.head() > after {
            drop(writer);
            return Poll::Ready(More::Events);
        }
        let sleepers = &mut writer.sleepers;
        if sleepers.closed {
            drop(writer);
            return Poll::Ready(More::Closed);
        }
        let sleeper = *self.sleeper.get_or_insert_with(|| sleepers.new_sleeper());
        let replaced = sleepers.wakers.insert(sleeper, waker);
        drop(writer);
        drop(replaced);
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

#[cfg(all(test, not(any(event_store_loom, event_store_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn those_who_left_cost_the_next_append_nothing() {
        let mut sleepers = Sleepers::default();
        let ids: Vec<u64> = (0..10_000).map(|_| sleepers.new_sleeper()).collect();
        for id in &ids {
            sleepers.wakers.insert(*id, Waker::noop().clone());
        }
        for id in &ids[1..] {
            sleepers.wakers.remove(id);
        }
        assert_eq!(sleepers.take().len(), 1);
        assert!(sleepers.wakers.capacity() <= SMALL_TABLE, "{}", sleepers.wakers.capacity());
        assert!(sleepers.is_empty() && sleepers.take().is_empty());
    }
}
