//! A process that dies in the middle of a workflow, and another one that goes on where it stood.
//!
//! The first process transfers money in a transactional step, and kills itself in the step behind it. The second one waits until the lease of the
//! first has run out, takes the workflow over, and ends it: the money has moved once. The journal is in a PostgreSQL server that the example starts
//! and removes; nothing has to be set up.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_orchestrator::{Conflict, Ctx, Engine, ExecutionId, StartOptions, StepError, Workflow, WorkflowError};
use ephemeral_postgres::{Profile, Server};
use event_store::deadpool_postgres::{Manager, Pool};
use event_store::tokio_postgres::NoTls;
use event_store::{PgOptions, PostgresStore};

const URL: &str = "RESUME_AFTER_CRASH_URL";
const DIES: &str = "RESUME_AFTER_CRASH_DIES";

struct Transfer;

impl Workflow for Transfer {
    type Input = i64;
    type Output = String;
    const TYPE: &'static str = "transfer";

    async fn run(ctx: Ctx, amount: i64) -> Result<String, WorkflowError> {
        // The update and the step's record are committed together.
        let balance = ctx.tx_step("transfer", move |tx, _| {
            Box::pin(async move {
                let statement = "UPDATE account SET balance = balance + $1 RETURNING balance";
                Ok(tx.query_one(statement, &[&amount]).await?.get::<_, i64>(0))
            })
        });
        let balance = balance.await?;
        ctx.step("notify", move |attempt| async move {
            println!("  process {}: notifies, with key {}", std::process::id(), attempt.idempotency_key());
            if std::env::var_os(DIES).is_some() {
                println!("  process {}: dies", std::process::id());
                std::process::abort();
            }
            Ok::<_, StepError>(())
        })
        .await?;
        Ok(format!("the balance is {balance}"))
    }
}

/// What each of the two processes does: the same.
async fn work(url: &str) -> Result<String, Box<dyn std::error::Error>> {
    let config: event_store::tokio_postgres::Config = url.parse()?;
    let pool = Pool::builder(Manager::new(config.clone(), NoTls)).max_size(4).build()?;
    let store = Arc::new(PostgresStore::connect(pool, PgOptions::new().listen(config)).await?);
    store.migrate().await?;
    let engine = Engine::builder(store).lease(Duration::from_millis(500)).register::<Transfer>().start().await?;
    let options = StartOptions::default().conflict(Conflict::UseExisting);
    let transfer = engine.client().start::<Transfer>(ExecutionId::new("transfer-1")?, &100, options).await?;
    let result = transfer.result().await?;
    engine.shutdown(Duration::from_secs(1)).await;
    Ok(result)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Ok(url) = std::env::var(URL) {
        println!("  process {}: {}", std::process::id(), work(&url).await?);
        return Ok(());
    }
    let server = Server::start(Profile::Fast).await?;
    let database = server.database().await?;
    let client = database.connect().await?;
    client.batch_execute("CREATE TABLE account (balance bigint NOT NULL); INSERT INTO account VALUES (0)").await?;

    let process = || {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(URL, database.url());
        command
    };
    println!("the first process");
    let first = process().env(DIES, "1").status()?;
    assert!(!first.success(), "it dies");
    let balance = async || client.query_one("SELECT balance FROM account", &[]).await.map(|row| row.get::<_, i64>(0));
    assert_eq!(balance().await?, 100, "its transaction is committed");

    println!("the second process");
    let began = Instant::now();
    let second = process().status()?;
    assert!(second.success(), "it ends what the first one began");
    assert_eq!(balance().await?, 100, "the money has moved once");
    println!("taken over and ended after {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
