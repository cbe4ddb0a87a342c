//! What runs between a start and a stop.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use tokio::runtime::Handle;

use super::RequestStats;
use super::dead_letters::{DeadLetters, LastResort, Letter};
use super::delivery::{Delivery, DeliveryError};
use crate::batcher::{Batcher, ShutdownReport};
use crate::breaker::BreakerPolicy;
use crate::builder::{BatcherBuilder, BuildError};
use crate::handler::{BatchHandler, from_fn};
use crate::policy::{OnFull, Policy};
use crate::retry::RetryPolicy;
use crate::telemetry::{EncodedItem, EndpointError, HttpSink};

type Items = Batcher<EncodedItem, (), DeliveryError>;
pub(super) type DeadLetterSink = Arc<dyn Fn(Letter) + Send + Sync>;

/// What a batcher that nobody holds any more has to send what is there.
const GRACE_OF_DROPPED: Duration = Duration::from_secs(60);

/// What is chosen but for how POSTs are sent.
pub(super) struct Settings {
    pub(super) batch_size: usize,
    pub(super) max_wait: Duration,
    pub(super) max_queue_items: usize,
    pub(super) max_queue_bytes: u64,
    pub(super) max_in_flight: usize,
    pub(super) on_full: OnFull,
    pub(super) breaker: BreakerPolicy,
    pub(super) dead_letter: Option<DeadLetterSink>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch_size: 20,
            max_wait: Duration::from_millis(100),
            max_queue_items: 1 << 16,
            max_queue_bytes: 32 << 20,
            max_in_flight: 1,
            on_full: OnFull::default(),
            breaker: BreakerPolicy::default(),
            dead_letter: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("batch_size", &self.batch_size)
            .field("max_wait", &self.max_wait)
            .field("max_queue_items", &self.max_queue_items)
            .field("max_queue_bytes", &self.max_queue_bytes)
            .field("max_in_flight", &self.max_in_flight)
            .field("on_full", &self.on_full)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// A batcher of items. Those that could not be sent go to the sink that was set; without one, they are sent again, and in the end, or
    /// once `leaving` is true, to `letters`.
    fn batcher(
        &self,
        sink: &HttpSink,
        counters: &Arc<Counters>,
        letters: &Arc<DeadLetters>,
        leaving: &Arc<AtomicBool>,
    ) -> Result<Items, BuildError> {
        let batcher = |last_resort| {
            let builder = self.queue(Delivery::new(sink.clone(), Arc::clone(counters), last_resort));
            // Whoever refuses items is there.
            builder.breaker_counts(|error| !error.is_permanent())
        };
        if let Some(sink) = &self.dead_letter {
            let sink = Arc::clone(sink);
            return batcher(None).dead_letter(move |letter| sink(letter)).build();
        }
        let last_resort = LastResort::new(letters, leaving);
        // What is not to be sent again is no longer in its batch.
        let retry = RetryPolicy::new(u32::MAX, |_| true).budget(f64::INFINITY);
        let (base, cap) = sink.waits();
        batcher(Some(last_resort.clone()))
            .retry(retry.backoff(base, cap).wait_at_least(DeliveryError::retry_after))
            .claim_dead_letters(move |letter| last_resort.claim(letter))
            .build()
    }

    /// What items wait in.
    fn queue<H>(&self, handler: H) -> BatcherBuilder<EncodedItem, H::Output, H::Error>
    where
        H: BatchHandler<EncodedItem>,
    {
        Batcher::builder(handler)
            .max_batch_items(self.batch_size)
            .policy(Policy::Linger(self.max_wait))
            .max_queue_items(self.max_queue_items)
            .max_queue_bytes(self.max_queue_bytes, size)
            .max_in_flight(self.max_in_flight)
            .on_full(self.on_full)
            .breaker(self.breaker)
    }

    /// Whether a batcher can be made of them.
    pub(super) fn check(&self) -> Result<(), EndpointError> {
        let hour = Duration::from_secs(3600);
        if !(1..=1 << 24).contains(&self.batch_size) {
            return Err(EndpointError::Setting("batch_size: from 1 to 2^24"));
        }
        if !(Duration::from_micros(1)..=hour).contains(&self.max_wait) {
            return Err(EndpointError::Setting("max_wait: from 1 us to 1 h"));
        }
        // The rest is checked by what it is for.
        let nothing = from_fn(|_: Vec<EncodedItem>| async { Ok::<Vec<()>, ()>(Vec::new()) });
        self.queue(nothing).build().map(drop).map_err(|error| EndpointError::Setting(error.problem))
    }
}

/// What an item counts for the bound of bytes.
fn size(item: &EncodedItem) -> u32 {
    u32::try_from(item.as_bytes().len()).unwrap_or(u32::MAX)
}

/// See [`RequestStats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) encoded_bytes: AtomicU64,
    pub(super) body_bytes: AtomicU64,
}

pub(super) struct Session {
    batcher: Items,
    counters: Arc<Counters>,
    /// What fails from now on is not sent again.
    leaving: Arc<AtomicBool>,
    runtime: Option<Handle>,
}

impl Session {
    pub(super) fn new(sink: &HttpSink, settings: &Settings, letters: &Arc<DeadLetters>) -> Self {
        let (counters, leaving) = (Arc::default(), Arc::default());
        let batcher = settings
            .batcher(sink, &counters, letters, &leaving)
            .expect("the settings were checked when they were built");
        Self { batcher, counters, leaving, runtime: Handle::try_current().ok() }
    }

    pub(super) fn batcher(&self) -> &Items {
        &self.batcher
    }

    pub(super) fn is_open(&self) -> bool {
        self.batcher.is_open()
    }

    pub(super) async fn stop(&self, grace: Duration) -> ShutdownReport {
        self.leaving.store(true, Relaxed);
        self.batcher.shutdown(grace).await
    }

    /// An item is not taken, of which the batcher knows nothing.
    pub(super) fn count_rejected(&self) {
        self.batcher.shared().lock().count_rejected();
    }

    pub(super) fn stats(&self) -> RequestStats {
        let Counters { requests, delivered, encoded_bytes, body_bytes } = &*self.counters;
        RequestStats {
            items: self.batcher.stats(),
            requests: requests.load(Relaxed),
            delivered: delivered.load(Relaxed),
            encoded_bytes: encoded_bytes.load(Relaxed),
            body_bytes: body_bytes.load(Relaxed),
            ..RequestStats::default()
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leaving.store(true, Relaxed);
        let left = self.batcher.stats();
        // Without a task that ends it, a server that stays away would keep the items for ever.
        if left.queued + left.in_flight > 0
            && let Some(runtime) = &self.runtime
        {
            let batcher = self.batcher.clone();
            drop(runtime.spawn(async move { batcher.shutdown(GRACE_OF_DROPPED).await }));
        }
    }
}
