//! Workflows that wait for signals.

use bridge_orchestrator::{Ctx, Workflow, WorkflowError};

/// Waits for one signal.
pub(crate) struct Waits;

impl Workflow for Waits {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "waits";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        ctx.signal("go").await
    }
}

/// A run for each signal, up to the signal 99.
pub(crate) struct Runs;

impl Workflow for Runs {
    type Input = Vec<u32>;
    type Output = Vec<u32>;
    const TYPE: &'static str = "runs";

    async fn run(ctx: Ctx, mut seen: Vec<u32>) -> Result<Vec<u32>, WorkflowError> {
        let number = ctx.signal("number").await?;
        if number == 99 {
            return Ok(seen);
        }
        seen.push(number);
        Err(ctx.continue_as_new(&seen))
    }
}
