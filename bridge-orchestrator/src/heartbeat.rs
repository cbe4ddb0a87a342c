//! Heartbeats: sent by a node for itself, and watched for by whoever depends on others.
//!
//! | to | use |
//! |---|---|
//! | say every 30 s that this node is there, and how it is | [`Beater`], [`Node`] |
//! | find out which of a million nodes have fallen silent | [`PhiDetector`] |
//! | know what this process uses, as often as one likes | [`Resources`] |
//!
//! ```
//! use std::time::{Duration, Instant};
//! use bridge_orchestrator::heartbeat::{NodeStatus, PhiDetector};
//!
//! let start = Instant::now();
//! let mut detector = PhiDetector::builder().expected_interval(Duration::from_secs(1)).build::<u64>(start)?;
//! for beat in 0..60 {
//!     for node in 0..10 {
//!         // The seventh falls silent after 30 s.
//!         if node != 7 || beat < 30 {
//!             detector.heartbeat(&node, start + Duration::from_secs(beat))?;
//!         }
//!     }
//! }
//! let changed = detector.sweep(start + Duration::from_secs(60));
//! assert_eq!((changed.len(), changed[0].node, changed[0].to), (1, 7, NodeStatus::Down));
//! # Ok::<(), bridge_orchestrator::heartbeat::HeartbeatError>(())
//! ```

mod beater;
mod error;
mod node;
mod phi;
mod resources;
mod secrets;
mod tail;

pub use beater::{BeatError, Beater, BeaterBuilder, BeaterStats, Sink, SinkError};
pub use error::HeartbeatError;
pub use node::{Health, Heartbeat, Node, NodeBuilder, Operation};
pub use phi::{NodeStatus, PhiBuilder, PhiDetector, Transition};
pub use resources::{Figures, Resources, Usage};
