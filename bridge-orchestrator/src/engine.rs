//! What runs workflows.

mod boundary;
mod builder;
mod client;
mod clock;
mod core;
mod driver;
mod execution;
mod function;
mod handle;
mod host;
mod inbox;
mod journal;
mod lease;
mod load;
mod observe;
mod receive;
mod record;
mod registry;
mod slots;
mod steps;
mod takeover;

#[cfg(feature = "testkit")]
pub use self::boundary::Boundary;
pub use self::builder::{Engine, EngineBuilder};
pub use self::client::{Client, Conflict, ExecutionInfo, StartOptions, WorkflowState};
pub use self::clock::{Clock, SystemClock};
pub(crate) use self::execution::Execution;
pub use self::execution::Parked;
pub use self::handle::{Handle, HandleError};
pub(crate) use self::host::Host;
pub use self::slots::NonDeterminism;
pub(crate) use self::slots::{Answer, ChildStart, Kind, NoValue, Start};
#[cfg(feature = "postgres")]
pub(crate) use self::takeover::{Ownership, Seen};
