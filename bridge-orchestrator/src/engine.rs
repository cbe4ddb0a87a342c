//! What runs workflows.

mod admin;
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
mod journal;
mod record;
mod registry;
mod rerun;
#[cfg(feature = "testkit")]
mod second;
mod slots;
mod steps;

pub use self::admin::{ExecutionInfo, Filter};
pub use self::builder::{Engine, EngineBuilder};
pub use self::client::{Client, Conflict, StartOptions, WorkflowState};
pub use self::clock::{Clock, SystemClock};
pub(crate) use self::execution::Execution;
pub use self::execution::Parked;
pub use self::handle::{Handle, HandleError};
pub use self::history::HistoryRecord;
pub(crate) use self::history::{executions, read_history};
pub use self::registry::Registry;
pub(crate) use self::rerun::rerun;
pub use self::slots::NonDeterminism;
pub(crate) use self::slots::{Answer, ChildStart, Kind, NoValue, Start};
