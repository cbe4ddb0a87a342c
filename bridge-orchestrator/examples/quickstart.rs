//! A workflow of three steps. A step's value is in the journal before the next one begins; one that fails is tried again.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use bridge_orchestrator::{Ctx, Engine, ExecutionId, RetryPolicy, StartOptions, StepError, Workflow, WorkflowError};
use event_store::MemoryStore;

struct Order;

impl Workflow for Order {
    type Input = u32;
    type Output = String;
    const TYPE: &'static str = "order";

    async fn run(ctx: Ctx, amount: u32) -> Result<String, WorkflowError> {
        let seat = ctx.step("reserve", |_| async { Ok::<_, StepError>(12) }).await?;
        let charge = ctx.step("charge", move |attempt| async move {
            println!("charge, attempt {} with key {}", attempt.number(), attempt.idempotency_key());
            if attempt.number() == 1 {
                return Err(StepError::retryable("the payment service is busy"));
            }
            Ok(format!("{amount} paid for seat {seat}"))
        });
        let paid = charge.retry(RetryPolicy::DEFAULT.initial(Duration::from_millis(10))).await?;
        ctx.step("mail", move |_| {
            let paid = paid.clone();
            async move { Ok::<_, StepError>(format!("mailed: {paid}")) }
        })
        .await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder(MemoryStore::new()).register::<Order>().start().await?;
    let client = engine.client();
    let id = ExecutionId::new("order-1")?;
    let order = client.start::<Order>(id.clone(), &30, StartOptions::default()).await?;
    let result = order.result().await?;
    println!("{result}");
    assert_eq!(result, "mailed: 30 paid for seat 12");

    let history = client.history(&id).await?;
    history.iter().for_each(|record| println!("{record}"));
    let kinds: Vec<_> = history.iter().map(|record| &*record.kind).collect();
    assert_eq!(kinds, ["started", "step.completed", "attempt.failed", "step.completed", "step.completed", "completed"]);
    Ok(())
}
