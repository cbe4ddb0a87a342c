#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod engine;
mod error;
pub mod fsm;
pub mod health;
pub mod heartbeat;
#[cfg(feature = "postgres")]
mod postgres;
pub mod reduce;
pub mod replay;
pub mod route;
#[cfg(feature = "stamping")]
pub mod stamping;
mod sync;
mod time;
mod workflow;

#[cfg(feature = "testkit")]
pub use engine::Boundary;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use engine::fuzzing;
pub use engine::{
    Client, Clock, Conflict, Engine, EngineBuilder, ExecutionInfo, Filter, Handle, HandleError, HistoryRecord,
    NonDeterminism, Parked, Registry, StartOptions, SystemClock, WorkflowState,
};
pub use error::{Error, ErrorCode, Outcome};
pub use workflow::{
    Attempt, Cancelled, Child, ContinueAsNew, Ctx, ExecutionId, Failure, RetryPolicy, Saga, Shield, SignalFuture, Step,
    StepError, StepFuture, Timer, Unwound, Workflow, WorkflowError,
};
