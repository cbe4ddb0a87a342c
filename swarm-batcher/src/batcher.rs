//! The handle of a batcher.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::builder::BatcherBuilder;
use crate::call::{Call, CallAll, Push, Receipt, push};
use crate::error::{Reason, Rejected};
use crate::flush::Flush;
use crate::handler::BatchHandler;
use crate::shared::Shared;
use crate::state::Arrival;
use crate::stats::Stats;

/// Turns many calls of one item into few calls of a [`BatchHandler`] with many.
///
/// A handle: clones share the batcher, any task and any thread may use it. When the last one is dropped nothing more can come: what is
/// there runs at once, then the batcher's tasks end.
///
/// # Cancellation
/// Every future may be dropped at any time. An item whose caller leaves before its batch has started never runs; after that the batch
/// runs to its end without it.
///
/// # Runtime
/// A batch that is not ready at the first poll, that lingers or that nobody waits for is run by a task in the tokio runtime of whoever
/// calls, or else in the one in which the batcher was built. If that runtime is dropped, what it ran is answered
/// [`Closed`](crate::BatchError::Closed), and what comes later is run by a task of the next caller's.
pub struct Batcher<I, O, E> {
    owner: Arc<Owner<I, O, E>>,
}

/// The last of the handles.
struct Owner<I, O, E> {
    shared: Arc<Shared<I, O, E>>,
}

impl<I, O, E> Drop for Owner<I, O, E> {
    fn drop(&mut self) {
        self.shared.drain();
    }
}

impl<I, O, E> Clone for Batcher<I, O, E> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner) }
    }
}

impl<I, O, E> fmt::Debug for Batcher<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// What is special about one item; the default is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct CallOptions {
    level: u8,
    deadline: Option<Duration>,
}

impl CallOptions {
    /// Nothing special.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its priority, from 0, the default and lowest, to one below [`priority_levels`](BatcherBuilder::priority_levels). Items of a higher
    /// level start before those of a lower one, however long these have waited.
    pub fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }

    /// How long it has, from when the call is made, in place of the [`default_deadline`](BatcherBuilder::default_deadline). Then it is answered
    /// [`Deadline`](crate::BatchError::Deadline), whether or not it runs; if it does not, it never will.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// What a shutdown came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Whether everything ended in time.
    pub drained: bool,
    /// What has become of the items, at the end: `queued` is zero, `closed` are those that were not started, and `in_flight` those whose
    /// handler was still running.
    pub stats: Stats,
}

impl Batcher<(), (), ()> {
    /// Builds a batcher around `handler`: see [`BatcherBuilder`] for what can be chosen, and the defaults.
    ///
    /// A handler or a sink that holds a handle of its own batcher keeps it there for ever.
    pub fn builder<I, H>(handler: H) -> BatcherBuilder<I, H::Output, H::Error>
    where
        I: Send + 'static,
        H: BatchHandler<I>,
    {
        BatcherBuilder::new(handler)
    }
}

impl<I, O, E> Batcher<I, O, E> {
    pub(crate) fn new(shared: Arc<Shared<I, O, E>>) -> Self {
        Self { owner: Arc::new(Owner { shared }) }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Arc<Shared<I, O, E>> {
        &self.owner.shared
    }

    /// The same batcher for items of which something is special.
    pub fn with(&self, options: CallOptions) -> With<'_, I, O, E> {
        With { batcher: self, options }
    }

    /// Gives an item and waits for its reply.
    ///
    /// If nothing else is there the batch starts at once, and its first poll happens here: a handler that is ready then costs a lone
    /// caller no hand-over to another task. No allocation once as many items were there before.
    ///
    /// # Errors
    /// See [`BatchError`](crate::BatchError); when the queue is full this waits, unless [`on_full`](BatcherBuilder::on_full) says otherwise.
    #[inline]
    pub fn call(&self, item: I) -> Call<'_, I, O, E> {
        self.with(CallOptions::new()).call(item)
    }

    /// Gives an item, whose reply may be awaited later, elsewhere, or not at all. Never waits.
    ///
    /// # Errors
    /// The item, and why it was not taken.
    pub fn submit(&self, item: I) -> Result<Receipt<I, O, E>, Rejected<I>> {
        self.with(CallOptions::new()).submit(item)
    }

    /// Gives an item to be forgotten: no reply. If it cannot be handled it goes to the [`dead_letter`](BatcherBuilder::dead_letter) sink.
    /// Never waits, whatever the handler does.
    ///
    /// # Errors
    /// The item, and why it was not taken.
    #[inline]
    pub fn try_push(&self, item: I) -> Result<(), Rejected<I>> {
        self.with(CallOptions::new()).try_push(item)
    }

    /// As [`Batcher::try_push`], but waits for room, in the order in which pushes and calls came.
    ///
    /// # Errors
    /// The item, and why it was not taken: [`Reason::Full`] if its deadline passed while it waited for room.
    pub fn push(&self, item: I) -> Push<'_, I, O, E> {
        self.with(CallOptions::new()).push(item)
    }

    /// Gives many items at once and waits for all replies, in the order of the items. Two allocations, of lists
    /// as long as the items are many. None of them starts a batch before all are there, but a batch that starts meanwhile may take some.
    pub fn call_all(&self, items: impl IntoIterator<Item = I>) -> CallAll<'_, I, O, E> {
        self.with(CallOptions::new()).call_all(items)
    }

    /// A barrier: waits until everything that was accepted before has ended, retries included, and lets nothing of it linger. What
    /// comes later is not waited for.
    ///
    /// # Errors
    /// [`Reason::Reentrant`] in the batcher's own handler, which is one of the things that it would wait for.
    pub fn flush(&self) -> Flush<'_, I, O, E> {
        Flush::new(self.shared())
    }

    /// Takes no more items, lets everything that is there run without lingering, and waits for that, at most for `grace`. Then whatever has
    /// not started is answered [`Closed`](crate::BatchError::Closed), or goes to the dead-letter sink, and so are the callers of what
    /// runs. Dropped, it leaves a batcher that takes nothing and runs what is there.
    ///
    /// Retries are made at once, but for those whose errors [asked for a wait](crate::RetryPolicy::wait_at_least).
    ///
    /// # Panics
    /// In a runtime without timers, unless nothing has to be waited for.
    pub async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        let shared = self.shared();
        shared.drain();
        let nothing = { self.stats() };
        let drained = if nothing.queued + nothing.in_flight == 0 {
            true
        } else {
            tokio::time::timeout(grace, self.flush()).await.is_ok_and(|flushed| flushed.is_ok())
        };
        shared.close();
        ShutdownReport { drained, stats: self.stats() }
    }

    /// Whether items are taken: neither this nor another handle has shut the batcher down.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared().lock().is_open()
    }

    /// What has become of the items so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared().lock().stats()
    }
}

/// A batcher for items of which something is special: see [`Batcher::with`].
#[must_use]
pub struct With<'a, I, O, E> {
    batcher: &'a Batcher<I, O, E>,
    options: CallOptions,
}

impl<I, O, E> fmt::Debug for With<'_, I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("With").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<'a, I, O, E> With<'a, I, O, E> {
    #[inline]
    fn shared(&self) -> &'a Arc<Shared<I, O, E>> {
        self.batcher.shared()
    }

    #[inline]
    fn arrival(&self, item: I, called: bool, waits: bool) -> Result<Arrival<I>, Rejected<I>> {
        let shared = self.shared();
        let options = &shared.options;
        if self.options.level >= options.levels {
            return Err(Rejected::new(item, Reason::NoSuchLevel));
        }
        let weight = options.weigh.as_ref().map_or(0, |weigh| weigh(&item));
        let bytes = options.size.as_ref().map_or(0, |size| size(&item));
        let deadline = shared.deadline(self.options.deadline);
        Ok(Arrival { item, called, level: self.options.level, deadline, weight, bytes, waits })
    }

    /// As [`Batcher::call`].
    #[inline]
    pub fn call(&self, item: I) -> Call<'a, I, O, E> {
        Call::new(self.shared(), self.arrival(item, true, true).map_err(|rejected| rejected.reason))
    }

    /// As [`Batcher::submit`].
    ///
    /// # Errors
    /// The item, and why it was not taken.
    pub fn submit(&self, item: I) -> Result<Receipt<I, O, E>, Rejected<I>> {
        let arrival = self.arrival(item, true, false).inspect_err(|_| self.shared().lock().count_rejected())?;
        Receipt::submit(self.shared(), arrival)
    }

    /// As [`Batcher::try_push`].
    ///
    /// # Errors
    /// The item, and why it was not taken.
    #[inline]
    pub fn try_push(&self, item: I) -> Result<(), Rejected<I>> {
        let arrival = self.arrival(item, false, false).inspect_err(|_| self.shared().lock().count_rejected())?;
        push(self.shared(), arrival).map(drop)
    }

    /// As [`Batcher::push`].
    pub fn push(&self, item: I) -> Push<'a, I, O, E> {
        Push::new(self.shared(), self.arrival(item, false, true))
    }

    /// As [`Batcher::call_all`].
    pub fn call_all(&self, items: impl IntoIterator<Item = I>) -> CallAll<'a, I, O, E> {
        let arrival = |item| self.arrival(item, true, true).map_err(|rejected| rejected.reason);
        CallAll::new(self.shared(), items.into_iter().map(arrival).collect())
    }
}
