//! Heartbeats of one node, sent while it is there.

use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::HeartbeatError;
use super::node::{Heartbeat, Node};

/// How long [`Beater::stop`] waits for a heartbeat that is under way.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Any error of a sink's.
pub type SinkError = Box<dyn std::error::Error + Send + Sync>;

/// Where heartbeats go. Closures from a [`Heartbeat`] to a future are sinks.
pub trait Sink: Send + Sync + 'static {
    /// Sends one heartbeat. The future is dropped when it takes too long.
    fn send(&self, heartbeat: Heartbeat) -> impl Future<Output = Result<(), SinkError>> + Send;
}

impl<F, Sent> Sink for F
where
    F: Fn(Heartbeat) -> Sent + Send + Sync + 'static,
    Sent: Future<Output = Result<(), SinkError>> + Send,
{
    fn send(&self, heartbeat: Heartbeat) -> impl Future<Output = Result<(), SinkError>> + Send {
        self(heartbeat)
    }
}

/// A heartbeat that did not arrive, as far as is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BeatError {
    /// The sink said so.
    #[error("the sink failed: {0}")]
    Failed(#[source] SinkError),
    /// The sink took too long and was given up: whether the heartbeat arrived is unknown.
    #[error("the sink took longer than {0:?}")]
    TimedOut(Duration),
    /// The sink panicked.
    #[error("the sink panicked")]
    Panicked,
}

/// Sends the heartbeats of a node: the first after one interval, then one every interval.
///
/// A sink that fails, panics or takes too long costs that heartbeat alone. One is under way at a time: while a sink is slow, heartbeats that
/// come due are left out and counted, and nothing piles up.
///
/// Dropping a beater ends it at once; [`Beater::stop`] lets the heartbeat under way arrive.
pub struct Beater<S> {
    pulse: Arc<Pulse<S>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// What a [`Beater`] has done: every heartbeat that came due is in one of the counts, but for one that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BeaterStats {
    /// Heartbeats that the sink has taken.
    pub sent: u64,
    /// Those that it refused, the ones in which it panicked included.
    pub failed: u64,
    /// Those that it took too long for.
    pub timed_out: u64,
    /// Those that were left out because the one before was still under way.
    pub missed: u64,
    /// One that was under way when the time to stop was over.
    pub aborted: u64,
}

/// A [`Beater`] before it starts.
#[derive(Debug)]
pub struct BeaterBuilder {
    node: Arc<Node>,
    interval: Duration,
    send_within: Duration,
}

impl BeaterBuilder {
    /// The time between heartbeats: 30 s unless set, at least 1 ms.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long the sink may take for one: 10 s unless set, at least 1 ms.
    #[must_use]
    pub fn send_within(mut self, time: Duration) -> Self {
        self.send_within = time;
        self
    }

    /// Starts it as a task of the runtime in which this is called.
    ///
    /// # Errors
    /// [`HeartbeatError::OutOfRange`] names an option that is too short; [`HeartbeatError::NoRuntime`] outside of a tokio runtime.
    pub fn start<S: Sink>(self, sink: S) -> Result<Beater<S>, HeartbeatError> {
        const LEAST: Duration = Duration::from_millis(1);
        for (option, time) in [("interval", self.interval), ("send_within", self.send_within)] {
            if time < LEAST {
                return Err(HeartbeatError::out_of_range(option, time, "at least 1 ms"));
            }
        }
        let runtime = Handle::try_current().map_err(|_| HeartbeatError::NoRuntime)?;
        let pulse = Pulse { node: self.node, sink, send_within: self.send_within, counts: Counts::default() };
        let pulse = Arc::new(pulse);
        let (stop, stopped) = oneshot::channel();
        let task = runtime.spawn(Arc::clone(&pulse).run(self.interval, stopped));
        Ok(Beater { pulse, stop: Some(stop), task })
    }
}

impl Beater<()> {
    /// Options before the start.
    #[must_use]
    pub fn builder(node: Arc<Node>) -> BeaterBuilder {
        BeaterBuilder { node, interval: Duration::from_secs(30), send_within: Duration::from_secs(10) }
    }
}

impl<S: Sink> Beater<S> {
    /// Sends a heartbeat now, besides those that come due, for example because the node's health has changed. It is counted as they are.
    ///
    /// # Errors
    /// [`BeatError`] says what the sink did.
    ///
    /// # Cancellation
    /// Dropping the future drops the sink's; the heartbeat is then in no count.
    pub async fn beat(&self) -> Result<(), BeatError> {
        self.pulse.beat().await
    }

    /// What has been done so far.
    #[must_use]
    pub fn stats(&self) -> BeaterStats {
        self.pulse.counts.read()
    }

    /// Ends it: no heartbeat starts any more, and one that is under way has 5 s. Tells what has been done.
    ///
    /// # Cancellation
    /// Dropping the future ends it at once.
    pub async fn stop(mut self) -> BeaterStats {
        drop(self.stop.take());
        if timeout(STOP_WITHIN, &mut self.task).await.is_err() {
            self.pulse.counts.aborted.fetch_add(1, Ordering::Relaxed);
        }
        self.stats()
    }
}

impl<S> Drop for Beater<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S> fmt::Debug for Beater<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beater")
            .field("node", &self.pulse.node)
            .field("stats", &self.pulse.counts.read())
            .finish_non_exhaustive()
    }
}

struct Pulse<S> {
    node: Arc<Node>,
    sink: S,
    send_within: Duration,
    counts: Counts,
}

impl<S: Sink> Pulse<S> {
    async fn run(self: Arc<Self>, interval: Duration, mut stopped: oneshot::Receiver<()>) {
        let mut due = Instant::now() + interval;
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => return,
                () = sleep_until(due) => {}
            }
            // Counted; there is nobody to tell.
            let _ = self.beat().await;
            due += interval;
            let late = Instant::now().saturating_duration_since(due);
            if let Some(missed) = missed(late, interval) {
                self.counts.missed.fetch_add(u64::from(missed), Ordering::Relaxed);
                due += interval * missed;
            }
        }
    }

    async fn beat(&self) -> Result<(), BeatError> {
        let heartbeat = self.node.heartbeat(Instant::now().into_std());
        let sent = match timeout(self.send_within, self.send(heartbeat)).await {
            Ok(sent) => sent,
            Err(_) => Err(BeatError::TimedOut(self.send_within)),
        };
        let count = match &sent {
            Ok(()) => &self.counts.sent,
            Err(BeatError::TimedOut(_)) => &self.counts.timed_out,
            Err(BeatError::Failed(_) | BeatError::Panicked) => &self.counts.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        sent
    }

    async fn send(&self, heartbeat: Heartbeat) -> Result<(), BeatError> {
        let mut sending = pin!(async { self.sink.send(heartbeat).await });
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| sending.as_mut().poll(context))) {
            Ok(polled) => polled.map_err(BeatError::Failed),
            Err(_) => Poll::Ready(Err(BeatError::Panicked)),
        })
        .await
    }
}

/// How many heartbeats have come due meanwhile, if the next one is late by so much.
fn missed(late: Duration, interval: Duration) -> Option<u32> {
    let intervals = late.as_nanos() / interval.as_nanos() + 1;
    (!late.is_zero()).then(|| u32::try_from(intervals).unwrap_or(u32::MAX))
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
    missed: AtomicU64,
    aborted: AtomicU64,
}

impl Counts {
    fn read(&self) -> BeaterStats {
        BeaterStats {
            sent: self.sent.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
            aborted: self.aborted.load(Ordering::Relaxed),
        }
    }
}
