//! Request batcher.

#[cfg(feature = "http")]
pub mod telemetry;
