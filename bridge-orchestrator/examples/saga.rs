//! A journey is booked in three places. The last one is full, so the first two are given back, the latest first. What was done outside is
//! written down, so that it can be seen that nothing is left over.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Mutex;

use bridge_orchestrator::{
    Ctx, Engine, ErrorCode, ExecutionId, HandleError, StartOptions, StepError, Workflow, WorkflowError,
};
use event_store::MemoryStore;

/// What the world outside has seen.
static DONE: Mutex<Vec<&str>> = Mutex::new(Vec::new());

async fn outside(what: &'static str) -> Result<(), StepError> {
    println!("{what}");
    DONE.lock().expect("nobody panics").push(what);
    Ok(())
}

struct Journey;

impl Workflow for Journey {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "journey";

    async fn run(ctx: Ctx, (): ()) -> Result<(), WorkflowError> {
        let mut saga = ctx.saga();
        let booking = async {
            ctx.step("book flight", |_| outside("flight booked")).await?;
            saga.undo("cancel flight", |_| outside("flight cancelled"));
            ctx.step("book hotel", |_| outside("hotel booked")).await?;
            saga.undo("cancel hotel", |_| outside("hotel cancelled"));
            // Terminal: another attempt would not find a car, either.
            ctx.step("book car", |_| async { Err::<(), _>(StepError::terminal("no car is left")) }).await
        };
        let booked = booking.await;
        // Passes a success on; otherwise undoes what was registered, then passes the failure on.
        saga.settle(booked).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder(MemoryStore::new()).register::<Journey>().start().await?;
    let id = ExecutionId::new("journey-1")?;
    let journey = engine.client().start::<Journey>(id, &(), StartOptions::default()).await?;
    let Err(HandleError::Failed(failure)) = journey.result().await else { panic!("there is no car") };
    println!("{failure}");
    assert_eq!(failure.code, ErrorCode::OperationFailed);
    assert!(failure.message.contains("no car is left"));
    let done = DONE.lock().expect("nobody panics");
    assert_eq!(*done, ["flight booked", "hotel booked", "hotel cancelled", "flight cancelled"]);
    Ok(())
}
