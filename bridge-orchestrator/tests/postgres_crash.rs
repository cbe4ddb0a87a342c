//! Processes that are killed before and behind each append of a workflow with everything in it, on PostgreSQL.
//!
//! `KILLS=1000` is the full count.

mod on_postgres;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bridge_orchestrator::{
    Conflict, Ctx, Engine, HandleError, RetryPolicy, StartOptions, StepError, Workflow, WorkflowError,
};
use ephemeral_postgres::Database;
use event_store::tokio_postgres::{Client, NoTls};
use futures::future::{Either, select};
use on_postgres::{Store, count, database, id, kinds, number, server, store};

/// Counts an effect outside of any transaction.
async fn effect(execution: String, key: String) -> Result<u32, StepError> {
    let (client, connection) = event_store::tokio_postgres::connect(&url(), NoTls).await?;
    tokio::spawn(connection);
    client.execute("INSERT INTO ledger VALUES ($1, $2)", &[&execution, &key]).await?;
    Ok(1)
}

fn url() -> String {
    std::env::var("CRASH_URL").expect("a child is told where the database is")
}

fn quick() -> RetryPolicy {
    RetryPolicy::DEFAULT.initial(Duration::from_millis(1)).attempts(1_000)
}

async fn step(ctx: &Ctx, name: &'static str) -> Result<u32, WorkflowError> {
    let execution = ctx.execution().to_string();
    let step = ctx.step(name, move |attempt| effect(execution.clone(), attempt.idempotency_key().to_owned()));
    step.retry(quick()).await
}

async fn tx_step(ctx: &Ctx, name: &'static str) -> Result<u32, WorkflowError> {
    let execution = ctx.execution().to_string();
    let step = ctx.tx_step(name, move |tx, attempt| {
        let (execution, key) = (execution.clone(), attempt.idempotency_key().to_owned());
        Box::pin(async move {
            tx.execute("INSERT INTO tx_ledger VALUES ($1, $2)", &[&execution, &key]).await?;
            Ok(1)
        })
    });
    step.retry(quick()).await
}

/// Steps, timers, signals, a child, a select, a saga.
struct Everything;

impl Workflow for Everything {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "everything";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        let mut sum = step(&ctx, "one").await?;
        sum += tx_step(&ctx, "two").await?;
        ctx.sleep(Duration::from_millis(2)).await?;
        // Whichever comes first wins, and wins again; the other one is awaited behind it.
        sum += {
            let signal = std::pin::pin!(ctx.signal::<u32>("go"));
            let other = std::pin::pin!(step(&ctx, "beside"));
            match select(signal, other).await {
                Either::Left((signal, other)) => signal? + other.await?,
                Either::Right((other, signal)) => other? + signal.await?,
            }
        };
        let child = ctx.child::<Part>(id(&format!("{}-part", ctx.execution())), &())?;
        let (child, beside) = futures::join!(child, tx_step(&ctx, "beside the child"));
        sum += child? + beside?;
        let mut saga = ctx.saga();
        for name in ["undo one", "undo two"] {
            let execution = ctx.execution().to_string();
            saga.undo_with(name, quick(), move |attempt| {
                let undone = effect(execution.clone(), attempt.idempotency_key().to_owned());
                async move { undone.await.map(|_| ()) }
            });
            sum += step(&ctx, "do").await?;
        }
        let failed = ctx.step("fails", |_| async { Err::<(), _>(StepError::terminal("as planned")) }).await;
        if failed.is_ok() {
            return Err(WorkflowError::failed("it was to fail"));
        }
        if saga.unwind().await.compensated != 2 {
            return Err(WorkflowError::failed("both were to be undone"));
        }
        sum += tx_step(&ctx, "last").await?;
        Ok(sum)
    }
}

/// The values of all steps above: each is 1, and the signal 10.
const SUM: u32 = 1 + 1 + 11 + 2 + 1 + 2 + 1;

struct Part;

impl Workflow for Part {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "part";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        Ok(step(&ctx, "of the child").await? + tx_step(&ctx, "and a transaction").await?)
    }
}

/// Not a test of its own: the process that is killed. It ends by itself when the execution has, if it is not told to die before.
#[test]
#[ignore = "run by the others, as a process"]
fn child() {
    let (Ok(execution), Ok(at)) = (std::env::var("CRASH_EXECUTION"), std::env::var("CRASH_AT")) else { return };
    let at: u64 = at.parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sum = runtime.block_on(async {
        let config = url().parse().expect("a configuration");
        let store = store(&config).await;
        let boundaries = AtomicU64::new(0);
        let engine = Engine::builder(store).lease(on_postgres::LEASE).register::<Everything>().register::<Part>();
        let engine = engine.at_boundaries(move |_| {
            if boundaries.fetch_add(1, Ordering::SeqCst) + 1 == at {
                let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            }
        });
        let client = engine.start().await.expect("starts").client();
        let existing = StartOptions::default().conflict(Conflict::UseExisting);
        let handle = client.start::<Everything>(id(&execution), &(), existing).await.expect("starts");
        // The one who signals does not know whether it has before.
        if let Err(error) = client.signal(&id(&execution), "go", &10, Some("the one")).await {
            assert!(matches!(error, bridge_orchestrator::Error::NotFound(_)), "{error}");
        }
        loop {
            match handle.result().await {
                Ok(sum) => break sum,
                Err(HandleError::Released) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(sum, SUM);
}

/// Runs a process that is killed at its `at`-th boundary. Returns whether it got to the end before.
async fn life(database: &Database, execution: &str, at: u64) -> bool {
    let program = std::env::current_exe().expect("this program");
    let (url, execution) = (database.url(), execution.to_owned());
    let output = tokio::task::spawn_blocking(move || {
        Command::new(program)
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env("CRASH_URL", url)
            .env("CRASH_EXECUTION", execution)
            .env("CRASH_AT", at.to_string())
            .stdin(Stdio::null())
            .output()
            .expect("it runs")
    });
    let output = output.await.expect("it is waited for");
    let was_killed = output.status.signal() == Some(9);
    let said = || [output.stdout.clone(), output.stderr.clone()].concat();
    assert!(output.status.success() || was_killed, "{}", String::from_utf8_lossy(&said()));
    output.status.success()
}

/// What is outside of the journals agrees with them.
async fn check(client: &Client, store: &Store, execution: &str) {
    for execution in [execution.to_owned(), format!("{execution}-part")] {
        let kinds = kinds(store, &execution).await;
        assert_eq!(kinds.last().map(String::as_str), Some("completed"), "{execution}: {kinds:?}");
        let owners = count(&kinds, "claimed") as i64 + 1;
        let question = "SELECT key, count(*) FROM ledger WHERE execution = $1 GROUP BY key";
        let rows = client.query(question, &[&execution]).await.expect("rows");
        assert_eq!(rows.len(), if execution.ends_with("-part") { 1 } else { 6 }, "no effect of {execution} is lost");
        for row in rows {
            let (key, times): (String, i64) = (row.get(0), row.get(1));
            assert!(times <= owners, "{execution}, {key}: {times} times by {owners} owners");
        }
        let question = "SELECT key, count(*) FROM tx_ledger WHERE execution = $1 GROUP BY key";
        let rows = client.query(question, &[&execution]).await.expect("rows");
        assert_eq!(
            rows.len(),
            if execution.ends_with("-part") { 1 } else { 3 },
            "no transaction of {execution} is lost"
        );
        for row in rows {
            let (key, times): (String, i64) = (row.get(0), row.get(1));
            assert_eq!(times, 1, "{execution}, {key}: a transaction stands twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_before_or_behind_any_append_loses_nothing_and_doubles_no_transaction() {
    let kills = number("KILLS", 10);
    let workers = number("WORKERS", 4).min(kills);
    let server = server().await;
    let (next, killed) = (AtomicU64::new(0), AtomicU64::new(0));
    // Cases are counted over all workers: the first is killed at its first boundary, the next at its second, and so on round.
    let work = async || {
        let database = database(&server).await;
        let (store, client) = (store(database.config()).await, database.connect().await.expect("a client"));
        let tables =
            "CREATE TABLE ledger (execution text, key text); CREATE TABLE tx_ledger (execution text, key text)";
        client.batch_execute(tables).await.expect("tables");
        let mut longest = 0;
        while killed.load(Ordering::SeqCst) < kills {
            let case = next.fetch_add(1, Ordering::SeqCst);
            let execution = format!("case-{case}");
            // Each life is killed at a boundary of its own; they walk through all that there are.
            for life_number in 0.. {
                let at = if life_number == 0 { case * 7 % 43 + 1 } else { (case + life_number * 5) % 13 + 1 };
                if life(&database, &execution, at).await {
                    break;
                }
                killed.fetch_add(1, Ordering::SeqCst);
                longest = longest.max(life_number + 1);
                assert!(life_number < 200, "{execution} does not get on");
            }
            check(&client, &store, &execution).await;
        }
        longest
    };
    let longest = futures::future::join_all((0..workers).map(|_| work())).await;
    let (killed, cases) = (killed.load(Ordering::SeqCst), next.load(Ordering::SeqCst));
    eprintln!("{killed} kills in {cases} executions, at most {:?} of one", longest.iter().max());
    assert!(killed >= kills);
}
