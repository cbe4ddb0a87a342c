//! Times as numbers.

use std::time::{Duration, Instant};

/// Nanoseconds from `epoch` to `now`, none if `now` is earlier: 584 years fit.
#[inline]
pub(crate) fn nanos_since(epoch: Instant, now: Instant) -> u64 {
    nanos(now.saturating_duration_since(epoch))
}

/// [`Duration::as_nanos`] counts in 128 bits, which are slow to turn into a float.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_secs().wrapping_mul(1_000_000_000).wrapping_add(u64::from(duration.subsec_nanos()))
}
