//! How late tasks are woken.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::tick::Ticks;

/// Lags are told apart up to this; a longer one counts as this.
const LONGEST: Duration = Duration::from_secs(60);

/// Measures a runtime's lag: how long after each tick of a clock a task that waits for it runs.
///
/// Ticks that come due while the task could not run are one lag, the longest, and counted as missed. It is a task of the runtime and is
/// delayed as others are: with several workers, a block of one of them shows only as far as it holds up others; [`super::BlockingDetector`]
/// sees every one, and whose it is.
///
/// The task wakes once a tick for as long as the monitor lives, also in a runtime that is idle.
pub struct LoopMonitor {
    lags: Arc<Mutex<Lags>>,
    task: JoinHandle<()>,
}

struct Lags {
    histogram: Histogram<u64>,
    on_time: u64,
    missed: u64,
    longest: Duration,
}

impl Lags {
    fn none() -> Self {
        let range = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 2);
        let histogram = range.expect("1 ns to 60 s with 2 digits is a range that histograms support");
        Self { histogram, on_time: 0, missed: 0, longest: Duration::ZERO }
    }
}

/// Lags of all ticks so far.
#[derive(Clone)]
pub struct LagHistogram {
    lags: Histogram<u64>,
    on_time: u64,
    missed: u64,
    longest: Duration,
}

/// Why something about a runtime's health cannot be watched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HealthError {
    /// An option is outside of its range. Nothing was started.
    #[error("{option} is {found:?}, and must be {range}")]
    OutOfRange {
        /// The option's name.
        option: &'static str,
        /// What was given.
        found: Duration,
        /// What it may be.
        range: &'static str,
    },
    /// A monitor needs a runtime to measure.
    #[error("a loop monitor needs a tokio runtime, and there is none here")]
    NoRuntime,
}

impl LoopMonitor {
    /// Measures the runtime in which this is called, a thousand times a second.
    ///
    /// # Errors
    /// [`HealthError::NoRuntime`] outside of a tokio runtime.
    pub fn start() -> Result<Self, HealthError> {
        Self::every(Duration::from_millis(1))
    }

    /// The same with another tick, 100 µs to a minute.
    ///
    /// # Errors
    /// [`HealthError::OutOfRange`] for another one; [`HealthError::NoRuntime`] outside of a tokio runtime.
    pub fn every(tick: Duration) -> Result<Self, HealthError> {
        if !(Duration::from_micros(100)..=Duration::from_secs(60)).contains(&tick) {
            return Err(HealthError::OutOfRange { option: "tick", found: tick, range: "100 us to a minute" });
        }
        let runtime = Handle::try_current().map_err(|_| HealthError::NoRuntime)?;
        let lags = Arc::new(Mutex::new(Lags::none()));
        let task = runtime.spawn(measure(tick, Arc::clone(&lags)));
        Ok(Self { lags, task })
    }

    /// All lags since the monitor was started.
    #[must_use]
    pub fn report(&self) -> LagHistogram {
        let lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        let Lags { ref histogram, on_time, missed, longest } = *lags;
        LagHistogram { lags: histogram.clone(), on_time, missed, longest }
    }
}

impl Drop for LoopMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn measure(tick: Duration, lags: Arc<Mutex<Lags>>) {
    let (mut ticks, start) = Ticks::every(tick);
    // Ticks that have been told.
    let mut told = 0;
    loop {
        ticks.next().await;
        let passed = start.elapsed().as_nanos();
        let due = passed / tick.as_nanos();
        // The kernel's clock may have started a moment before ours.
        if due <= told {
            continue;
        }
        let lag = passed - (told + 1) * tick.as_nanos();
        let mut lags = lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.histogram.saturating_record((lag as u64).max(1));
        lags.missed += (due - told - 1) as u64;
        lags.on_time += u64::from(due == told + 1);
        lags.longest = lags.longest.max(Duration::from_nanos(lag as u64));
        told = due;
    }
}

impl LagHistogram {
    /// Ticks at which the task ran, each with its lag.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.lags.len()
    }

    /// Of these, ticks at which it ran before the next one was due.
    #[must_use]
    pub fn on_time(&self) -> u64 {
        self.on_time
    }

    /// Ticks that came due before the task had run for the one before.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// The mean lag; zero before the first tick.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.lags.mean() as u64)
    }

    /// The lag that so many lags (0 to 1) are not above, to 1 %; zero before the first tick.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.lags.value_at_quantile(share)).min(self.longest)
    }

    /// The longest lag.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.longest
    }
}

impl fmt::Debug for LagHistogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LagHistogram")
            .field("ticks", &self.ticks())
            .field("missed", &self.missed)
            .field("mean", &self.mean())
            .field("p99", &self.quantile(0.99))
            .field("longest", &self.longest)
            .finish()
    }
}

impl fmt::Debug for LoopMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoopMonitor").field(&self.report()).finish()
    }
}
