//! What runs workflows.

mod admin;
mod boundary;
mod budgets;
mod builder;
mod client;
mod clock;
mod core;
mod driver;
mod execution;
mod function;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handle;
mod history;
mod host;
mod inbox;
mod journal;
mod lease;
mod load;
mod observe;
mod receive;
pub(crate) mod record;
mod registry;
mod rerun;
#[cfg(feature = "testkit")]
mod second;
mod services;
mod slots;
mod steps;
mod takeover;

pub use self::admin::{ExecutionInfo, Filter};
#[cfg(feature = "testkit")]
pub use self::boundary::Boundary;
pub use self::builder::{Engine, EngineBuilder};
pub use self::client::{Client, Conflict, StartOptions, WorkflowState};
pub use self::clock::{Clock, SystemClock};
pub(crate) use self::execution::Execution;
pub use self::execution::Parked;
pub use self::handle::{Handle, HandleError};
pub use self::history::HistoryRecord;
pub(crate) use self::history::{executions, read_history};
pub(crate) use self::host::Host;
pub use self::registry::Registry;
pub(crate) use self::rerun::rerun;
pub(crate) use self::services::Services;
pub use self::slots::NonDeterminism;
pub(crate) use self::slots::{Answer, ChildStart, Kind, NoValue, Start};
#[cfg(feature = "postgres")]
pub(crate) use self::takeover::{Ownership, Seen};
