#![doc = include_str!("../README.md")]

mod capacity;
mod clock;
pub mod compat;
mod config;
mod decay;
mod durable;
mod error;
mod eviction;
mod incident;
mod incidents;
mod journal;
mod kernel;
mod mapping;
mod memory;
mod meter;
#[cfg(all(test, memory_store_loom))]
mod models;
mod normalizer;
mod persist;
mod prepared;
mod prune;
mod quantize;
mod query;
mod scan;
mod scoring;
mod segment;
mod stats;
mod store;
mod sync;
mod view;
mod write;
mod writer;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use config::{
    Capacity, Config, ConfigBuilder, CriticalFull, Dedup, MAX_DIMENSIONS, MatchPick, MergePolicy, Recency, ZeroVectors,
};
pub use decay::{DecayTable, RetentionClass};
pub use durable::Durability;
pub use error::{Error, Outcome};
pub use incident::{Incident, IncidentHit};
pub use memory::{Memory, MemoryId, Recalled, Written};
pub use normalizer::Normalizer;
pub use persist::{Recovery, TornWrite};
pub use prune::{Prune, PruneReport};
pub use query::{Exactness, Hit, Query, Retrieved, ScanStats};
pub use scoring::{ScoreParts, Scoring, Weights};
pub use stats::Stats;
pub use store::MemoryStore;
pub use write::Update;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use durable::fuzzing;
