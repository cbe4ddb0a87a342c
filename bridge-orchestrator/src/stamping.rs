//! The original's stamping workflow: content is validated, hashed by BLAKE3 and stamped, and the intelligence service may have a word.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bridge_orchestrator::stamping::{LocalStamps, Request, Services, StampState, Stamping};
//! use bridge_orchestrator::{Engine, ExecutionId, StartOptions};
//! use event_store::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let services = Arc::new(Services::builder(LocalStamps).build()?);
//! let engine = Engine::builder(MemoryStore::new()).register::<Stamping>().service(services).start().await?;
//! let request = Request::of("the terms of a contract").in_namespace("contracts");
//! let workflow = engine.client().start::<Stamping>(ExecutionId::new("c-7")?, &request, StartOptions::default()).await?;
//! let stamped = workflow.result().await?;
//! assert_eq!(stamped.workflow_state, StampState::Completed);
//! assert_eq!(stamped.file_hash, blake3::hash(b"the terms of a contract").to_hex().as_str());
//! # Ok(())
//! # }
//! ```
//!
//! # States
//! `PENDING`, `PROCESSING`, `COMPLETED`, `FAILED`, by [`fsm::workflow`](crate::fsm::workflow). A request that cannot be carried out goes from the first to the last.
//!
//! # Events, metrics, tables
//! All three come from the journal, which holds what a workflow was started with, what its steps found and how it ended: [`Relay`] tells a
//! [`Publisher`] the original's events and keeps its metrics; the module `tables` (feature `postgres`) keeps its two tables. Both are projections of the
//! event store. A workflow waits for neither, what they say has been committed, and what they missed they make up for.
//!
//! # Services
//! [`Services`] stand between the workflow and what it asks: a breaker and a time-out before the stamping service, a time-out, one more attempt
//! and a memory before the intelligence service, whose failure is an answer of confidence `0.0`.

mod counters;
mod event;
mod intelligence;
mod journal;
mod metrics;
mod relay;
mod request;
mod response;
mod service;
mod services;
mod stamps;
mod state;
#[cfg(feature = "postgres")]
pub mod tables;
mod workflow;

pub use counters::ServiceCounts;
pub use event::{Message, Publisher, StampEvent};
pub use metrics::{OperationMetrics, StampMetrics};
pub use relay::{Relay, RelayCounts, RelayFigures};
pub use request::{DEFAULT_NAMESPACE, InputData, MAX_CONTENT_BYTES, MAX_STEPS, Request, StepSpec};
pub use response::{StampResponse, StepOutcome, StepResult, StepStatus};
pub use service::{
    Intelligence, IntelligenceRequest, IntelligenceService, LocalStamps, ServiceError, Stamp, StampRequest,
    StampingService,
};
pub use services::{Services, ServicesBuilder};
pub use stamps::BatchError;
pub use state::{IllegalTransition, StampState};
pub use workflow::Stamping;
