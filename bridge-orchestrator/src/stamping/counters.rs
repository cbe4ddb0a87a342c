//! What was asked of the services, counted.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) stamp_calls: Counter,
    pub(super) stamp_failures: Counter,
    pub(super) refused: Counter,
    pub(super) intelligence_calls: Counter,
    pub(super) remembered: Counter,
    pub(super) degraded: Counter,
}

/// What was asked of the services of one process, since they were built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServiceCounts {
    /// Calls of the stamping service, a batch being one.
    pub stamp_calls: u64,
    /// Those that failed or took too long.
    pub stamp_failures: u64,
    /// Calls that the breaker did not let through.
    pub refused: u64,
    /// Calls of the intelligence service.
    pub intelligence_calls: u64,
    /// Questions that were answered from memory.
    pub remembered: u64,
    /// Questions that were answered by the fallback.
    pub degraded: u64,
}

impl Counters {
    pub(super) fn read(&self) -> ServiceCounts {
        ServiceCounts {
            stamp_calls: self.stamp_calls.get(),
            stamp_failures: self.stamp_failures.get(),
            refused: self.refused.get(),
            intelligence_calls: self.intelligence_calls.get(),
            remembered: self.remembered.get(),
            degraded: self.degraded.get(),
        }
    }
}
