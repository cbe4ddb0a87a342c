//! When a failed call is tried again.

use std::time::Duration;

use crate::error::Cause;

/// Says when a message whose handler failed is handed to it again.
///
/// `max_retries` counts the calls after the first: 3 means at most 4 calls.
pub trait RetryPolicy: Send + Sync + 'static {
    /// How long to wait before the next call, at most a year, or `None` for no further one.
    ///
    /// `attempt` is the number of calls so far, 1 and up; `cause` is what the last one died of. Not asked for permanent causes.
    fn delay(&self, attempt: u32, cause: &Cause) -> Option<Duration>;
}

impl RetryPolicy for std::sync::Arc<dyn RetryPolicy> {
    fn delay(&self, attempt: u32, cause: &Cause) -> Option<Duration> {
        (**self).delay(attempt, cause)
    }
}

/// A policy with a value that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryPolicyError {
    /// The first delay of a growing policy is zero.
    #[error("the initial delay must be longer than zero")]
    InitialDelay,
    /// The longest delay is shorter than the first.
    #[error("the longest delay {max:?} is shorter than the initial delay {initial:?}")]
    MaxDelay {
        /// The first delay.
        initial: Duration,
        /// The longest delay.
        max: Duration,
    },
    /// The multiplier is not a positive number.
    #[error("the multiplier must be a positive number, not {0}")]
    Multiplier(f64),
}

/// One call, no retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoRetry;

impl RetryPolicy for NoRetry {
    fn delay(&self, _: u32, _: &Cause) -> Option<Duration> {
        None
    }
}

/// The same delay before each retry; by default 3 retries after 1 s each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedDelay {
    max_retries: u32,
    delay: Duration,
}

impl FixedDelay {
    /// `max_retries` retries, each after `delay`, which may be zero.
    pub fn new(max_retries: u32, delay: Duration) -> Self {
        Self { max_retries, delay }
    }
}

impl Default for FixedDelay {
    fn default() -> Self {
        Self::new(3, Duration::from_secs(1))
    }
}

impl RetryPolicy for FixedDelay {
    fn delay(&self, attempt: u32, _: &Cause) -> Option<Duration> {
        (attempt <= self.max_retries).then_some(self.delay)
    }
}

/// A delay that grows by the same step; by default 3 retries after 1 s, 2 s and 3 s, at most 60 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearBackoff {
    max_retries: u32,
    initial: Duration,
    increment: Duration,
    max: Duration,
}

impl LinearBackoff {
    /// `max_retries` retries, the first after `initial`, each further one `increment` later, none later than `max`.
    ///
    /// # Errors
    /// [`RetryPolicyError`] if `initial` is zero or longer than `max`.
    pub fn new(
        max_retries: u32,
        initial: Duration,
        increment: Duration,
        max: Duration,
    ) -> Result<Self, RetryPolicyError> {
        checked(initial, max)?;
        Ok(Self { max_retries, initial, increment, max })
    }
}

impl Default for LinearBackoff {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self { max_retries: 3, initial: second, increment: second, max: Duration::from_secs(60) }
    }
}

impl RetryPolicy for LinearBackoff {
    fn delay(&self, attempt: u32, _: &Cause) -> Option<Duration> {
        let grown = || self.initial.saturating_add(self.increment.saturating_mul(attempt.saturating_sub(1)));
        (attempt <= self.max_retries).then(|| grown().min(self.max))
    }
}

/// A delay that grows by a factor, of which a random part is waited; by default 3 retries within 1 s, 2 s and 4 s, at most 60 s.
///
/// With jitter the delay is uniform between zero and the grown delay ("full jitter": M. Brooker, Exponential Backoff And Jitter,
/// AWS Architecture Blog, 2015). The cap holds for the grown delay, hence for the jittered one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExponentialBackoff {
    max_retries: u32,
    initial: Duration,
    multiplier: f64,
    max: Duration,
    jitter: bool,
}

impl ExponentialBackoff {
    /// `max_retries` retries, the first after up to `initial`, each further one after up to `multiplier` times the last, none later
    /// than `max`.
    ///
    /// # Errors
    /// [`RetryPolicyError`] if `initial` is zero or longer than `max`, or `multiplier` is not a positive number.
    pub fn new(max_retries: u32, initial: Duration, multiplier: f64, max: Duration) -> Result<Self, RetryPolicyError> {
        checked(initial, max)?;
        if !(multiplier.is_finite() && multiplier > 0.0) {
            return Err(RetryPolicyError::Multiplier(multiplier));
        }
        Ok(Self { max_retries, initial, multiplier, max, jitter: true })
    }

    /// Waits the grown delay itself.
    #[must_use]
    pub fn without_jitter(self) -> Self {
        Self { jitter: false, ..self }
    }
}

impl Default for ExponentialBackoff {
    fn default() -> Self {
        let (initial, max) = (Duration::from_secs(1), Duration::from_secs(60));
        Self { max_retries: 3, initial, multiplier: 2.0, max, jitter: true }
    }
}

impl RetryPolicy for ExponentialBackoff {
    fn delay(&self, attempt: u32, _: &Cause) -> Option<Duration> {
        if attempt > self.max_retries {
            return None;
        }
        let exponent = f64::from(attempt.saturating_sub(1));
        let grown = self.initial.as_secs_f64() * self.multiplier.powf(exponent);
        // A number too large for a duration is beyond the cap.
        let capped = Duration::try_from_secs_f64(grown).map_or(self.max, |delay| delay.min(self.max));
        Some(if self.jitter { capped.mul_f64(fastrand::f64()).min(capped) } else { capped })
    }
}

fn checked(initial: Duration, max: Duration) -> Result<(), RetryPolicyError> {
    if initial.is_zero() {
        return Err(RetryPolicyError::InitialDelay);
    }
    if max < initial {
        return Err(RetryPolicyError::MaxDelay { initial, max });
    }
    Ok(())
}
