//! Trying again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{RetryBudget, RouteError};

/// Makes a call again when it fails: after a random part ("full jitter": Brooker, "Exponential Backoff And Jitter", 2015) of a pause that
/// doubles, for as long as attempts and the [`RetryBudget`] last.
#[derive(Debug, Clone)]
pub struct Retry {
    attempts: u32,
    pause: Duration,
    longest: Duration,
}

impl Default for Retry {
    /// 3 attempts, pauses of at most 1 s, 2 s, … 60 s.
    fn default() -> Self {
        Self { attempts: 3, pause: Duration::from_secs(1), longest: Duration::from_secs(60) }
    }
}

/// A call failed and is not made again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryError<E> {
    /// All attempts were made.
    #[error("failed {attempts} times, at last: {last}")]
    Exhausted {
        /// How often the call was made.
        attempts: u32,
        /// Why the last attempt failed.
        last: E,
    },
    /// The budget has no token for another attempt.
    #[error("failed {attempts} times, and too much is retried already: {last}")]
    OverBudget {
        /// How often the call was made.
        attempts: u32,
        /// Why the last attempt failed.
        last: E,
    },
    /// The failure is one that another attempt does not mend.
    #[error("failed for good in attempt {attempts}: {last}")]
    Terminal {
        /// How often the call was made.
        attempts: u32,
        /// Why the last attempt failed.
        last: E,
    },
}

impl Retry {
    /// At most so many attempts, the first one included, with pauses of at most `pause` before the second, twice that before the third,
    /// and so on up to `longest`.
    ///
    /// # Errors
    /// [`RouteError::OutOfRange`] for no attempt, or if `longest` is shorter than `pause`.
    pub fn new(attempts: u32, pause: Duration, longest: Duration) -> Result<Self, RouteError> {
        if attempts == 0 {
            return Err(RouteError::out_of_range("attempts", attempts, "at least 1"));
        }
        if longest < pause {
            return Err(RouteError::out_of_range("longest", longest, "at least the first pause"));
        }
        Ok(Self { attempts, pause, longest })
    }

    /// Makes the call: `attempt` is given the number of the attempt, from 1 on; `retryable` says whether a failure is worth another one.
    ///
    /// # Errors
    /// [`RetryError`] with the last failure, and how often the call was made.
    ///
    /// # Cancellation
    /// Dropping the future drops the attempt that is under way; no other one is made.
    pub async fn run<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        budget: &RetryBudget,
        retryable: impl Fn(&E) -> bool,
        mut attempt: impl FnMut(u32) -> F,
    ) -> Result<T, RetryError<E>> {
        budget.call();
        let mut attempts = 1;
        loop {
            let last = match attempt(attempts).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if !retryable(&last) {
                return Err(RetryError::Terminal { attempts, last });
            }
            if attempts == self.attempts {
                return Err(RetryError::Exhausted { attempts, last });
            }
            if !budget.try_retry(Instant::now().into_std()) {
                return Err(RetryError::OverBudget { attempts, last });
            }
            sleep(self.longest_pause(attempts).mul_f64(fastrand::f64())).await;
            attempts += 1;
        }
    }

    fn longest_pause(&self, attempts: u32) -> Duration {
        let doublings = (attempts - 1).min(31);
        self.pause.saturating_mul(1 << doublings).min(self.longest)
    }
}
