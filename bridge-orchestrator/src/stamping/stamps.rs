//! The stamping service behind a breaker and a time-out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::counters::Counters;
use super::service::{AnyStamping, ServiceError, Stamp, StampRequest};
use crate::route::{CircuitBreaker, Permit, Retry, RetryBudget, RetryError};

/// Stamps of one call of the service, at most.
const BATCH: usize = 100;
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Some stamps of a batch could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} stamps were made, then: {error}", .stamps.len())]
pub struct BatchError {
    /// Those that were made, in the order of the requests.
    pub stamps: Vec<Stamp>,
    /// Why the hundred behind them was not; after a time-out it may have been, all the same.
    pub error: ServiceError,
}

/// See the module.
pub(super) struct Stamps {
    pub(super) service: Box<dyn AnyStamping>,
    pub(super) breaker: CircuitBreaker,
    pub(super) limit: Duration,
    pub(super) retry: Retry,
    pub(super) budget: RetryBudget,
    pub(super) counters: Arc<Counters>,
}

impl Stamps {
    /// One attempt.
    pub(super) async fn stamp(&self, request: &StampRequest) -> Result<Stamp, ServiceError> {
        self.guarded(self.limit, self.service.stamp(request)).await
    }

    /// A hundred at a time, each hundred tried as often as a single one.
    pub(super) async fn stamp_batch(&self, requests: &[StampRequest]) -> Result<Vec<Stamp>, BatchError> {
        let mut stamps = Vec::with_capacity(requests.len());
        for hundred in requests.chunks(BATCH) {
            let attempt = |_| async {
                let made = self.guarded(BATCH_TIMEOUT, self.service.stamp_batch(hundred)).await?;
                if made.len() == hundred.len() {
                    Ok(made)
                } else {
                    let message = format!("{} stamps for {} requests", made.len(), hundred.len());
                    Err(ServiceError::Failed(message))
                }
            };
            match self.retry.run(&self.budget, ServiceError::is_retryable, attempt).await {
                Ok(made) => stamps.extend(made),
                Err(
                    RetryError::Exhausted { last: error, .. }
                    | RetryError::OverBudget { last: error, .. }
                    | RetryError::Terminal { last: error, .. },
                ) => return Err(BatchError { stamps, error }),
            }
        }
        Ok(stamps)
    }

    async fn guarded<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let now = || Instant::now().into_std();
        let permit = self.breaker.permit(now()).map_err(|refused| {
            self.counters.refused.add();
            ServiceError::Failed(refused.to_string())
        })?;
        let mut permit = ByPanic(Some(permit));
        self.counters.stamp_calls.add();
        let error = match timeout(limit, call).await {
            Ok(Ok(made)) => {
                if let Some(permit) = permit.0.take() {
                    permit.succeeded();
                }
                return Ok(made);
            }
            Ok(Err(error)) => error,
            Err(_) => ServiceError::Timeout(format!("{limit:?}")),
        };
        self.counters.stamp_failures.add();
        // A service that says what is wrong with a request does what it should.
        if let Some(permit) = permit.0.take() {
            if error.is_retryable() { permit.failed(now()) } else { permit.succeeded() }
        }
        Err(error)
    }
}

/// A call that panics has failed.
struct ByPanic<'a>(Option<Permit<'a>>);

impl Drop for ByPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(permit) = self.0.take()
        {
            permit.failed(Instant::now().into_std());
        }
    }
}
