//! A workflow is changed while an execution of it is under way. The program below is what CI would run before the change goes out: it replays the
//! stored history against both versions, and shows where the new one leaves it.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::time::Duration;

use bridge_orchestrator::{
    Ctx, Engine, ExecutionId, Registry, StartOptions, StepError, Workflow, WorkflowError, replay,
};
use event_store::{DynEventStore, MemoryStore};

/// The workflow as it runs in production.
struct Order;

impl Workflow for Order {
    type Input = u32;
    type Output = ();
    const TYPE: &'static str = "order";

    async fn run(ctx: Ctx, amount: u32) -> Result<(), WorkflowError> {
        ctx.step("reserve", |_| async { Ok::<_, StepError>(()) }).await?;
        ctx.step("charge", move |_| async move { Ok::<_, StepError>(amount) }).await?;
        ctx.signal::<()>("delivered").await
    }
}

/// The change: whoever wrote it wants the money first, and has thought of new orders only.
struct MoneyFirst;

impl Workflow for MoneyFirst {
    type Input = u32;
    type Output = ();
    const TYPE: &'static str = "order";

    async fn run(ctx: Ctx, amount: u32) -> Result<(), WorkflowError> {
        ctx.step("charge", move |_| async move { Ok::<_, StepError>(amount) }).await?;
        ctx.step("reserve", |_| async { Ok::<_, StepError>(()) }).await?;
        ctx.signal::<()>("delivered").await
    }
}

/// The same change for new orders alone: those that are under way go on as they began.
struct MoneyFirstIfNew;

impl Workflow for MoneyFirstIfNew {
    type Input = u32;
    type Output = ();
    const TYPE: &'static str = "order";

    async fn run(ctx: Ctx, amount: u32) -> Result<(), WorkflowError> {
        let charge = || ctx.step("charge", move |_| async move { Ok::<_, StepError>(amount) });
        let reserve = || ctx.step("reserve", |_| async { Ok::<_, StepError>(()) });
        if ctx.patched("money first") {
            charge().await?;
            reserve().await?;
        } else {
            reserve().await?;
            charge().await?;
        }
        ctx.signal::<()>("delivered").await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store: Arc<dyn DynEventStore> = Arc::new(MemoryStore::new());
    let engine = Engine::builder(Arc::clone(&store)).register::<Order>().start().await?;
    let client = engine.client();
    let id = ExecutionId::new("order-7")?;
    client.start::<Order>(id.clone(), &30, StartOptions::default()).await?;
    // Until both steps are in its journal.
    while client.history(&id).await?.len() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    engine.shutdown(Duration::from_secs(1)).await;

    // In a program of its own: `replay::main(&registry, &store).await`, which prints all this and ends with the exit code.
    let same = replay::check(&Registry::new().register::<Order>(), &store, &[]).await?;
    println!("{}", same[0]);
    assert!(same[0].is_good());

    let changed = replay::check(&Registry::new().register::<MoneyFirst>(), &store, &[]).await?;
    println!("{}", changed[0]);
    let replay::Verdict::Differs(difference) = &changed[0].verdict else { panic!("it differs: {}", changed[0]) };
    assert_eq!((difference.number, &*difference.journal), (Some(0), "step reserve"));
    assert_eq!(difference.function, "awaits step charge");

    let patched = replay::check(&Registry::new().register::<MoneyFirstIfNew>(), &store, &[]).await?;
    println!("{}", patched[0]);
    assert!(patched[0].is_good());
    Ok(())
}
