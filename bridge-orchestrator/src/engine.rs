//! What runs workflows.

mod builder;
mod client;
mod clock;
mod core;
mod driver;
mod execution;
mod function;
mod handle;
mod journal;
pub(crate) mod record;
mod registry;
mod services;
mod slots;
mod steps;

pub use self::builder::{Engine, EngineBuilder};
pub use self::client::{Client, Conflict, ExecutionInfo, StartOptions, WorkflowState};
pub use self::clock::{Clock, SystemClock};
pub(crate) use self::execution::Execution;
pub use self::execution::Parked;
pub use self::handle::{Handle, HandleError};
pub(crate) use self::services::Services;
pub use self::slots::NonDeterminism;
pub(crate) use self::slots::{Answer, ChildStart, Kind, NoValue, Start};
