//! Telemetry over HTTP: items become MessagePack as they come, a batch of them one compressed body.

mod codec;

pub use codec::{EncodeError, EncodedItem, Encoder, Payload, encode_item};
