//! What a stamping workflow works with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::counters::{Counters, ServiceCounts};
use super::intelligence::Minds;
use super::service::{AnyIntelligence, AnyStamping, IntelligenceService, Stamp, StampRequest, StampingService};
use super::stamps::{BatchError, Stamps};
use crate::route::{BreakerBuilder, BreakerState, CircuitBreaker, Retry, RetryBudget, RouteError};
use crate::workflow::RetryPolicy;

/// The services of [`Stamping`](super::Stamping) workflows, with what protects one from the other. An engine is given it by
/// [`EngineBuilder::service`](crate::EngineBuilder::service).
pub struct Services {
    pub(super) stamps: Stamps,
    pub(super) minds: Minds,
    pub(super) retry: RetryPolicy,
    counters: Arc<Counters>,
}

/// Options of [`Services`]. Made by [`Services::builder`].
pub struct ServicesBuilder {
    stamping: Box<dyn AnyStamping>,
    intelligence: Option<Box<dyn AnyIntelligence>>,
    breaker: BreakerBuilder,
    stamp_timeout: Duration,
    retries: u16,
    first_pause: Duration,
    intelligence_timeout: Duration,
    ttl: Duration,
}

impl Services {
    /// Services with `stamping`, and without intelligence unless told.
    #[must_use]
    pub fn builder(stamping: impl StampingService) -> ServicesBuilder {
        ServicesBuilder {
            stamping: Box::new(stamping),
            intelligence: None,
            breaker: CircuitBreaker::builder(),
            stamp_timeout: Duration::from_secs(2),
            retries: 3,
            first_pause: Duration::from_secs(1),
            intelligence_timeout: Duration::from_millis(500),
            ttl: Duration::from_secs(300),
        }
    }

    /// Makes many stamps without workflows: a hundred a call, 10 s each, tried again as often as a single stamp is, all behind the same breaker.
    ///
    /// # Errors
    /// [`BatchError`] with the stamps that were made.
    ///
    /// # Cancellation
    /// Dropped, the hundred that is under way may be stamped or not.
    pub async fn stamp_batch(&self, requests: &[StampRequest]) -> Result<Vec<Stamp>, BatchError> {
        self.stamps.stamp_batch(requests).await
    }

    /// What was asked of the services since they were built.
    #[must_use]
    pub fn counts(&self) -> ServiceCounts {
        self.counters.read()
    }

    /// What the breaker of the stamping service does.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        self.stamps.breaker.state()
    }
}

impl ServicesBuilder {
    /// What answers `onextree_intelligence` steps. Without one they are answered by the fallback.
    #[must_use]
    pub fn intelligence(self, service: impl IntelligenceService) -> Self {
        Self { intelligence: Some(Box::new(service)), ..self }
    }

    /// When the stamping service is left alone: after 5 failures for 60 s unless set.
    #[must_use]
    pub fn breaker(self, breaker: BreakerBuilder) -> Self {
        Self { breaker, ..self }
    }

    /// How long a stamp may take: 2 s unless set.
    #[must_use]
    pub fn stamp_timeout(self, limit: Duration) -> Self {
        Self { stamp_timeout: limit, ..self }
    }

    /// How often a stamp is tried again, and how long the first pause may be; each next one may be twice as long, up to 60 s. 3 and 1 s unless
    /// set. In a workflow each failed attempt is in the journal, so that a crash does not begin anew.
    #[must_use]
    pub fn stamp_retries(self, retries: u16, first_pause: Duration) -> Self {
        Self { retries, first_pause, ..self }
    }

    /// How long an attempt of the intelligence service may take: 500 ms unless set. There are two at most.
    #[must_use]
    pub fn intelligence_timeout(self, limit: Duration) -> Self {
        Self { intelligence_timeout: limit, ..self }
    }

    /// How long an answer of the intelligence service holds for the same context and content: 300 s unless set; zero remembers nothing.
    /// 1,024 answers are kept; the oldest goes first.
    #[must_use]
    pub fn intelligence_cache(self, ttl: Duration) -> Self {
        Self { ttl, ..self }
    }

    /// The services.
    ///
    /// # Errors
    /// [`RouteError`] names an option of the breaker, or a first pause above 60 s.
    pub fn build(self) -> Result<Services, RouteError> {
        const LONGEST: Duration = Duration::from_secs(60);
        let counters = Arc::<Counters>::default();
        let attempts = self.retries.saturating_add(1);
        let stamps = Stamps {
            service: self.stamping,
            breaker: self.breaker.build()?,
            limit: self.stamp_timeout,
            retry: Retry::new(u32::from(attempts), self.first_pause, LONGEST)?,
            budget: RetryBudget::default(),
            counters: Arc::clone(&counters),
        };
        let minds = Minds {
            service: self.intelligence,
            limit: self.intelligence_timeout,
            ttl: self.ttl,
            answers: Mutex::default(),
            counters: Arc::clone(&counters),
        };
        let retry = RetryPolicy::DEFAULT.attempts(attempts).initial(self.first_pause).cap(LONGEST);
        Ok(Services { stamps, minds, retry, counters })
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("breaker", &self.breaker()).field("counts", &self.counts()).finish()
    }
}

impl std::fmt::Debug for ServicesBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServicesBuilder")
            .field("has_intelligence", &self.intelligence.is_some())
            .finish_non_exhaustive()
    }
}
