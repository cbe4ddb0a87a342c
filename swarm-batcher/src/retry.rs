//! What is done with items that failed: run again, halved, or given up.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::discard;
use crate::error::BatchError;

/// Whether and when items that failed run again.
///
/// An item is run again only if the handler answered it with an error for which the classification says yes, or panicked, left it out
/// or miscounted and [`RetryPolicy::also_faults`] was said: only the user knows whether a second run does harm. It waits outside of the
/// permits, so others run meanwhile.
///
/// The wait before the n-th retry is drawn from zero to `base · 2^(n-1)`, at most `cap`: full jitter, after M. Brooker, "Exponential
/// Backoff And Jitter", AWS Architecture Blog, 2015. An error may ask for more: [`RetryPolicy::wait_at_least`].
pub struct RetryPolicy<E> {
    pub(crate) limit: u32,
    pub(crate) base: Duration,
    pub(crate) cap: Duration,
    pub(crate) budget: f64,
    pub(crate) faults: bool,
    retryable: Arc<dyn Fn(&E) -> bool + Send + Sync>,
    least: Option<Arc<Least<E>>>,
}

/// How long an error asks to wait.
type Least<E> = dyn Fn(&E) -> Option<Duration> + Send + Sync;

/// A wait before items run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) time: Duration,
    /// An error asked for some of it.
    pub(crate) asked: bool,
}

/// What foreign code answers, unless it panics.
pub(crate) fn answer_of<R>(code: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(code)).map_err(discard).ok()
}

impl<E> Clone for RetryPolicy<E> {
    fn clone(&self) -> Self {
        Self { retryable: Arc::clone(&self.retryable), least: self.least.clone(), ..*self }
    }
}

impl<E> fmt::Debug for RetryPolicy<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("retries", &self.limit)
            .field("base", &self.base)
            .field("cap", &self.cap)
            .field("budget", &self.budget)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// As far as the batcher's clock goes.
const LONGEST: Duration = Duration::from_nanos(u64::MAX / 2);

/// Retries that are always within the budget: else the first failure of a young batcher could not be retried.
const FREE_RETRIES: f64 = 10.0;

impl<E> RetryPolicy<E> {
    /// At most `retries` retries of an item, hence `retries + 1` runs, of errors for which `retryable` says true. Waits from `base` 10 ms to
    /// `cap` 1 s, a budget of a tenth.
    #[must_use]
    pub fn new(retries: u32, retryable: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        let retryable = Arc::new(retryable);
        Self {
            limit: retries,
            base: Duration::from_millis(10),
            cap: Duration::from_secs(1),
            budget: 0.1,
            faults: false,
            retryable,
            least: None,
        }
    }

    /// The bounds of the waits: `base` at most `cap`, `cap` at most an hour. Zero retries at once.
    #[must_use]
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        (self.base, self.cap) = (base, cap);
        self
    }

    /// How many retries there may be for each item that was accepted, from 0 to 1000, beside ten that are always free. It bounds what
    /// retries add to the load of a service that fails; infinite, nothing does but the waits. Default 0.1.
    #[must_use]
    pub fn budget(mut self, retries_an_item: f64) -> Self {
        self.budget = retries_an_item;
        self
    }

    /// Also retries items that a panic, a missing reply or a wrong number of results left without an answer.
    #[must_use]
    pub fn also_faults(mut self) -> Self {
        self.faults = true;
        self
    }

    /// How long an error asks its item to be left alone, beyond what the back-off says: a server's `Retry-After`, say. Items of a batch that
    /// run again together wait for as long as the one that asks for most, and a shutdown, which hurries other retries, leaves them that
    /// time within its grace. The time is not bounded by the back-off's `cap`, and more than 146 years count as 146 years. A function that
    /// panics asks for nothing. Default: no error asks for anything.
    ///
    /// ```
    /// use std::time::Duration;
    /// use swarm_batcher::RetryPolicy;
    ///
    /// struct Busy { for_seconds: u64 }
    /// let retry = RetryPolicy::new(3, |_: &Busy| true).wait_at_least(|busy| Some(Duration::from_secs(busy.for_seconds)));
    /// # drop(retry);
    /// ```
    #[must_use]
    pub fn wait_at_least(mut self, asked: impl Fn(&E) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.least = Some(Arc::new(asked));
        self
    }

    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.base > self.cap || self.cap > Duration::from_secs(3600) {
            return Some("retry: base at most cap, cap at most an hour");
        }
        let good = (0.0..=1000.0).contains(&self.budget) || self.budget == f64::INFINITY;
        (!good).then_some("retry: a budget from 0 to 1000 retries an item, or infinite")
    }

    /// How many more items may be retried now.
    pub(crate) fn allowance(&self, retried: u64, accepted: u64) -> u64 {
        (FREE_RETRIES + self.budget * accepted as f64 - retried as f64) as u64
    }

    /// Whether an item that ended so may run again.
    pub(crate) fn retries(&self, error: &BatchError<E>) -> bool {
        match error {
            BatchError::Handler(error) => answer_of(|| (self.retryable)(error)).unwrap_or(false),
            _ => self.faults,
        }
    }

    /// Before the retry that follows `attempt` runs, the last of which ended with these errors.
    pub(crate) fn wait<'a>(&self, attempt: u32, errors: impl Iterator<Item = &'a BatchError<E>>) -> Wait
    where
        E: 'a,
    {
        let doubled = self.base.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
        let jittered = doubled.min(self.cap).mul_f64(fastrand::f64());
        let asks = |error: &BatchError<E>| match (&self.least, error) {
            (Some(least), BatchError::Handler(error)) => answer_of(|| least(error)).flatten(),
            _ => None,
        };
        let asked = errors.filter_map(asks).max().unwrap_or_default().min(LONGEST);
        Wait { time: jittered.max(asked), asked: !asked.is_zero() }
    }
}
