#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod engine;
mod error;
pub mod fsm;
pub mod health;
pub mod heartbeat;
pub mod reduce;
pub mod route;
#[cfg(feature = "stamping")]
pub mod stamping;
mod sync;
mod time;
mod workflow;

pub use engine::{
    Client, Clock, Conflict, Engine, EngineBuilder, ExecutionInfo, Handle, HandleError, NonDeterminism, Parked,
    StartOptions, SystemClock, WorkflowState,
};
pub use error::{Error, ErrorCode, Outcome};
pub use workflow::{
    Attempt, Cancelled, Child, ContinueAsNew, Ctx, ExecutionId, Failure, RetryPolicy, Saga, Shield, SignalFuture, Step,
    StepError, StepFuture, Timer, Unwound, Workflow, WorkflowError,
};
