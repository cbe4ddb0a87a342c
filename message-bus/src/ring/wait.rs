//! Publishers that wait for room.

use crossbeam_utils::CachePadded;

use super::error::Refused;
use super::slots::{Pressure, Refusal};
use crate::sync::{AtomicUsize, Event, EventListener, Ordering, full_fence};

/// Wakes publishers when a subscriber has read on. Those that wait stand in line: only the first listens, so that a freed slot wakes
/// one of them and not all.
#[derive(Debug)]
pub(super) struct Room {
    listeners: CachePadded<AtomicUsize>,
    event: Event,
    line: tokio::sync::Mutex<()>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            listeners: CachePadded::new(AtomicUsize::new(0)),
            event: Event::new(),
            line: tokio::sync::Mutex::const_new(()),
        }
    }

    /// Room was made, by a store before this call.
    #[inline]
    pub(super) fn made(&self) {
        full_fence();
        if self.listeners.load(Ordering::Relaxed) != 0 {
            self.event.notify(usize::MAX);
        }
    }

    /// Attempts until granted, closed, or out of patience. Dropped, it has done nothing that it did not say.
    pub(super) async fn wait<R>(&self, mut attempt: impl FnMut() -> Result<R, Refusal>) -> Result<R, Refused> {
        let pressure = match attempt() {
            Ok(result) => return Ok(result),
            Err(refusal) => patience(refusal)?,
        };
        let began = tokio::time::Instant::now();
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
        room.listeners.fetch_add(1, Ordering::AcqRel);
        Self(room)
    }

    /// To be asked before the attempt that shows that there is no room.
    fn listen(&self) -> EventListener {
        let listener = self.0.event.listen();
        full_fence();
        listener
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listeners.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs a future on this thread, which sleeps while there is nothing to do.
#[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
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
