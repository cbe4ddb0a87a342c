//! How a batcher of requests is set up.

use std::sync::Arc;
use std::time::Duration;

use super::session::Settings;
use super::{DeliveryError, RequestBatcher};
use crate::breaker::BreakerPolicy;
use crate::dead_letter::DeadLetter;
use crate::policy::OnFull;
use crate::telemetry::{EncodedItem, EndpointError, HttpSink, HttpSinkBuilder};

/// Sets up a [`RequestBatcher`]. What is out of range is an error of [`build`](Self::build).
#[derive(Debug)]
#[must_use]
pub struct RequestBatcherBuilder {
    sink: HttpSinkBuilder,
    settings: Settings,
}

impl RequestBatcherBuilder {
    pub(super) fn new(endpoint: &str) -> Self {
        Self { sink: HttpSink::builder(endpoint), settings: Settings::default() }
    }

    /// Items of a POST at most, from 1 to 2^24. Default 20.
    pub fn batch_size(mut self, items: usize) -> Self {
        self.settings.batch_size = items;
        self
    }

    /// How long an item waits at most for others to be sent with, from 1 us to 1 h. Default 100 ms.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.settings.max_wait = wait;
        self
    }

    /// Items that are held at most, those under way and those kept for later included, from 1 to 2^30. Default 65,536. So many
    /// [dead letters](RequestBatcher#dead-letters) may be kept beside them.
    pub fn max_queue_items(mut self, items: usize) -> Self {
        self.settings.max_queue_items = items;
        self
    }

    /// Encoded bytes of those items at most, at least 1. A larger item is taken when nothing else is held. Default 32 MiB. So many bytes of
    /// dead letters may be kept beside them.
    pub fn max_queue_bytes(mut self, bytes: u64) -> Self {
        self.settings.max_queue_bytes = bytes;
        self
    }

    /// POSTs at once at most, from 1 to 4,096. Default 1, which keeps them in order.
    pub fn max_in_flight(mut self, posts: usize) -> Self {
        self.settings.max_in_flight = posts;
        self
    }

    /// What is done with an item for which there is no room. Default [`OnFull::Wait`]: [`add`](RequestBatcher::add) waits,
    /// [`try_add`](RequestBatcher::try_add) refuses. What [`OnFull::ShedOldest`] sheds goes to a [`dead_letter`](Self::dead_letter) sink, or
    /// is dropped and counted as [`shed`](crate::Stats::shed).
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.settings.on_full = on_full;
        self
    }

    /// When POSTs are held back: after so many in a row that failed, each with all its attempts. One that the server refuses for good
    /// ([`DeliveryError::is_permanent`]) is no failure here: the server is there, and healthy. Default: five, for 30 s.
    pub fn breaker(mut self, breaker: BreakerPolicy) -> Self {
        self.settings.breaker = breaker;
        self
    }

    /// How POSTs are sent: time-out, attempts, waits, connections, headers.
    ///
    /// ```
    /// use std::time::Duration;
    /// use swarm_batcher::telemetry::RequestBatcher;
    ///
    /// let batcher = RequestBatcher::builder("http://127.0.0.1:4318/telemetry")
    ///     .sink(|sink| sink.timeout(Duration::from_secs(2)).max_attempts(3).header("authorization", "Bearer x"))
    ///     .build()?;
    /// # Ok::<(), swarm_batcher::telemetry::EndpointError>(())
    /// ```
    pub fn sink(mut self, set: impl FnOnce(HttpSinkBuilder) -> HttpSinkBuilder) -> Self {
        self.sink = set(self.sink);
        self
    }

    /// Takes the items that could not be delivered, after all attempts of their POST. Default: none, and such items are kept, to be sent
    /// again or to be taken: see [`RequestBatcher`](RequestBatcher#when-a-post-fails).
    ///
    /// It is called by the task that runs POSTs, which waits for it. One that panics loses its item, which is counted as
    /// [`unclaimed`](crate::Stats::unclaimed).
    pub fn dead_letter(
        mut self,
        sink: impl Fn(DeadLetter<EncodedItem, DeliveryError>) + Send + Sync + 'static,
    ) -> Self {
        self.settings.dead_letter = Some(Arc::new(sink));
        self
    }

    /// The batcher. It is not [started](RequestBatcher::start).
    ///
    /// # Errors
    /// As [`HttpSinkBuilder::build`], and [`EndpointError::Setting`] for a value that is out of its range.
    pub fn build(self) -> Result<RequestBatcher, EndpointError> {
        self.settings.check()?;
        Ok(RequestBatcher::with(self.sink.build()?, self.settings))
    }
}
