//! When a failed step is tried again.

use std::time::Duration;

/// How often a step is tried, and how long it is waited in between: exponential backoff with full jitter, as in AWS's "Exponential Backoff
/// And Jitter": before attempt n + 1 a time evenly between 0 and `min(cap, initial * factor^(n - 1))`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    pub(crate) attempts: u16,
    pub(crate) initial: Duration,
    pub(crate) factor: f64,
    pub(crate) cap: Duration,
}

impl RetryPolicy {
    /// 3 attempts, the first pause up to 1 s, each next one up to twice as long, none longer than 60 s.
    pub const DEFAULT: Self =
        Self { attempts: 3, initial: Duration::from_secs(1), factor: 2.0, cap: Duration::from_secs(60) };

    /// One attempt.
    pub const NONE: Self = Self { attempts: 1, ..Self::DEFAULT };

    /// At most so many attempts, the first one included; 0 counts as 1.
    #[must_use]
    pub const fn attempts(mut self, attempts: u16) -> Self {
        self.attempts = if attempts == 0 { 1 } else { attempts };
        self
    }

    /// The longest pause before the second attempt.
    #[must_use]
    pub const fn initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// How many times as long each next pause may be; below 1 and NaN count as 1.
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = if factor >= 1.0 { factor } else { 1.0 };
        self
    }

    /// The longest pause of all.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// How long to wait after attempt `attempt` (from 1), `jitter` being from 0 to 1.
    pub(crate) fn pause(&self, attempt: u16, jitter: f64) -> Duration {
        let longest = self.initial.as_secs_f64() * self.factor.powi(i32::from(attempt) - 1);
        Duration::from_secs_f64(longest.min(self.cap.as_secs_f64()) * jitter)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap() {
        let policy = RetryPolicy::DEFAULT;
        let longest: Vec<u64> = (1..=8).map(|attempt| policy.pause(attempt, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(policy.pause(u16::MAX, 1.0), Duration::from_secs(60));
        assert_eq!(policy.pause(3, 0.25), Duration::from_secs(1));
    }
}
