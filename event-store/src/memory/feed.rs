//! What a subscription takes from the store in memory, and who is woken by an append.

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

/// The subscriptions that sleep. Behind the writer's lock: who finds nothing new under it cannot miss the next append.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    /// A place for each subscription that has ever slept and lives; filled while it sleeps.
    places: Vec<Option<Waker>>,
    /// Places of subscriptions that live no more.
    free: Vec<usize>,
    asleep: usize,
    closed: bool,
}

/// Wakers of those who slept; few need no allocation.
pub(super) type Woken = SmallVec<[Waker; 4]>;

impl Sleepers {
    /// Everyone who sleeps, to be woken once the lock is released.
    pub(super) fn take(&mut self) -> Woken {
        self.asleep = 0;
        self.places.iter_mut().filter_map(Option::take).collect()
    }

    /// As [`Sleepers::take`], for the last time: nobody sleeps any more.
    pub(super) fn close(&mut self) -> Woken {
        self.closed = true;
        self.take()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asleep == 0
    }

    fn new_place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        })
    }

    /// Lets `waker` sleep in `place`; returns the one that slept there.
    fn sleep(&mut self, place: usize, waker: Waker) -> Option<Waker> {
        let replaced = self.places[place].replace(waker);
        self.asleep += usize::from(replaced.is_none());
        replaced
    }

    /// Gives `place` up; returns the one that slept there.
    fn leave(&mut self, place: usize) -> Option<Waker> {
        let waker = self.places[place].take();
        self.asleep -= usize::from(waker.is_some());
        self.free.push(place);
        waker
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
    sleeper: Option<usize>,
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
        let place = *self.sleeper.get_or_insert_with(|| sleepers.new_place());
        let replaced = sleepers.sleep(place, waker);
        drop(writer);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for MemoryFeed {
    fn drop(&mut self) {
        let Some(place) = self.sleeper else { return };
        let mut writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = writer.sleepers.leave(place);
        drop(writer);
        // Outside the lock, for the same reason as waking.
        drop(waker);
    }
}
