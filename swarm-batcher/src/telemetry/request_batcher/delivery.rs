//! What makes a request of a batch.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Counters;
use super::dead_letters::LastResort;
use crate::handler::{Batch, BatchHandler};
#[cfg(doc)]
use crate::telemetry::AttemptError;
use crate::telemetry::{EncodeError, EncodedItem, Encoder, HttpSink, Payload, PostError};

/// Why the items of a batch were not delivered.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// The request's body could not be made: there was no memory for it.
    #[error(transparent)]
    Encode(Arc<EncodeError>),
    /// The server did not take the request.
    #[error(transparent)]
    Post(#[from] PostError),
}

impl DeliveryError {
    /// Whether sending the items again cannot help: the server refused them ([`AttemptError::is_permanent`]).
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Post(error) if error.last().is_permanent())
    }

    /// How long the server wants to be left alone: see [`PostError::retry_after`].
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Post(error) => error.retry_after(),
            Self::Encode(_) => None,
        }
    }
}

pub(super) struct Delivery {
    sink: HttpSink,
    /// As many as there were batches encoded at once.
    encoders: Mutex<Vec<Encoder>>,
    counters: Arc<Counters>,
    last_resort: Option<LastResort>,
}

impl Delivery {
    pub(super) fn new(sink: HttpSink, counters: Arc<Counters>, last_resort: Option<LastResort>) -> Self {
        Self { sink, encoders: Mutex::default(), counters, last_resort }
    }

    fn encode<'a>(&self, items: impl Iterator<Item = &'a EncodedItem>) -> Result<Payload, EncodeError> {
        let idle = || self.encoders.lock().unwrap_or_else(PoisonError::into_inner);
        let used = idle().pop();
        let mut encoder = used.map_or_else(Encoder::new, Ok)?;
        let payload = encoder.encode(items);
        idle().push(encoder);
        payload
    }

    async fn deliver(&self, payload: Payload) -> Result<(), PostError> {
        self.counters.requests.fetch_add(1, Relaxed);
        self.counters.encoded_bytes.fetch_add(payload.uncompressed as u64, Relaxed);
        self.counters.body_bytes.fetch_add(payload.body.len() as u64, Relaxed);
        self.sink.post(payload.body, payload.items).await?;
        self.counters.delivered.fetch_add(1, Relaxed);
        Ok(())
    }
}

impl BatchHandler<EncodedItem> for Delivery {
    type Output = ();
    type Error = DeliveryError;

    async fn handle(&self, mut batch: Batch<'_, EncodedItem, (), DeliveryError>) {
        let delivered = match self.encode(batch.items()) {
            Ok(payload) => self.deliver(payload).await.map_err(DeliveryError::Post),
            Err(error) => Err(DeliveryError::Encode(Arc::new(error))),
        };
        match delivered {
            Ok(()) => batch.iter_mut().for_each(|slot| slot.reply(Ok(()))),
            Err(error) => {
                // Here, and not when the batcher gives them up: who waits for the batch to end then finds them where they belong.
                if let Some(last) = self.last_resort.as_ref().filter(|last| last.is_wanted(&error)) {
                    last.keep(batch.take_items(), &error);
                }
                batch.fail_all(&error);
            }
        }
    }
}
