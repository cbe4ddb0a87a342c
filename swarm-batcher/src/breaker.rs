//! The circuit breaker: what fails again and again is left alone for a while.

use std::time::Duration;

/// When batches stop being tried.
///
/// After `failures` batches in a row in which every item failed ([`breaker_counts`](crate::BatcherBuilder::breaker_counts) says with which
/// errors), no batch starts for `reset`; then one does, as a probe. If it fails,
/// the wait begins again. While the breaker is open, [`call`](crate::Batcher::call) and [`submit`](crate::Batcher::submit) answer
/// [`Reason::BreakerOpen`](crate::Reason::BreakerOpen) at once; items that are there already, and those that are pushed, wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// At least 1.
    pub failures: u32,
    /// From 1 us to 1 h.
    pub reset: Duration,
}

impl Default for BreakerPolicy {
    /// Five failures, 30 s.
    fn default() -> Self {
        Self { failures: 5, reset: Duration::from_secs(30) }
    }
}

/// Whether an error is a failure to the breaker.
pub(crate) type Counts<E> = Box<dyn Fn(&E) -> bool + Send + Sync>;

/// What a breaker has seen.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// Batches that failed in a row.
    failed: u32,
    /// Until when nothing starts.
    open_until: Option<u64>,
    /// A probe runs.
    probing: bool,
}

impl Breaker {
    /// Callers are turned away.
    pub(crate) fn turns_away(&self, now: impl FnOnce() -> u64) -> bool {
        self.open_until.is_some_and(|until| self.probing || now() < until)
    }

    /// A batch may start.
    pub(crate) fn lets_start(&self, now: impl FnOnce() -> u64) -> bool {
        !self.turns_away(now)
    }

    /// A batch starts.
    pub(crate) fn started(&mut self) {
        self.probing = self.open_until.is_some();
    }

    /// A batch has ended. The time until which it is open now, if it just opened.
    pub(crate) fn ended(&mut self, failed: bool, policy: &BreakerPolicy, now: impl FnOnce() -> u64) -> Option<u64> {
        if !failed {
            *self = Self::default();
            return None;
        }
        self.failed = self.failed.saturating_add(1);
        let opens = self.probing || (self.open_until.is_none() && self.failed >= policy.failures);
        if opens {
            self.probing = false;
            self.open_until = Some(now() + policy.reset.as_nanos() as u64);
        }
        opens.then_some(self.open_until).flatten()
    }
}
