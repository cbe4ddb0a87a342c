//! How many calls may be made again.

use std::time::{Duration, Instant};

use super::RouteError;
use crate::sync::{AtomicU64, Ordering};

/// A bucket of tokens, of which a retry takes one. Each call puts a share of a token in, and so does time, so a service that fails gets
/// little more than its normal load, and one that is seldom called is retried all the same. (The rule is Finagle's `RetryBudget`.)
///
/// # Cost
/// One atomic word. A call to which nothing is to be added, because the bucket is full, reads it and writes nothing.
#[derive(Debug)]
pub struct RetryBudget {
    /// Thousandths of tokens in the upper half, milliseconds since the epoch at which time was last added in the lower one.
    word: AtomicU64,
    epoch: Instant,
    per_call: u32,
    /// Thousandths of tokens a millisecond, which are tokens a second.
    per_second: f64,
    most: u32,
}

const TOKEN: u32 = 1000;
/// The bucket holds what time adds in ten seconds, and at least ten tokens.
const RESERVE: Duration = Duration::from_secs(10);
const LEAST: u32 = 10 * TOKEN;

impl Default for RetryBudget {
    /// 20 % of the calls and 10 a second.
    fn default() -> Self {
        Self::new(0.2, 10.0).expect("in range")
    }
}

impl RetryBudget {
    /// A full bucket into which each call puts `share` of a token (0 to 1, in thousandths) and each second `per_second` (0 to 100,000). It
    /// holds what ten seconds add, and at least ten tokens.
    ///
    /// # Errors
    /// [`RouteError::OutOfRange`] names what is not in its range.
    pub fn new(share: f64, per_second: f64) -> Result<Self, RouteError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(RouteError::out_of_range("share", share, "0 to 1"));
        }
        if !(0.0..=100_000.0).contains(&per_second) {
            return Err(RouteError::out_of_range("per_second", per_second, "0 to 100000"));
        }
        let most = ((per_second * RESERVE.as_secs_f64()) as u32 * TOKEN).max(LEAST);
        Ok(Self {
            word: AtomicU64::new(pack(most, 0)),
            epoch: Instant::now(),
            per_call: (share * f64::from(TOKEN)).round() as u32,
            per_second,
            most,
        })
    }

    /// A call is made for the first time.
    #[inline]
    pub fn call(&self) {
        let add = |word| {
            let (tokens, then) = unpack(word);
            (tokens < self.most).then(|| pack((tokens + self.per_call).min(self.most), then))
        };
        // `Err` says that the bucket is full.
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes a token for a call that is made again. False if there is none: the failure is then the answer.
    #[must_use]
    pub fn try_retry(&self, now: Instant) -> bool {
        let take = |word| {
            let (tokens, then) = self.refilled(word, now);
            tokens.checked_sub(TOKEN).map(|left| pack(left, then))
        };
        self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Whole tokens that are there at `now`.
    #[must_use]
    pub fn tokens(&self, now: Instant) -> u32 {
        self.refilled(self.word.load(Ordering::Relaxed), now).0 / TOKEN
    }

    /// What is there once time has added its part, and up to when it has.
    fn refilled(&self, word: u64, now: Instant) -> (u32, u32) {
        let (tokens, then) = unpack(word);
        let now = now.saturating_duration_since(self.epoch).as_millis() as u32;
        let passed = now.wrapping_sub(then);
        // The clock of another thread may be a little ahead.
        if passed as i32 <= 0 {
            return (tokens, then);
        }
        let added = (f64::from(passed) * self.per_second) as u32;
        // Less than the smallest part of a token waits until it is one.
        if added == 0 { (tokens, then) } else { (tokens.saturating_add(added).min(self.most), now) }
    }
}

fn pack(tokens: u32, time: u32) -> u64 {
    u64::from(tokens) << 32 | u64::from(time)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}
