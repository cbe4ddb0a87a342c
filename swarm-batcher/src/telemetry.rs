//! Telemetry over HTTP: items become MessagePack as they come, a batch of them one compressed POST.
//!
//! [`encode_item`] makes bytes of one item, [`Encoder`] makes the body of a request of many, [`HttpSink`] delivers it.

mod codec;
mod http;

pub use codec::{EncodeError, EncodedItem, Encoder, Payload, encode_item};
pub use http::{AttemptError, EndpointError, HttpSink, HttpSinkBuilder, PostError};
