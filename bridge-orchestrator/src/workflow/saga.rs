//! Sagas: what undoes the steps that succeeded, when a later one does not.

use std::future::{Future, IntoFuture as _};

use super::{Attempt, Ctx, StepError, WorkflowError};
use crate::workflow::RetryPolicy;

type Undo<'a> = Box<dyn FnOnce(&'a Ctx) -> super::Step<'a, ()> + Send + 'a>;

/// Compensations in the order in which they were registered. Made by [`Ctx::saga`].
///
/// Compensations run as steps of their names, shielded from cancellation, the last registered one first, each after the other; so they are
/// durable: after a crash those that are done stay done. One that fails for good does not keep the others from running.
///
/// ```
/// # use bridge_orchestrator::{Ctx, StepError, Workflow, WorkflowError};
/// # async fn reserve() -> Result<u64, StepError> { Ok(1) }
/// # async fn release(_: u64) -> Result<(), StepError> { Ok(()) }
/// # async fn charge() -> Result<(), StepError> { Ok(()) }
/// # struct Order;
/// # impl Workflow for Order {
/// #     type Input = ();
/// #     type Output = ();
/// #     const TYPE: &'static str = "order";
/// async fn run(ctx: Ctx, (): ()) -> Result<(), WorkflowError> {
///     let mut saga = ctx.saga();
///     let result = async {
///         let seats = ctx.step("reserve", |_| reserve()).await?;
///         saga.undo("release", move |_| release(seats));
///         ctx.step("charge", |_| charge()).await
///     };
///     let result = result.await;
///     saga.settle(result).await
/// }
/// # }
/// ```
pub struct Saga<'a> {
    ctx: &'a Ctx,
    undo: Vec<Undo<'a>>,
}

impl std::fmt::Debug for Saga<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saga").field("registered", &self.undo.len()).finish_non_exhaustive()
    }
}

/// How compensations went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Unwound {
    /// How many have succeeded.
    pub compensated: usize,
    /// Those that have failed for good.
    pub failed: Vec<WorkflowError>,
}

impl<'a> Saga<'a> {
    pub(super) fn new(ctx: &'a Ctx) -> Self {
        Self { ctx, undo: Vec::new() }
    }

    /// Registers what undoes a step that has just succeeded.
    pub fn undo<F, Fut>(&mut self, name: &'static str, f: F)
    where
        F: FnMut(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        self.undo_with(name, RetryPolicy::DEFAULT, f);
    }

    /// The same with a policy of its own.
    pub fn undo_with<F, Fut>(&mut self, name: &'static str, retry: RetryPolicy, f: F)
    where
        F: FnMut(Attempt) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        self.undo.push(Box::new(move |ctx| ctx.step(name, f).retry(retry)));
    }

    /// Runs the compensations.
    pub async fn unwind(self) -> Unwound {
        let mut unwound = Unwound::default();
        let ctx = self.ctx;
        let _compensating = ctx.compensating();
        for undo in self.undo.into_iter().rev() {
            match ctx.shield(undo(ctx).into_future()).await {
                Ok(()) => unwound.compensated += 1,
                Err(error) => unwound.failed.push(error),
            }
        }
        unwound
    }

    /// Passes a success on; after a failure runs the compensations, then passes the failure on.
    ///
    /// # Errors
    /// The failure; [`WorkflowError::Failed`] that names them all if compensations failed.
    pub async fn settle<T>(self, result: Result<T, WorkflowError>) -> Result<T, WorkflowError> {
        let Err(error) = result else { return result };
        let unwound = self.unwind().await;
        if unwound.failed.is_empty() {
            return Err(error);
        }
        let failed: Vec<String> = unwound.failed.iter().map(ToString::to_string).collect();
        Err(WorkflowError::failed(format!("{error}; and what should have undone it: {}", failed.join("; "))))
    }
}
