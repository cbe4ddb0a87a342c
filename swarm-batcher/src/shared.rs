//! What the handles, callers and runners of a batcher share, and the way of an item from outside to behind the lock and back.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::runtime::Handle;

use crate::arena::NONE;
use crate::engine::{Core, Start, contain, discard};
use crate::error::{BatchError, Reason, Rejected};
use crate::handler::Entry;
use crate::options::Options;
use crate::retry::answer_of;
use crate::seats::{Seats, Told};
use crate::state::{Aftermath, Arrival, Group, ONLY_LANE, ShareKey, State, Taken, Tally, Verdict, Wakers};
use crate::sync::{Mutex, MutexGuard, lock, lock_busy};

/// Starts the runner of a number, in the runtime that is given; without one, says that the runner is gone.
pub(crate) type Spawn<I, O, E> = fn(Option<Handle>, Arc<Shared<I, O, E>>, u64);

/// The whole state, while it is locked.
pub(crate) struct Locked<'a, I, O, E> {
    state: MutexGuard<'a, State<I, O, E>>,
    options: &'a Options<I, O, E>,
}

impl<'a, I, O, E> Locked<'a, I, O, E> {
    /// All of it, of which the lock is held.
    #[inline]
    pub(crate) fn whole(mut state: MutexGuard<'a, State<I, O, E>>, options: &'a Options<I, O, E>) -> Self {
        state.take_in(options);
        Self { state, options }
    }
}

impl<I, O, E> Deref for Locked<'_, I, O, E> {
    type Target = State<I, O, E>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.state
    }
}

impl<I, O, E> DerefMut for Locked<'_, I, O, E> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.state
    }
}

impl<I, O, E> Drop for Locked<'_, I, O, E> {
    #[inline]
    fn drop(&mut self) {
        self.state.open_inbox(self.options);
    }
}

/// See the module.
pub(crate) struct Shared<I, O, E> {
    pub(crate) options: Options<I, O, E>,
    pub(crate) handler: Box<dyn Start<I, O, E>>,
    spawn: Spawn<I, O, E>,
    /// The runtime that the batcher was built in; without one, the first that an item came from.
    home: OnceLock<Handle>,
    pub(crate) seats: Arc<Seats<I, O, E>>,
    /// Memory of lists that were longer than a batch's callers usually are, to be used again.
    spare_wakers: Mutex<Vec<Wakers>>,
    state: CachePadded<Mutex<State<I, O, E>>>,
}

impl<I, O, E> Shared<I, O, E> {
    pub(crate) fn new(options: Options<I, O, E>, handler: Box<dyn Start<I, O, E>>, spawn: Spawn<I, O, E>) -> Self {
        let seats = Arc::new(Seats::new());
        let state = CachePadded::new(Mutex::new(State::new(&options, Arc::clone(&seats))));
        Self {
            options,
            handler,
            spawn,
            home: Handle::try_current().map_or_else(|_| OnceLock::new(), OnceLock::from),
            seats,
            spare_wakers: Mutex::new(Vec::new()),
            state,
        }
    }

    /// The lock alone, to put an item down.
    #[inline]
    pub(crate) fn lock_inbox(&self) -> MutexGuard<'_, State<I, O, E>> {
        lock_busy(&self.state)
    }

    #[inline]
    pub(crate) fn lock(&self) -> Locked<'_, I, O, E> {
        Locked::whole(self.lock_inbox(), &self.options)
    }

    /// Where a runner could run. A model's run in threads of its own.
    fn runtime(&self) -> Option<Handle> {
        Handle::try_current().ok().or_else(|| self.home.get().cloned())
    }

    fn has_runtime(&self) -> bool {
        if cfg!(any(swarm_batcher_loom, swarm_batcher_shuttle)) || self.home.get().is_some() {
            return true;
        }
        Handle::try_current().is_ok_and(|here| {
            self.home.get_or_init(|| here);
            true
        })
    }

    /// Locks, and finds the lane of an item and the one that it shares, if it does. Both keys are made before the lock is taken.
    fn locate(&self, item: &I, called: bool) -> Located<'_, I, O, E> {
        let Some(shares) = self.options.share.as_ref().filter(|_| called) else {
            let (state, lane) = self.lane(item);
            return Located { state, lane, share: None };
        };
        let mut located = None;
        shares.key.with(item, &mut |hash, key| {
            let (state, lane) = self.lane(item);
            let share = state.shared_item(lane, hash, key).ok_or_else(|| (hash, key.boxed()));
            located = Some(Located { state, lane, share: Some(share) });
        });
        located.expect("the key was shown")
    }

    fn lane(&self, item: &I) -> (Locked<'_, I, O, E>, u32) {
        let Some(key_by) = &self.options.key_by else { return (self.lock(), ONLY_LANE) };
        let mut found = None;
        key_by.with(item, &mut |hash, key| {
            let mut state = self.lock();
            let lane = state.lane_of(hash, key);
            found = Some((state, lane));
        });
        found.expect("the key was shown")
    }

    /// Takes an item into its line. What it starts is for the caller to say, who holds the lock then.
    pub(crate) fn accept<'a>(
        self: &'a Arc<Self>,
        arrival: Arrival<I>,
        after: &mut Aftermath<I, O, E>,
    ) -> (Locked<'a, I, O, E>, Result<Taken, Rejected<I>>) {
        let located = self.locate(&arrival.item, arrival.called);
        self.accept_at(located, arrival, after)
    }

    /// The same for a call, of which the lock that is held is let go while foreign code makes keys.
    #[inline]
    pub(crate) fn accept_with<'a>(
        self: &'a Arc<Self>,
        state: Locked<'a, I, O, E>,
        arrival: Arrival<I>,
        after: &mut Aftermath<I, O, E>,
    ) -> (Locked<'a, I, O, E>, Result<Taken, Rejected<I>>) {
        if self.options.key_by.is_none() && self.options.share.is_none() {
            return self.accept_at(Located { state, lane: ONLY_LANE, share: None }, arrival, after);
        }
        drop(state);
        self.accept(arrival, after)
    }

    #[inline]
    fn accept_at<'a>(
        self: &'a Arc<Self>,
        located: Located<'a, I, O, E>,
        arrival: Arrival<I>,
        after: &mut Aftermath<I, O, E>,
    ) -> (Locked<'a, I, O, E>, Result<Taken, Rejected<I>>) {
        let Located { mut state, lane, share } = located;
        if !state.has_runners() && !self.has_runtime() {
            state.refuse(lane, after);
            return (state, Err(Rejected::new(arrival.item, Reason::NoRuntime)));
        }
        let taken = match share {
            Some(share) => state.accept_shared(&self.options, lane, arrival, share, after),
            None => state.accept(&self.options, lane, arrival, after),
        };
        (state, taken.map_err(|(item, reason)| Rejected::new(item, reason)))
    }

    /// Does what an operation left to be done. The lock is not held. A panic of foreign code keeps none of the rest from being done.
    #[inline]
    pub(crate) fn settle(self: &Arc<Self>, after: Aftermath<I, O, E>) {
        self.settle_with(after);
    }

    /// The same; what the list of wakers took can be used again.
    #[inline]
    pub(crate) fn settle_with(self: &Arc<Self>, mut after: Aftermath<I, O, E>) -> Wakers {
        // First, so that whoever waits for a flush is told when the sink has them.
        if !after.letters.is_empty() {
            self.bury(std::mem::take(&mut after.letters));
        }
        for waker in after.wakers.drain(..) {
            contain(|| waker.wake());
        }
        if let Some(id) = after.spawn.take() {
            self.spawn_runner(id);
        }
        // One by one: a second panic within a list's own drop would be the process's end.
        after.trash.drain(..).for_each(|trash| contain(|| drop(trash)));
        after.wakers
    }

    #[cold]
    fn spawn_runner(self: &Arc<Self>, id: u64) {
        (self.spawn)(self.runtime(), Arc::clone(self), id);
    }

    pub(crate) fn runner_gone(self: &Arc<Self>, id: u64, came: bool) {
        let mut after = Aftermath::new();
        self.lock().runner_gone(&self.options, id, came, &mut after);
        self.settle(after);
    }

    /// Gives items that nobody waits for to the sink.
    #[cold]
    fn bury(&self, letters: Vec<crate::DeadLetter<I, E>>) {
        let (mut taken, mut unclaimed) = (0, 0);
        for letter in letters {
            let outcome = catch_unwind(AssertUnwindSafe(|| match &self.options.dead_letter {
                Some(sink) => sink(letter),
                None => false,
            }));
            match outcome {
                Ok(true) => taken += 1,
                Ok(false) => unclaimed += 1,
                Err(payload) => {
                    discard(payload);
                    unclaimed += 1;
                }
            }
        }
        self.lock().count_letters(taken, unclaimed);
    }

    /// Whether an item that failed is a failure to the breaker.
    fn is_counted(&self, entry: &Entry<I, O, E>) -> bool {
        match (&self.options.breaker_counts, &entry.reply) {
            (Some(counts), Some(Err(BatchError::Handler(error)))) => answer_of(|| counts(error)).unwrap_or(true),
            _ => true,
        }
    }

    /// Lets items of a batch that failed run again, if they may: they are no longer in the batch then. Whether every item failed, to the
    /// breaker.
    fn rerun(&self, core: &mut Core<I, O, E>) -> bool {
        let failed = |entry: &Entry<I, O, E>| matches!(entry.reply, Some(Err(_)));
        if !core.entries.iter().any(failed) {
            return false;
        }
        let whole = core.entries.iter().all(failed);
        let counted = whole && core.entries.iter().all(|entry| self.is_counted(entry));
        let before = core.entries.len();
        self.retry(core);
        let is_there = |entry: &Entry<I, O, E>| entry.item.is_some();
        if self.options.bisect
            && whole
            && before > 1
            && core.entries.len() == before
            && core.entries.iter().all(is_there)
        {
            let second = core.entries.split_off(before / 2);
            let first = core.entries.drain(..).collect();
            let mut state = self.lock();
            for entries in [first, second] {
                let refused = state.rest(&self.options, Group { entries, attempt: core.attempt, asked: false }, None);
                core.entries.extend(refused);
            }
        }
        counted
    }

    /// Takes those items out of a batch that are retried.
    fn retry(&self, core: &mut Core<I, O, E>) {
        let Some(retry) = self.options.retry.as_ref().filter(|retry| core.attempt < retry.limit) else { return };
        let retryable = |entry: &mut Entry<I, O, E>| {
            entry.item.is_some() && matches!(&entry.reply, Some(Err(error)) if retry.retries(error))
        };
        let entries: Vec<_> = core.entries.extract_if(.., retryable).collect();
        if !entries.is_empty() {
            let attempt = core.attempt + 1;
            let wait = retry.wait(attempt, entries.iter().filter_map(|entry| entry.reply.as_ref()?.as_ref().err()));
            let group = Group { entries, attempt, asked: wait.asked };
            let refused = self.lock().rest(&self.options, group, Some(wait.time));
            core.entries.extend(refused);
        }
    }

    /// Ends what is known of single items. Those who share one get an entry each, with a clone of the reply.
    fn detach(&self, core: &mut Core<I, O, E>) {
        if core.entries.iter().all(|entry| entry.place == NONE) {
            return;
        }
        let callers = self.lock().detach(core);
        for (number, seat, epoch) in callers {
            let reply = core.entries[number].reply.as_ref().expect("a batch that has run is answered");
            let share = self.options.share.as_ref().expect("items are shared");
            let clone = catch_unwind(AssertUnwindSafe(|| (share.clone)(reply))).unwrap_or_else(|payload| {
                discard(payload);
                Err(BatchError::Panicked)
            });
            core.entries.push(Entry { item: None, reply: Some(clone), seat, place: NONE, epoch, bytes: 0 });
        }
        for mut entry in core.entries.extract_if(.., |entry| entry.place != NONE) {
            let (item, reply) = (entry.item.take(), entry.reply.take());
            contain(|| drop(item));
            contain(|| drop(reply));
        }
    }

    /// Before the lock: drops the items of a batch that has run, but for those that nobody waits for and that failed.
    #[inline]
    pub(crate) fn drop_items(core: &mut Core<I, O, E>) {
        if !std::mem::needs_drop::<I>() {
            return;
        }
        for entry in &mut core.entries {
            if entry.seat != NONE || !matches!(entry.reply, Some(Err(_))) {
                contain(|| entry.item = None);
            }
        }
    }

    /// A list that is full, but for what would have to be allocated, gets memory that is there.
    #[inline]
    fn make_room(&self, wakers: &mut Wakers) {
        if wakers.len() == wakers.inline_size()
            && !wakers.spilled()
            && let Some(mut spare) = lock(&self.spare_wakers).pop()
        {
            spare.extend(wakers.drain(..));
            *wakers = spare;
        }
    }

    /// Keeps the memory of a list that was used up.
    pub(crate) fn keep(&self, wakers: Wakers) {
        if wakers.spilled() {
            let mut spare = lock(&self.spare_wakers);
            if spare.len() < self.options.max_in_flight {
                spare.push(wakers);
            }
        }
    }

    /// Answers the callers of a batch that has run. They are told later, when the lock has been held for the count. What is left in the
    /// core are items that nobody waits for and that failed.
    fn answer(&self, core: &mut Core<I, O, E>, after: &mut Aftermath<I, O, E>) -> Tally {
        let mut tally = Tally::default();
        let mut left = 0;
        for entry in &mut core.entries {
            let failed = matches!(entry.reply, Some(Err(_)));
            if entry.seat == NONE && failed {
                left += 1;
                continue;
            }
            tally.add(entry.epoch, entry.bytes, failed);
            let reply = entry.reply.take().expect("a batch that has run is answered");
            if entry.seat == NONE {
                contain(|| drop(reply));
                continue;
            }
            match self.seats.reply(entry.seat, reply) {
                Told::Wake(waker) => {
                    self.make_room(&mut after.wakers);
                    after.wakers.push(waker);
                }
                Told::Nobody => {}
                Told::Unwanted(reply) => contain(|| drop(reply)),
            }
        }
        if left == 0 {
            core.entries.clear();
        } else {
            core.entries.retain(|entry| entry.reply.is_some());
        }
        tally
    }

    /// A batch has run: its callers are answered. The lock is held for what comes next.
    #[inline]
    pub(crate) fn finish(&self, core: &mut Core<I, O, E>, after: &mut Aftermath<I, O, E>) -> Locked<'_, I, O, E> {
        let items = core.entries.len();
        let verdict = Verdict { items, failed: self.rerun(core) };
        self.end(core, verdict, after)
    }

    #[inline]
    fn end(&self, core: &mut Core<I, O, E>, verdict: Verdict, after: &mut Aftermath<I, O, E>) -> Locked<'_, I, O, E> {
        self.detach(core);
        Self::drop_items(core);
        let tally = self.answer(core, after);
        let mut state = self.lock();
        state.settle(&self.options, core, verdict, &tally, after);
        state
    }

    /// A batch was dropped while it ran; its items that have no reply were given one.
    pub(crate) fn abandon(self: &Arc<Self>, core: &mut Core<I, O, E>) {
        let mut after = Aftermath::new();
        let verdict = Verdict { items: core.entries.len(), failed: true };
        let mut state = self.end(core, verdict, &mut after);
        state.kick(&self.options, &mut after);
        drop(state);
        self.settle(after);
    }

    /// No more items come; what is there leaves at once.
    pub(crate) fn drain(self: &Arc<Self>) {
        let mut after = Aftermath::new();
        self.lock().drain(&self.options, &mut after);
        self.settle(after);
    }

    /// Whatever has not ended is answered.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut after = Aftermath::new();
        self.lock().close(&self.options, &mut after);
        self.settle(after);
    }

    /// The batcher's clock when `wait` has passed.
    pub(crate) fn deadline(&self, wait: Option<Duration>) -> Option<std::num::NonZeroU64> {
        let wait =
            wait.map(|wait| wait.as_nanos().min(u128::from(u64::MAX / 2)) as u64).or(self.options.default_deadline)?;
        std::num::NonZeroU64::new(self.options.now().saturating_add(wait).max(1))
    }
}

/// A lock that is held, and where an item belongs.
struct Located<'a, I, O, E> {
    state: Locked<'a, I, O, E>,
    lane: u32,
    /// The item that it shares, or the key by which others may share it.
    share: Option<ShareKey>,
}
