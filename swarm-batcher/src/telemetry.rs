//! Telemetry over HTTP: items become MessagePack as they come, a batch of them one compressed POST.
//!
//! [`RequestBatcher`] does all of it. Its parts serve alone too: [`encode_item`] makes bytes of one item, [`Encoder`] makes the body of a
//! request of many, [`HttpSink`] delivers it.

mod codec;
mod http;
mod request_batcher;

pub use codec::{EncodeError, EncodedItem, Encoder, Payload, encode_item};
pub use http::{AttemptError, EndpointError, HttpSink, HttpSinkBuilder, PostError};
pub use request_batcher::{AddError, DeliveryError, RequestBatcher, RequestBatcherBuilder, RequestStats, StopReport};

/// For the fuzz target: how long a server wants to be left alone, from bytes that it wrote.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn retry_after(value: &[u8], now: std::time::SystemTime) -> Option<std::time::Duration> {
    http::parse_retry_after(value, now)
}
