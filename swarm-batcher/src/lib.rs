#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod adaptive;
mod arena;
mod batcher;
mod breaker;
mod builder;
mod call;
mod dead_letter;
mod engine;
mod error;
mod flush;
mod handler;
mod key;
#[cfg(all(test, any(swarm_batcher_loom, swarm_batcher_shuttle)))]
mod models;
mod options;
mod policy;
mod retry;
mod runner;
mod seats;
mod shared;
mod state;
mod stats;
mod sync;
#[cfg(feature = "http")]
pub mod telemetry;
mod timer;
#[cfg(feature = "tower")]
mod tower;

pub use batcher::{Batcher, CallOptions, ShutdownReport, With};
pub use breaker::BreakerPolicy;
pub use builder::{BatcherBuilder, BuildError};
pub use call::{Call, CallAll, Push, Receipt};
pub use dead_letter::DeadLetter;
pub use error::{BatchError, Outcome, Reason, Rejected};
pub use flush::Flush;
pub use handler::{Batch, BatchHandler, Cloned, FnHandler, Moved, Slot, from_fn};
pub use policy::{Executor, OnFull, Policy};
pub use retry::RetryPolicy;
pub use state::FlushReport;
pub use stats::Stats;
#[cfg(feature = "tower")]
pub use tower::Response;
