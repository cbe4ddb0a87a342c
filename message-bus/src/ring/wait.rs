//! Publishers that wait for room.

use std::future::poll_fn;
use std::sync::{Once, OnceLock};
use std::task::{Poll, RawWakerVTable};

use crossbeam_utils::CachePadded;

use super::alarm::{Alarm, CALM};
use super::error::Refused;
use super::slots::{Pressure, Refusal};
use crate::sync::{AtomicU64, AtomicUsize, Event, EventListener, Mutex, MutexGuard, Ordering, full_fence};

/// Wakes publishers when a subscriber has read on. Those that wait stand in line: only the first listens, so that a freed slot wakes
/// one of them and not all.
#[derive(Debug)]
pub(super) struct Room {
    announced: CachePadded<Announced>,
    event: Event,
    line: tokio::sync::Mutex<()>,
    /// Taken by whoever changes the alarm.
    calm: Mutex<Calm>,
}

/// How often a publisher that finds no room lets other tasks run before it sleeps: the subscriber may be among them, or on another thread
/// and at work.
const PATIENCE: u32 = if cfg!(any(message_bus_loom, message_bus_shuttle)) { 0 } else { 4 };

/// What subscribers look at when they have read on, and hardly anybody writes.
#[derive(Debug)]
struct Announced {
    listeners: AtomicUsize,
    /// Whether subscribers look for listeners.
    alarm: Alarm,
    /// How often a publisher began to listen.
    waits: AtomicU64,
}

/// Since which number there were no more waits than these.
#[derive(Debug, Default)]
struct Calm {
    waits: u64,
    since: u64,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            announced: CachePadded::new(Announced {
                listeners: AtomicUsize::new(0),
                alarm: Alarm::new(),
                waits: AtomicU64::new(0),
            }),
            event: Event::new(),
            line: tokio::sync::Mutex::const_new(()),
            calm: Mutex::new(Calm::default()),
        }
    }

    /// Room was made, by a store before this call.
    #[inline]
    pub(super) fn made(&self) {
        if self.announced.alarm.is_needed() && self.announced.listeners.load(Ordering::Relaxed) != 0 {
            self.event.notify(usize::MAX);
        }
    }

    fn calm(&self) -> MutexGuard<'_, Calm> {
        self.calm.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Has subscribers look for listeners no more, if none has listened for the last `CALM` messages before the number `tail`.
    pub(super) fn calm_down(&self, tail: u64) {
        let waits = self.announced.waits.load(Ordering::Relaxed);
        let mut calm = self.calm();
        if waits != calm.waits || !self.announced.alarm.is_set() {
            *calm = Calm { waits, since: tail };
        } else if tail - calm.since >= CALM {
            calm.since = tail;
            let nobody_listens = || self.announced.listeners.load(Ordering::Relaxed) == 0;
            if self.announced.alarm.clear(nobody_listens) {
                self.event.notify(usize::MAX);
            }
        }
    }

    /// Attempts until granted, closed, or out of patience. Dropped, it has done nothing that it did not say.
    pub(super) async fn wait<R>(&self, mut attempt: impl FnMut() -> Result<R, Refusal>) -> Result<R, Refused> {
        let mut pressure = match attempt() {
            Ok(result) => return Ok(result),
            Err(refusal) => patience(refusal)?,
        };
        let began = tokio::time::Instant::now();
        for _ in 0..PATIENCE {
            if pressure.is_some_and(|limit| began.elapsed() >= limit) {
                break;
            }
            give_way().await;
            pressure = match attempt() {
                Ok(result) => return Ok(result),
                Err(refusal) => patience(refusal)?,
            };
        }
        // A limit beyond what the clock can say is none.
        let mut deadline = pressure.and_then(|limit| began.checked_add(limit));
        // Whoever joins the line waits for those before it, but no longer than its own patience.
        let place = self.line.lock();
        let _first = match deadline {
            None => place.await,
            Some(end) => tokio::time::timeout_at(end, place).await.map_err(|_| Refused::Timeout)?,
        };
        let listening = Listening::new(self);
        loop {
            let event = listening.listen();
            match attempt() {
                Ok(result) => return Ok(result),
                Err(refusal) => deadline = patience(refusal)?.and_then(|limit| began.checked_add(limit)),
            }
            match deadline {
                None => {
                    event.await;
                }
                Some(end) => {
                    tokio::time::timeout_at(end, event).await.map_err(|_| Refused::Timeout)?;
                }
            }
        }
    }

    /// The same on a thread that may block.
    #[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
    pub(super) fn wait_blocking<R>(&self, mut attempt: impl FnMut() -> Result<R, Refusal>) -> Result<R, Refused> {
        use event_listener::Listener as _;

        match attempt() {
            Ok(result) => return Ok(result),
            Err(refusal) => patience(refusal)?,
        };
        let began = std::time::Instant::now();
        let listening = Listening::new(self);
        loop {
            let event = listening.listen();
            let limit = match attempt() {
                Ok(result) => return Ok(result),
                Err(refusal) => patience(refusal)?,
            };
            match limit.and_then(|limit| began.checked_add(limit)) {
                None => event.wait(),
                Some(end) => {
                    event.wait_deadline(end).ok_or(Refused::Timeout)?;
                }
            }
        }
    }
}

/// Lets other tasks run once.
///
/// Tokio's `yield_now` is the cheapest way, but only for its own tasks: it wakes them when the worker has nothing else to do, which is
/// never if the future is polled by another executor that holds the worker up. Tasks of tokio are known by their wakers' functions, which
/// the first call has one of them tell.
pub(super) async fn give_way() {
    static OF_TOKIO: OnceLock<&'static RawWakerVTable> = OnceLock::new();
    static ASKED: Once = Once::new();

    let mut given = false;
    let of_tokio = poll_fn(|context| {
        if given {
            return Poll::Ready(false);
        }
        if OF_TOKIO.get().is_some_and(|functions| std::ptr::eq(*functions, context.waker().vtable())) {
            return Poll::Ready(true);
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            ASKED.call_once(|| {
                drop(runtime.spawn(poll_fn(|context| Poll::Ready(OF_TOKIO.get_or_init(|| context.waker().vtable())))));
            });
        }
        given = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
    if of_tokio {
        tokio::task::yield_now().await;
    }
}

/// How long a refusal lets a publisher wait: `None` is without end.
fn patience(refusal: Refusal) -> Result<Option<std::time::Duration>, Refused> {
    match refusal {
        Refusal::Closed => Err(Refused::Closed),
        Refusal::TooLarge => Err(Refused::TooLarge),
        Refusal::Full(Pressure::Error) => Err(Refused::Full),
        Refusal::Full(Pressure::Block) => Ok(None),
        Refusal::Full(Pressure::BlockTimeout(limit)) => Ok(Some(limit)),
    }
}

/// Counts a publisher among those that room is announced to.
struct Listening<'a>(&'a Room);

impl<'a> Listening<'a> {
    fn new(room: &'a Room) -> Self {
        room.announced.listeners.fetch_add(1, Ordering::AcqRel);
        room.announced.waits.fetch_add(1, Ordering::Relaxed);
        Self(room)
    }

    /// To be asked before the attempt that shows that there is no room.
    fn listen(&self) -> EventListener {
        let listener = self.0.event.listen();
        full_fence();
        if !self.0.announced.alarm.is_set() {
            let _transition = self.0.calm();
            self.0.announced.alarm.set();
        }
        listener
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.announced.listeners.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs a future on this thread, which sleeps while there is nothing to do.
#[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};
    use std::thread::{self, Thread};

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    thread_local! {
        static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
    }

    let mut future = std::pin::pin!(future);
    WAKER.with(|waker| {
        let mut context = Context::from_waker(waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            thread::park();
        }
    })
}

/// A moment's wait before a thread sleeps: waking it costs tens of microseconds. With one processor there is nobody to wait for.
#[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
pub(super) fn spin(mut ready: impl FnMut() -> bool) -> bool {
    use std::sync::LazyLock;

    const ROUNDS: u32 = 200;
    static ALONE: LazyLock<bool> = LazyLock::new(|| std::thread::available_parallelism().is_ok_and(|n| n.get() == 1));

    if ready() {
        return true;
    }
    if *ALONE {
        return false;
    }
    (0..ROUNDS).any(|_| {
        std::hint::spin_loop();
        ready()
    })
}
