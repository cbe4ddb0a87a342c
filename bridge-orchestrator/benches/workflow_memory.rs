//! What an engine keeps of workflows that are over: counted, in a binary of its own.

use std::process::ExitCode;
use std::time::Duration;

use bridge_orchestrator::{Client, Ctx, Engine, ExecutionId, Filter, StartOptions, StepError, Workflow, WorkflowError};
use event_store::MemoryStore;
use harness::{Bench, BenchError, CountingAlloc, Suite};
use tokio::runtime::Builder;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::system();

/// Workflows of a stretch, of which there are 20: enough for the store's blocks, of up to 4 MiB, to come and go in each.
const ITERATIONS: u64 = 1_000;
/// Journals that are kept.
const KEPT: usize = 500;
/// Workflows before the first stretch: journals are removed by then.
const WARM_UP: u64 = 2_000;

fn main() -> ExitCode {
    Suite::new().bench("bridge-orchestrator/memory/100-iterations", iterations).run()
}

/// Two steps, a value that is shown, and a signal.
struct Order;

impl Workflow for Order {
    type Input = u64;
    type Output = u64;
    const TYPE: &'static str = "order";

    async fn run(ctx: Ctx, input: u64) -> Result<u64, WorkflowError> {
        let a = ctx.step("first", move |_| async move { Ok::<_, StepError>(input + 1) }).await?;
        ctx.expose("first", &a)?;
        let b: u64 = ctx.signal("add").await?;
        ctx.step("last", move |_| async move { Ok::<_, StepError>(a + b) }).await
    }
}

async fn run(client: &Client<MemoryStore>, number: u64) -> u64 {
    let id = ExecutionId::new(number.to_string()).expect("valid");
    let handle = client.start::<Order>(id.clone(), &number, StartOptions::default()).await.expect("starts");
    client.signal(&id, "add", &1_u64, Some("once")).await.expect("is told");
    handle.result().await.expect("completes") - number
}

/// Live bytes while workflows come and go in one engine, whose store keeps the last 500.
fn iterations(bench: &mut Bench) -> Result<(), BenchError> {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let engine = Engine::builder(MemoryStore::new()).register::<Order>().retention(Duration::from_secs(3_600), KEPT);
    let engine = runtime.block_on(engine.start()).expect("starts");
    let client = engine.client();
    let (mut number, mut sum) = (0, 0);
    let mut next = || {
        sum += runtime.block_on(run(&client, number));
        number += 1;
    };
    for _ in 0..WARM_UP {
        next();
    }
    bench.growth(if bench.is_test() { ITERATIONS / 10 } else { ITERATIONS }, &mut next)?;
    bench.proof(2 * number, sum);
    let kept = runtime.block_on(async {
        // Removals run beside the workflows.
        tokio::time::sleep(Duration::from_millis(10)).await;
        client.list(&Filter::all().ended(usize::MAX)).await.expect("can be read").len()
    });
    assert_eq!(kept, KEPT, "the others are removed, and none is in hand");
    Ok(())
}
