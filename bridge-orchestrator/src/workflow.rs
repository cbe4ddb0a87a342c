//! Workflows: what their authors write.

mod child;
mod ctx;
mod failure;
mod id;
mod retry;
mod saga;
mod signal;
mod step;
mod timer;
mod wait;

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::child::Child;
pub(crate) use self::ctx::encode;
pub use self::ctx::{Cancelled, Ctx, Shield};
pub use self::failure::{ContinueAsNew, Failure, StepError, WorkflowError};
pub use self::id::ExecutionId;
pub(crate) use self::id::STREAM_PREFIX;
pub use self::retry::RetryPolicy;
pub use self::saga::{Saga, Unwound};
pub use self::signal::SignalFuture;
pub use self::step::{Attempt, Step, StepFuture};
pub(crate) use self::step::{MAX_VALUE_BYTES, NotCommitted, Progress, StepRun, panic_message};
#[cfg(feature = "postgres")]
pub(crate) use self::step::{encode_value, panicked};
pub use self::timer::Timer;
pub(crate) use self::wait::value;

/// A durable function: what it has awaited of its [`Ctx`] is in a journal, and after a crash it is run again against that journal until it
/// stands where it stood.
///
/// So what `run` does between two awaits has to be the same each time: time, randomness and ids come from the [`Ctx`], and whatever
/// touches the world outside stands in a [`Ctx::step`]. Everything that is awaited comes from the [`Ctx`], alone or combined (`join`,
/// `select`, `FuturesUnordered`, …): one journalled answer is delivered at a time, so every combinator chooses the same branch again.
///
/// ```
/// use bridge_orchestrator::{Ctx, StepError, Workflow, WorkflowError};
///
/// struct Greeting;
///
/// impl Workflow for Greeting {
///     type Input = String;
///     type Output = String;
///     const TYPE: &'static str = "greeting";
///
///     async fn run(ctx: Ctx, name: String) -> Result<String, WorkflowError> {
///         let length = ctx.step("measure", move |_| { let name = name.clone(); async move { Ok::<_, StepError>(name.len()) } }).await?;
///         Ok(format!("{length} letters"))
///     }
/// }
/// ```
pub trait Workflow: Send + 'static {
    /// What it is started with.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// What it ends with.
    type Output: Serialize + DeserializeOwned + Send + 'static;
    /// Its name in journals: it stays as it is for as long as there are executions.
    const TYPE: &'static str;
    /// Executions are run by the version that they were started with. Raise it where an older journal does not fit the function any more
    /// and [`Ctx::patched`] is not enough, and keep the older version registered until its executions are finished.
    const VERSION: u32 = 1;

    /// Runs it.
    fn run(ctx: Ctx, input: Self::Input) -> impl Future<Output = Result<Self::Output, WorkflowError>> + Send;
}
