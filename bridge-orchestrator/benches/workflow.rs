//! What a durable workflow costs with its journal in memory. Every workflow's output is checked, and their sum is the proof.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bridge_orchestrator::{Client, Ctx, Engine, ExecutionId, StartOptions, StepError, Workflow, WorkflowError};
use event_store::MemoryStore;
use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError, Suite};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

type Store = MemoryStore;

/// Workflows after which an engine and its store are replaced, so that the journals stay within some ten megabytes.
const WORKFLOWS_A_ROUND: u64 = 2_000;
/// Workflows of a round on two threads.
const WORKFLOWS_AT_ONCE: u64 = 10_000;
/// Tasks that start them.
const STARTERS: u64 = 200;
/// How long a service takes to answer.
const SERVICE: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    Suite::new()
        .bench("bridge-orchestrator/workflow/single", single)
        .bench("bridge-orchestrator/workflow/single-beside-a-task", beside_a_task)
        .bench("bridge-orchestrator/workflow/concurrent-100", concurrent)
        .bench("bridge-orchestrator/workflow/two-threads", two_threads)
        .bench("bridge-orchestrator/workflow/three-services", three_services)
        .run()
}

/// Three steps that do next to nothing.
struct ThreeSteps;

impl Workflow for ThreeSteps {
    type Input = u64;
    type Output = u64;
    const TYPE: &'static str = "three-steps";

    async fn run(ctx: Ctx, input: u64) -> Result<u64, WorkflowError> {
        let a = ctx.step("first", move |_| async move { Ok::<_, StepError>(input + 1) }).await?;
        let b = ctx.step("second", move |_| async move { Ok::<_, StepError>(a + 1) }).await?;
        ctx.step("third", move |_| async move { Ok::<_, StepError>(b + 1) }).await
    }
}

fn name(number: u64) -> ExecutionId {
    ExecutionId::new(number.to_string()).expect("valid")
}

async fn engine() -> (Engine<Store>, Client<Store>) {
    let engine = Engine::builder(MemoryStore::new()).register::<ThreeSteps>().register::<Services>();
    let engine = engine.start().await.expect("starts");
    let client = engine.client();
    (engine, client)
}

async fn run_one(client: &Client<Store>, number: u64) -> u64 {
    let handle = client.start::<ThreeSteps>(name(number), &number, StartOptions::default()).await.expect("starts");
    handle.result().await.expect("completes") - 3
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Started, run and awaited, one after the other.
fn single(bench: &mut Bench) -> Result<(), BenchError> {
    let runtime = current_thread();
    let sum = |count: u64| (0..count).sum::<u64>();
    let rounds = bench.ops(
        WORKFLOWS_A_ROUND,
        || (runtime.block_on(engine()), 0_u64),
        |((_, client), sum), number| *sum += runtime.block_on(run_one(client, number)),
        |(_, sum)| sum,
    )?;
    bench.proof(rounds * sum(WORKFLOWS_A_ROUND), bench.observed());
    Ok(())
}

/// The same beside four tasks that are spawned and awaited one after the other: what the runtime takes for as many wake-ups.
fn beside_a_task(bench: &mut Bench) -> Result<(), BenchError> {
    let runtime = current_thread();
    let (mut sum, mut their_sum) = (0, 0);
    let rounds = bench.against(
        "bridge-orchestrator/floor/spawn-and-join",
        || {
            runtime.block_on(async {
                let (_engine, client) = engine().await;
                let start = Instant::now();
                for number in 0..WORKFLOWS_A_ROUND {
                    sum += run_one(&client, number).await;
                }
                (start.elapsed(), WORKFLOWS_A_ROUND)
            })
        },
        || {
            runtime.block_on(async {
                let start = Instant::now();
                for number in 0..WORKFLOWS_A_ROUND {
                    their_sum += tokio::spawn(async move { number }).await.expect("joins");
                }
                (start.elapsed(), WORKFLOWS_A_ROUND)
            })
        },
    )?;
    bench.proof(2 * rounds * (0..WORKFLOWS_A_ROUND).sum::<u64>(), sum + their_sum);
    Ok(())
}

/// A hundred at once, on one thread: how long all of them take.
fn concurrent(bench: &mut Bench) -> Result<(), BenchError> {
    const AT_ONCE: u64 = 100;
    let runtime = current_thread();
    let per_round = WORKFLOWS_A_ROUND / AT_ONCE;
    let (mut taken, mut ended) = (Duration::ZERO, 0);
    let rounds = bench.ops(
        per_round,
        || (runtime.block_on(engine()), 0_u64),
        |((_, client), sum), round| {
            let start = Instant::now();
            *sum += runtime.block_on(async {
                let numbers = round * AT_ONCE..(round + 1) * AT_ONCE;
                futures::future::join_all(numbers.map(|number| run_one(client, number))).await.into_iter().sum::<u64>()
            });
            (taken, ended) = (taken + start.elapsed(), ended + AT_ONCE);
        },
        |(_, sum)| sum,
    )?;
    bench.proof(rounds * (0..WORKFLOWS_A_ROUND).sum::<u64>(), bench.observed());
    // Batches that warm up are among them.
    let throughput = Figure::exact(Metric::Throughput, ended as f64 / taken.as_secs_f64());
    bench.figure(Source::Op, throughput, ended);
    Ok(())
}

/// As many as two threads can run.
fn two_threads(bench: &mut Bench) -> Result<(), BenchError> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut sum = 0;
    let rounds = bench.rounds(|| {
        let (elapsed, found) = runtime.block_on(async {
            let (_engine, client) = engine().await;
            let mut starters = JoinSet::new();
            let start = Instant::now();
            for starter in 0..STARTERS {
                let client = client.clone();
                starters.spawn(async move {
                    let mut sum = 0;
                    for number in (starter..WORKFLOWS_AT_ONCE).step_by(STARTERS as usize) {
                        sum += run_one(&client, number).await;
                    }
                    sum
                });
            }
            let found: u64 = starters.join_all().await.into_iter().sum();
            (start.elapsed(), found)
        });
        sum += found;
        (elapsed, WORKFLOWS_AT_ONCE)
    })?;
    bench.proof(rounds * (0..WORKFLOWS_AT_ONCE).sum::<u64>(), sum);
    Ok(())
}

/// Asks three services side by side, and says how long the slowest of them took, in nanoseconds.
struct Services;

impl Workflow for Services {
    type Input = u16;
    type Output = u64;
    const TYPE: &'static str = "services";

    async fn run(ctx: Ctx, port: u16) -> Result<u64, WorkflowError> {
        let ask = |name| ctx.step(name, move |_| ask(port)).into_future();
        let (a, b, c) = futures::join!(ask("stamping"), ask("intelligence"), ask("storage"));
        Ok(a?.max(b?).max(c?))
    }
}

async fn ask(port: u16) -> Result<u64, StepError> {
    let start = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"?").await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await?;
    if answer != *b"!" {
        return Err(StepError::terminal("a strange answer"));
    }
    Ok(start.elapsed().as_nanos() as u64)
}

/// What a workflow takes on top of the slowest of three services that it asks side by side; its longest is the whole workflow's.
fn three_services(bench: &mut Bench) -> Result<(), BenchError> {
    const CALLS: u64 = 100;
    let runtime = current_thread();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    runtime.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let mut question = [0];
                stream.read_exact(&mut question).await.expect("a question");
                tokio::time::sleep(SERVICE).await;
                stream.write_all(b"!").await.expect("is answered");
            });
        }
    });
    let mut above = Vec::new();
    let mut longest = Duration::ZERO;
    runtime.block_on(async {
        let (_engine, client) = engine().await;
        for number in 0..CALLS {
            let start = Instant::now();
            let handle = client.start::<Services>(name(number), &port, StartOptions::default()).await.expect("starts");
            let slowest = handle.result().await.expect("completes");
            let whole = start.elapsed();
            longest = longest.max(whole);
            above.push((whole.as_nanos() as u64 - slowest) as f64);
        }
    });
    bench.rounds_measured(&above)?;
    bench.figure(Source::Round, Figure::exact(Metric::LatencyMax, longest.as_nanos() as f64), CALLS);
    bench.proof(CALLS, above.len() as u64);
    Ok(())
}
