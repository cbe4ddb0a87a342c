//! Moments, and where they come from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// A moment: microseconds since 1970-01-01T00:00:00 UTC, or the ticks of a logical clock. Where a span of time is asked for, one tick
/// counts as one microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before everything.
    pub const MIN: Self = Self(i64::MIN);
    /// After everything.
    pub const MAX: Self = Self(i64::MAX);

    /// The moment `hours` hours after the epoch, to the microsecond. Handy in tests and examples.
    #[must_use]
    pub fn from_hours(hours: f64) -> Self {
        Self((hours * HOUR as f64).round() as i64)
    }

    /// This moment and `span` later; the last moment there is if that is past it.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }

    /// This moment and `span` earlier; the first moment there is if that is before it.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
    }

    /// How long ago `earlier` was at this moment, in ticks; 0 if it is in the future.
    pub(crate) fn age_of(self, earlier: Self) -> u64 {
        if self <= earlier { 0 } else { self.0.abs_diff(earlier.0) }
    }
}

/// Microseconds of an hour.
pub(crate) const HOUR: i64 = 3_600_000_000;

/// A span in ticks, the longest there is if it does not fit.
pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Tells a store what time it is. It is asked at most once an operation (once more by a query that touches what it finds), never under a
/// lock, and not at all where the operation names its moment.
pub trait Clock: Send + Sync {
    /// The present moment. It may step backwards: ages are never negative.
    fn now(&self) -> Timestamp;
}

/// The machine's clock, UTC.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => Timestamp(micros(since)),
            Err(until) => Timestamp(-micros(until.duration())),
        }
    }
}

/// A clock that stands still until it is told otherwise: logical time, tests. Clones are the same clock.
#[derive(Clone, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.0)))
    }

    /// Shows `now` from here on, which may be earlier than before.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::Release);
    }

    /// Moves forward by `span`, to the last moment at most.
    pub fn advance(&self, span: Duration) {
        let later = |now: i64| Some(now.saturating_add(micros(span)));
        // It never refuses.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Acquire))
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}
