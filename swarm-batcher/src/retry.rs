//! What is done with items that failed: run again, halved, or given up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whether and when items that failed run again.
///
/// An item is run again only if the handler answered it with an error for which the classification says yes, or panicked, left it out
/// or miscounted and [`RetryPolicy::also_faults`] was said: only the user knows whether a second run does harm. It waits outside of the
/// permits, so others run meanwhile.
///
/// The wait before the n-th retry is drawn from zero to `base · 2^(n-1)`, at most `cap`: full jitter, after M. Brooker, "Exponential
/// Backoff And Jitter", AWS Architecture Blog, 2015.
pub struct RetryPolicy<E> {
    pub(crate) retries: u32,
    pub(crate) base: Duration,
    pub(crate) cap: Duration,
    pub(crate) budget: f64,
    pub(crate) faults: bool,
    pub(crate) retryable: Arc<dyn Fn(&E) -> bool + Send + Sync>,
}

impl<E> Clone for RetryPolicy<E> {
    fn clone(&self) -> Self {
        Self { retryable: Arc::clone(&self.retryable), ..*self }
    }
}

impl<E> fmt::Debug for RetryPolicy<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryPolicy")
            .field("retries", &self.retries)
            .field("base", &self.base)
            .field("cap", &self.cap)
            .field("budget", &self.budget)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// Retries that are always within the budget: else the first failure of a young batcher could not be retried.
const FREE_RETRIES: f64 = 10.0;

impl<E> RetryPolicy<E> {
    /// At most `retries` retries of an item, hence `retries + 1` runs, of errors for which `retryable` says true. Waits from `base` 10 ms to
    /// `cap` 1 s, a budget of a tenth.
    #[must_use]
    pub fn new(retries: u32, retryable: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        let retryable = Arc::new(retryable);
        Self {
            retries,
            base: Duration::from_millis(10),
            cap: Duration::from_secs(1),
            budget: 0.1,
            faults: false,
            retryable,
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

    /// Before the retry that follows `attempt` runs.
    pub(crate) fn wait(&self, attempt: u32) -> Duration {
        let doubled = self.base.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.cap).mul_f64(fastrand::f64())
    }
}
