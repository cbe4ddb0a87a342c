//! A second call where the first one takes unusually long.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::RetryBudget;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Makes a call a second time when it takes longer than 95 % of the last ones, and takes the first answer ("hedged requests": Dean and
/// Barroso, "The Tail at Scale", 2013). For calls that may be made twice.
///
/// The 95th percentile is that of the last 128 calls. A first call whose second one was faster counts as having taken as long as it was
/// waited for: it lies above the percentile whatever it would have taken, so the percentile does not creep down.
///
/// Second calls come out of a budget, so that a service that has become slow for everyone gets little more than its normal load.
#[derive(Debug)]
pub struct Hedge {
    /// Microseconds, the last ones in a ring.
    latencies: [AtomicU32; KEPT],
    recorded: AtomicU64,
    delay_nanos: AtomicU64,
    budget: RetryBudget,
    calls: AtomicU64,
    hedged: AtomicU64,
    won: AtomicU64,
}

const KEPT: usize = 128;
/// How often the percentile is taken again.
const EVERY: u64 = 16;
/// Fewer than this have no 95th percentile.
const LEAST: u64 = 32;

/// What a [`Hedge`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HedgeStats {
    /// Calls.
    pub calls: u64,
    /// Calls that were made a second time.
    pub hedged: u64,
    /// Of these, calls whose second answer was taken.
    pub won: u64,
}

impl Hedge {
    /// A second call comes after `delay` until enough is known (32 calls), and out of `budget`; 10 % of the calls and 1 a second
    /// (`RetryBudget::new(0.1, 1.0)`) leave room for the slowest twentieth.
    #[must_use]
    pub fn new(delay: Duration, budget: RetryBudget) -> Self {
        Self {
            latencies: std::array::from_fn(|_| AtomicU32::new(0)),
            recorded: AtomicU64::new(0),
            delay_nanos: AtomicU64::new(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)),
            budget,
            calls: AtomicU64::new(0),
            hedged: AtomicU64::new(0),
            won: AtomicU64::new(0),
        }
    }

    /// How long a first call is waited for, at the moment.
    #[must_use]
    pub fn delay(&self) -> Duration {
        Duration::from_nanos(self.delay_nanos.load(Ordering::Relaxed))
    }

    /// What has been done so far.
    #[must_use]
    pub fn stats(&self) -> HedgeStats {
        HedgeStats {
            calls: self.calls.load(Ordering::Relaxed),
            hedged: self.hedged.load(Ordering::Relaxed),
            won: self.won.load(Ordering::Relaxed),
        }
    }

    /// Makes the call, once or twice.
    ///
    /// # Errors
    /// That of the first call if it fails before there is a second one; of two, the one that fails last.
    ///
    /// # Cancellation
    /// The slower call is dropped when the faster one has answered; dropping the future drops both.
    pub async fn run<T, E, F: Future<Output = Result<T, E>>>(&self, mut attempt: impl FnMut() -> F) -> Result<T, E> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.budget.call();
        let began = Instant::now();
        let mut first = pin!(attempt());
        let in_time = timeout(self.delay(), first.as_mut()).await;
        let result = match in_time {
            Ok(result) => result,
            Err(_) if !self.budget.try_retry(Instant::now().into_std()) => first.await,
            Err(_) => {
                self.hedged.fetch_add(1, Ordering::Relaxed);
                let mut second = pin!(attempt());
                let (mut first_failed, mut second_failed) = (false, false);
                poll_fn(|context| {
                    if !first_failed && let Poll::Ready(result) = first.as_mut().poll(context) {
                        if result.is_ok() || second_failed {
                            return Poll::Ready(result);
                        }
                        first_failed = true;
                    }
                    if !second_failed && let Poll::Ready(result) = second.as_mut().poll(context) {
                        if result.is_ok() {
                            self.won.fetch_add(1, Ordering::Relaxed);
                        }
                        if result.is_ok() || first_failed {
                            return Poll::Ready(result);
                        }
                        second_failed = true;
                    }
                    Poll::Pending
                })
                .await
            }
        };
        if result.is_ok() {
            self.record(began.elapsed());
        }
        result
    }

    fn record(&self, latency: Duration) {
        let number = self.recorded.fetch_add(1, Ordering::Relaxed);
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.latencies[number as usize % KEPT].store(micros, Ordering::Relaxed);
        let known = number + 1;
        if known >= LEAST && known.is_multiple_of(EVERY) {
            let mut kept = [0; KEPT];
            for (copy, latency) in kept.iter_mut().zip(&self.latencies) {
                *copy = latency.load(Ordering::Relaxed);
            }
            let known = &mut kept[..KEPT.min(known as usize)];
            let rank = (known.len() * 95).div_ceil(100) - 1;
            let (_, &mut percentile, _) = known.select_nth_unstable(rank);
            self.delay_nanos.store(u64::from(percentile) * 1000, Ordering::Relaxed);
        }
    }
}
