//! Who held a worker up.

use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::HealthError;

/// Events that wait for the callback; more are dropped and counted.
const WAITING: usize = 4096;

/// Reports tasks whose polls take long, and so keep others from running: by name, with thread, duration and where they were spawned.
///
/// Each poll of a task that was spawned by [`BlockingDetector::spawn`], or of a future in [`BlockingDetector::watch`], is timed by its
/// worker, which notes its start for all to see; a poll that took 5 ms or more is told to a watcher thread, which calls the callback. So none
/// is missed, none is reported that was shorter, and the callback holds no worker up. A poll that does not end is reported while it runs, once,
/// after a second. The time is that of the clock: a worker that the operating system has put aside for so long holds its tasks up as well.
///
/// Dropping the detector ends the watcher once it has told what is waiting. Futures that are still watched then run on unwatched.
///
/// # Cost
/// Two readings of the clock and two moments under a lock of the worker's own a poll; a task is one allocation. The watcher sleeps, and
/// looks at what is running twice a second.
pub struct BlockingDetector {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

/// A poll that held its worker up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BlockEvent {
    /// The name under which the task was spawned.
    pub task: Arc<str>,
    /// The name of the worker's thread, or its number if it has no name.
    pub thread: Arc<str>,
    /// How long the poll took, or has taken so far.
    pub duration: Duration,
    /// Where the task was spawned.
    pub location: &'static Location<'static>,
    /// Whether the poll has not ended. If it does, it is reported once more.
    pub running: bool,
}

/// What a [`BlockingDetector`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BlockingStats {
    /// Polls that took as long as the threshold or longer.
    pub blocked: u64,
    /// Reports that were dropped because the callback was too slow.
    pub dropped: u64,
    /// Calls of the callback in which it panicked.
    pub panicked: u64,
}

/// What a [`BlockingDetector`] reports.
#[derive(Debug, Clone)]
pub struct BlockingBuilder {
    threshold: Duration,
    stuck_after: Duration,
}

impl BlockingBuilder {
    /// The duration from which on a poll is reported: 5 ms unless set, at least 100 µs.
    #[must_use]
    pub fn threshold(mut self, duration: Duration) -> Self {
        self.threshold = duration;
        self
    }

    /// The duration after which a poll that has not ended is reported: 1 s unless set, at least 2 ms and not below the threshold. The
    /// watcher looks twice in that time, so the report may be half as late again.
    #[must_use]
    pub fn stuck_after(mut self, duration: Duration) -> Self {
        self.stuck_after = duration;
        self
    }

    /// Starts the watcher.
    ///
    /// # Errors
    /// [`HealthError::OutOfRange`] names an option that is too short.
    ///
    /// # Panics
    /// If the operating system starts no thread.
    pub fn on_block(self, callback: impl Fn(BlockEvent) + Send + 'static) -> Result<BlockingDetector, HealthError> {
        let refused = |option, found, range| Err(HealthError::OutOfRange { option, found, range });
        if self.threshold < Duration::from_micros(100) {
            return refused("threshold", self.threshold, "at least 100 us");
        }
        if self.stuck_after < self.threshold.max(Duration::from_millis(2)) {
            return refused("stuck_after", self.stuck_after, "at least 2 ms and not below the threshold");
        }
        let (events, waiting) = sync_channel(WAITING);
        let shared = Arc::new(Shared {
            threshold: self.threshold,
            stuck_after: self.stuck_after,
            slots: Mutex::new(Vec::new()),
            events,
            ended: AtomicBool::new(false),
            blocked: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
        });
        let watched = Arc::clone(&shared);
        let watcher = thread::Builder::new()
            .name("blocking-detector".to_owned())
            .spawn(move || watched.report(&waiting, callback))
            .expect("the operating system starts a thread");
        Ok(BlockingDetector { shared, watcher: Some(watcher) })
    }
}

impl BlockingDetector {
    /// Calls `callback`, in a thread of its own, for each poll of 5 ms or more. What it panics with is discarded.
    ///
    /// # Panics
    /// If the operating system starts no thread.
    #[must_use]
    pub fn on_block(callback: impl Fn(BlockEvent) + Send + 'static) -> Self {
        Self::builder().on_block(callback).expect("the defaults are in range")
    }

    /// Options before the callback.
    #[must_use]
    pub fn builder() -> BlockingBuilder {
        BlockingBuilder { threshold: Duration::from_millis(5), stuck_after: Duration::from_secs(1) }
    }

    /// The future, watched: `name` and the place of this call stand in reports.
    #[track_caller]
    pub fn watch<F: Future>(&self, name: impl Into<Arc<str>>, future: F) -> Watched<F> {
        let task = Arc::new(Task { name: name.into(), location: Location::caller() });
        Watched { future, task, shared: Arc::clone(&self.shared) }
    }

    /// Spawns a watched task on the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[track_caller]
    pub fn spawn<F>(&self, name: impl Into<Arc<str>>, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        tokio::spawn(self.watch(name, future))
    }

    /// What has been done so far.
    #[must_use]
    pub fn stats(&self) -> BlockingStats {
        BlockingStats {
            blocked: self.shared.blocked.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            panicked: self.shared.panicked.load(Ordering::Relaxed),
        }
    }
}

impl Drop for BlockingDetector {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        // A full channel has something to wake the watcher by already.
        let _ = self.shared.events.try_send(None);
        // A callback that drops its own detector does not wait for itself.
        if let Some(watcher) = self.watcher.take_if(|watcher| watcher.thread().id() != thread::current().id()) {
            // It has caught the callback's panics.
            let _ = watcher.join();
        }
    }
}

pin_project! {
    /// A future whose polls are watched.
    ///
    /// # Cancellation
    /// As that of the future; dropping it is not watched.
    #[must_use = "futures do nothing unless polled"]
    pub struct Watched<F> {
        #[pin]
        future: F,
        task: Arc<Task>,
        shared: Arc<Shared>,
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let watched = self.project();
        let _poll = PollUnderWay::begin(watched.shared, watched.task);
        watched.future.poll(context)
    }
}

struct Task {
    name: Arc<str>,
    location: &'static Location<'static>,
}

/// What a worker is doing for one detector.
struct Slot {
    thread: Arc<str>,
    running: Mutex<Option<Running>>,
}

#[derive(Clone)]
struct Running {
    since: Instant,
    task: Arc<Task>,
    told: bool,
}

struct Shared {
    threshold: Duration,
    stuck_after: Duration,
    slots: Mutex<Vec<Weak<Slot>>>,
    /// `None` wakes the watcher.
    events: SyncSender<Option<BlockEvent>>,
    ended: AtomicBool,
    blocked: AtomicU64,
    dropped: AtomicU64,
    panicked: AtomicU64,
}

thread_local! {
    /// This worker's slots, one a detector.
    static SLOTS: RefCell<Vec<(Weak<Shared>, Arc<Slot>)>> = const { RefCell::new(Vec::new()) };
}

/// Ends a poll's watch when it is dropped, also by a panic.
struct PollUnderWay<'a> {
    shared: &'a Shared,
    slot: Option<Arc<Slot>>,
    since: Instant,
    task: &'a Arc<Task>,
    /// A watched future that polls another one.
    around: Option<Running>,
}

impl<'a> PollUnderWay<'a> {
    fn begin(shared: &'a Arc<Shared>, task: &'a Arc<Task>) -> Self {
        let slot = (!shared.ended.load(Ordering::Relaxed)).then(|| slot_of(shared));
        let since = Instant::now();
        let running = Running { since, task: Arc::clone(task), told: false };
        let around = slot.as_ref().and_then(|slot| lock(&slot.running).replace(running));
        Self { shared, slot, since, task, around }
    }
}

impl Drop for PollUnderWay<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        let duration = self.since.elapsed();
        *lock(&slot.running) = self.around.take();
        if duration >= self.shared.threshold {
            self.shared.blocked.fetch_add(1, Ordering::Relaxed);
            self.shared.tell(event(&slot, self.task, duration, false));
        }
    }
}

fn event(slot: &Slot, task: &Task, duration: Duration, running: bool) -> BlockEvent {
    BlockEvent {
        task: Arc::clone(&task.name),
        thread: Arc::clone(&slot.thread),
        duration,
        location: task.location,
        running,
    }
}

/// Under these locks nothing runs that could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn slot_of(shared: &Arc<Shared>) -> Arc<Slot> {
    SLOTS.with_borrow_mut(|slots| {
        let known = slots.iter().find(|(of, _)| std::ptr::eq(of.as_ptr(), Arc::as_ptr(shared)));
        if let Some((_, slot)) = known {
            return Arc::clone(slot);
        }
        slots.retain(|(of, _)| of.strong_count() > 0);
        let current = thread::current();
        let thread = current.name().map_or_else(|| format!("{:?}", current.id()), str::to_owned).into();
        let slot = Arc::new(Slot { thread, running: Mutex::new(None) });
        slots.push((Arc::downgrade(shared), Arc::clone(&slot)));
        let mut all = lock(&shared.slots);
        // Workers that have ended took their slots with them.
        all.retain(|slot| slot.strong_count() > 0);
        all.push(Arc::downgrade(&slot));
        slot
    })
}

impl Shared {
    fn tell(&self, event: BlockEvent) {
        if self.events.try_send(Some(event)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The watcher.
    fn report(&self, waiting: &Receiver<Option<BlockEvent>>, callback: impl Fn(BlockEvent)) {
        let call = |event| {
            if catch_unwind(AssertUnwindSafe(|| callback(event))).is_err() {
                self.panicked.fetch_add(1, Ordering::Relaxed);
            }
        };
        let between_looks = self.stuck_after / 2;
        let mut look = Instant::now() + between_looks;
        while !self.ended.load(Ordering::Acquire) {
            match waiting.recv_timeout(look.saturating_duration_since(Instant::now())) {
                Ok(event) => event.into_iter().for_each(call),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.stuck().into_iter().for_each(call);
                    look = Instant::now() + between_looks;
                }
            }
        }
        waiting.try_iter().flatten().for_each(call);
    }

    /// Polls that have been running for too long and have not been told.
    fn stuck(&self) -> Vec<BlockEvent> {
        let slots = lock(&self.slots).clone();
        let stuck = slots.iter().filter_map(Weak::upgrade).filter_map(|slot| {
            let mut running = lock(&slot.running);
            let running = running.as_mut().filter(|running| !running.told)?;
            let duration = running.since.elapsed();
            running.told = duration >= self.stuck_after;
            running.told.then(|| event(&slot, &running.task, duration, true))
        });
        stuck.collect()
    }
}

impl fmt::Debug for BlockingDetector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingDetector").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for Watched<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("task", &self.task.name).finish_non_exhaustive()
    }
}
