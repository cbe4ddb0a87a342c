//! What a durable workflow costs with its journal in PostgreSQL, beside what a driver alone does on the same server. Every row runs on a
//! throw-away server that waits for its disk; its report is printed.

#[path = "../event-store-postgres/flushes.rs"]
mod flushes;
#[path = "../database/setting.rs"]
#[allow(dead_code, reason = "the suite of pools uses the rest")]
mod setting;
#[path = "../event-store-postgres/stores.rs"]
#[allow(dead_code, reason = "the suite of the store uses the rest")]
mod stores;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bridge_orchestrator::{Client, Ctx, Engine, ExecutionId, StartOptions, StepError, Workflow, WorkflowError};
use event_store::PostgresStore;
use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError, Suite};
use tokio_postgres::types::ToSql;

use crate::flushes::flushes;
use crate::setting::Setting;
use crate::stores::PAYLOAD;

/// Numbers that no workflow has had.
static NEXT: AtomicU64 = AtomicU64::new(1 << 32);

fn main() -> ExitCode {
    Suite::new()
        .bench("bridge-orchestrator/postgres/step", step)
        .bench("bridge-orchestrator/postgres/flushes-a-workflow", flushes_of_one)
        .bench("bridge-orchestrator/postgres/workflows-per-flush", per_flush)
        .bench("bridge-orchestrator/postgres/workflows-64", at_once)
        .run()
}

/// As many steps as its input says, whose values are of the size of the floor's rows.
struct Steps;

impl Workflow for Steps {
    type Input = u64;
    type Output = u64;
    const TYPE: &'static str = "steps";

    async fn run(ctx: Ctx, steps: u64) -> Result<u64, WorkflowError> {
        let mut bytes = 0;
        for _ in 0..steps {
            let value = ctx.step("step", |_| async { Ok::<_, StepError>("a".repeat(PAYLOAD)) }).await?;
            bytes += value.len() as u64;
        }
        Ok(bytes / PAYLOAD as u64)
    }
}

type Store = Arc<PostgresStore>;

async fn engine(setting: &Setting, connections: usize) -> (Engine<Store>, Client<Store>) {
    let store = Arc::new(setting.store(connections).await);
    let engine = Engine::builder(store).register::<Steps>().start().await.expect("starts");
    let client = engine.client();
    (engine, client)
}

/// Runs a workflow of `steps`. Returns how many it has done.
async fn run(client: &Client<Store>, number: u64, steps: u64) -> u64 {
    let id = ExecutionId::new(number.to_string()).expect("valid");
    let handle = client.start::<Steps>(id, &steps, StartOptions::default()).await.expect("starts");
    handle.result().await.expect("completes")
}

/// What each append of a workflow of twenty steps takes: its start, and a step each, the last together with the end. Beside an insert of the
/// driver's that waits for the disk as well.
fn step(bench: &mut Bench) -> Result<(), BenchError> {
    const STEPS: u64 = 20;
    const TABLE: &str = "CREATE TABLE floor_events (LIKE es_events INCLUDING ALL)";
    const INSERT: &str = "INSERT INTO floor_events (position, version, time, event_id, schema_version, stream, type, tags, payload, metadata) \
        VALUES ($1, $2, $3, gen_random_uuid(), 1, $4, $5, $6, $7, $8)";
    let setting = Setting::alone();
    let (engine, client) = setting.runtime.block_on(engine(&setting, 3));
    let floor = setting.client();
    let insert = setting.runtime.block_on(async {
        floor.batch_execute(TABLE).await.expect("made");
        floor.prepare(INSERT).await.expect("prepared")
    });
    let payload = vec![b'a'; PAYLOAD];
    let (mut workflows, mut steps, mut inserted) = (0, 0, 0i64);
    let rounds = bench.against(
        "bridge-orchestrator/floor/postgres-insert",
        || {
            let start = Instant::now();
            steps += setting.runtime.block_on(run(&client, workflows, STEPS));
            workflows += 1;
            (start.elapsed(), STEPS + 1)
        },
        || {
            let start = Instant::now();
            setting.runtime.block_on(async {
                for number in inserted + 1..=inserted + STEPS as i64 {
                    let row: [&(dyn ToSql + Sync); 8] = [
                        &number,
                        &number,
                        &number,
                        &"workflow-1",
                        &"workflow.step.completed",
                        &"",
                        &payload,
                        &&b""[..],
                    ];
                    floor.execute(&insert, &row).await.expect("committed");
                }
            });
            inserted += STEPS as i64;
            (start.elapsed(), STEPS)
        },
    )?;
    bench.proof(2 * rounds * STEPS, steps + inserted as u64);
    setting.runtime.block_on(engine.shutdown(Duration::from_secs(1)));
    Ok(())
}

/// How often the log is flushed for a workflow of three steps, by the server's own account, with one at a time.
fn flushes_of_one(bench: &mut Bench) -> Result<(), BenchError> {
    const WORKFLOWS: u64 = 500;
    let setting = Setting::alone();
    let flushed = measured(bench, &setting, WORKFLOWS, 1);
    bench.figure(Source::Round, Figure::exact(Metric::Count, flushed as f64 / WORKFLOWS as f64), WORKFLOWS);
    Ok(())
}

/// Workflows of three steps that the log is flushed for at a time, with 64 of them at once.
fn per_flush(bench: &mut Bench) -> Result<(), BenchError> {
    const WORKFLOWS: u64 = 64 * 32;
    let setting = Setting::threaded();
    let flushed = measured(bench, &setting, WORKFLOWS, 64);
    bench.figure(Source::Round, Figure::exact(Metric::Count, WORKFLOWS as f64 / flushed.max(1) as f64), WORKFLOWS);
    Ok(())
}

/// The flushes that `workflows` of three steps take, `at_once` at a time; those of one lease are among them.
fn measured(bench: &mut Bench, setting: &Setting, workflows: u64, at_once: u64) -> i64 {
    let (steps, flushed) = setting.runtime.block_on(async {
        // The tables are made, and somebody has used them.
        several(setting, 1, 1).await;
        let before = flushes(setting).await;
        let steps = several(setting, workflows, at_once).await;
        (steps, flushes(setting).await - before)
    });
    bench.note(format!("{workflows} workflows, {flushed} flushes"));
    bench.proof(workflows * 3, steps);
    flushed
}

/// Runs workflows of three steps on an engine of their own. Returns how many steps they have done.
async fn several(setting: &Setting, workflows: u64, at_once: u64) -> u64 {
    let (engine, client) = engine(setting, 4).await;
    let base = NEXT.fetch_add(workflows, Ordering::Relaxed);
    let steps = run_at_once(&client, base, workflows, at_once).await;
    engine.shutdown(Duration::from_secs(1)).await;
    steps
}

/// Runs workflows of three steps, `at_once` at a time.
async fn run_at_once(client: &Client<Store>, base: u64, workflows: u64, at_once: u64) -> u64 {
    let runner = |first: u64| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut steps = 0;
            for number in (first..workflows).step_by(at_once as usize) {
                steps += run(&client, base + number, 3).await;
            }
            steps
        })
    };
    let runners: Vec<_> = (0..at_once.min(workflows)).map(runner).collect();
    let mut steps = 0;
    for runner in runners {
        steps += runner.await.expect("no panic");
    }
    steps
}

/// Workflows of three steps, 64 at once, on every processor: what each takes of the time of all. Beside 64 connections that insert as many rows
/// as a workflow has appends, each committed by itself.
fn at_once(bench: &mut Bench) -> Result<(), BenchError> {
    const AT_ONCE: u64 = 64;
    const EACH: u64 = 4;
    let setting = Setting::threaded();
    let (engine, client) = setting.runtime.block_on(engine(&setting, 4));
    let floors: Vec<_> = (0..AT_ONCE).map(|_| setting.client()).collect();
    setting
        .runtime
        .block_on(floors[0].batch_execute("CREATE TABLE floor_rows (payload bytea NOT NULL)"))
        .expect("made");
    let floors: Vec<_> = floors
        .into_iter()
        .map(|floor| {
            let insert =
                setting.runtime.block_on(floor.prepare("INSERT INTO floor_rows VALUES ($1)")).expect("prepared");
            (Arc::new(floor), insert)
        })
        .collect();
    let (mut steps, mut inserted) = (0, 0);
    let rounds = bench.against(
        "bridge-orchestrator/floor/postgres-inserts-64",
        || {
            let base = NEXT.fetch_add(AT_ONCE * EACH, Ordering::Relaxed);
            let start = Instant::now();
            steps += setting.runtime.block_on(run_at_once(&client, base, AT_ONCE * EACH, AT_ONCE));
            (start.elapsed(), AT_ONCE * EACH)
        },
        || {
            let start = Instant::now();
            inserted += setting.runtime.block_on(async {
                let insert_four = |(floor, insert): &(Arc<tokio_postgres::Client>, tokio_postgres::Statement)| {
                    let (floor, insert) = (Arc::clone(floor), insert.clone());
                    tokio::spawn(async move {
                        let payload = vec![b'a'; PAYLOAD];
                        let mut rows = 0;
                        for _ in 0..EACH * 4 {
                            rows += floor.execute(&insert, &[&payload]).await.expect("committed");
                        }
                        rows
                    })
                };
                let inserting: Vec<_> = floors.iter().map(insert_four).collect();
                let mut rows = 0;
                for each in inserting {
                    rows += each.await.expect("no panic");
                }
                rows
            });
            (start.elapsed(), AT_ONCE * EACH)
        },
    )?;
    bench.proof(rounds * AT_ONCE * EACH * 7, steps + inserted);
    setting.runtime.block_on(engine.shutdown(Duration::from_secs(1)));
    Ok(())
}
