//! A process that is stopped for longer than its lease, and goes on: nothing that it does counts any more.
//!
//! `ROUNDS=50` is the full count.

mod on_postgres;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bridge_orchestrator::{Ctx, RetryPolicy, StartOptions, StepError, Workflow, WorkflowError};
use on_postgres::{LEASE, Store, database, engine, id, number, server, store};
use rustix::process::{Pid, Signal, kill_process};

const STEPS: u32 = 60;

fn who() -> String {
    std::env::var("ZOMBIE_URL").map_or_else(|_| "the heir".to_owned(), |_| "the zombie".to_owned())
}

/// Says of each step who ran it, in the journal and in a table; every third step in both at once.
struct Steps;

impl Workflow for Steps {
    type Input = u32;
    type Output = Vec<String>;
    const TYPE: &'static str = "steps";

    async fn run(ctx: Ctx, pause: u32) -> Result<Vec<String>, WorkflowError> {
        let mut ran = Vec::new();
        let quick = RetryPolicy::DEFAULT.initial(Duration::from_millis(1)).attempts(1_000);
        for number in 0..STEPS {
            let by = if number % 3 == 0 {
                let step = ctx.tx_step("in a transaction", move |tx, _| {
                    Box::pin(async move {
                        tokio::time::sleep(Duration::from_millis(u64::from(pause))).await;
                        let (number, by) = (i64::from(number), who());
                        tx.execute("INSERT INTO ran VALUES ($1, $2)", &[&number, &by]).await?;
                        Ok(by)
                    })
                });
                step.retry(quick).await?
            } else {
                let step = ctx.step("outside", move |_| async move {
                    tokio::time::sleep(Duration::from_millis(u64::from(pause))).await;
                    Ok::<_, StepError>(who())
                });
                step.retry(quick).await?
            };
            ran.push(by);
        }
        Ok(ran)
    }
}

/// Not a test of its own: the process that is stopped.
#[test]
#[ignore = "run by the other, as a process"]
fn child() {
    let Ok(url) = std::env::var("ZOMBIE_URL") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let store = store(&url.parse().expect("a configuration")).await;
        let engine = engine(&store).register::<Steps>().start().await.expect("starts");
        engine.client().start::<Steps>(id("z"), &5, StartOptions::default()).await.expect("starts");
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    });
}

/// Kills the process in any case.
struct Zombie(Child);

impl Zombie {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("it lives");
    }
}

impl Drop for Zombie {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who ran each step, by the events, and where the journal was taken over: the values before it, and those behind.
async fn journal(store: &Store) -> (Vec<String>, Vec<String>) {
    use event_store::{EventStore as _, Read, StreamId};
    use futures::StreamExt as _;
    let stream = StreamId::new("workflow-z").expect("valid");
    let events: Vec<_> = store.read(Read::stream(stream)).map(|event| event.expect("readable")).collect().await;
    let (mut before, mut behind, mut is_claimed) = (Vec::new(), Vec::new(), false);
    for event in events {
        match event.event_type().as_str() {
            "workflow.claimed" => is_claimed = true,
            "workflow.step.completed" => {
                let by: String = serde_json::from_slice(event.payload()).expect("a text");
                if is_claimed { &mut behind } else { &mut before }.push(by);
            }
            _ => {}
        }
    }
    (before, behind)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_process_writes_after_its_lease_is_not_accepted() {
    let server = server().await;
    for round in 0..number("ROUNDS", 10) {
        let database = database(&server).await;
        let client = database.connect().await.expect("a client");
        client.batch_execute("CREATE TABLE ran (number bigint, by text)").await.expect("a table");
        let zombie = Command::new(std::env::current_exe().expect("this program"))
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env("ZOMBIE_URL", database.url())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let zombie = Zombie(zombie.expect("it runs"));
        let store = store(database.config()).await;
        let ran = "SELECT count(*) FROM ran";
        let begun = async {
            while client.query_one(ran, &[]).await.expect("a row").get::<_, i64>(0) < 2 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), begun).await.expect("it runs");
        let engine = engine(&store).register::<Steps>().start().await.expect("starts");
        // Wherever it is: in a step, in a transaction, between its append and its commit, for which everybody waits.
        tokio::time::sleep(Duration::from_millis(round * 7 % 23)).await;
        zombie.signal(Signal::STOP);
        // The heir has taken over, and runs.
        let inherited = async {
            while journal(&store).await.1.len() < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), inherited).await.expect("it is taken over");
        zombie.signal(Signal::CONT);
        let handle = engine.client().handle::<Steps>(&id("z"));
        let output =
            tokio::time::timeout(Duration::from_secs(30), handle.result()).await.expect("in time").expect("ends");
        // Longer than the zombie would take for what it was at.
        tokio::time::sleep(LEASE * 2).await;

        let (before, behind) = journal(&store).await;
        assert!(before.iter().all(|by| by == "the zombie"), "{before:?}");
        assert!(behind.iter().all(|by| by == "the heir"), "round {round}: {behind:?}");
        assert_eq!((output.len(), before.len() + behind.len()), (STEPS as usize, STEPS as usize));
        assert_eq!(output, [before, behind].concat());
        let rows = client.query("SELECT number, by FROM ran ORDER BY number", &[]).await.expect("rows");
        let numbers: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(numbers, (0..i64::from(STEPS)).step_by(3).collect::<Vec<_>>(), "each transaction stands once");
        for row in rows {
            let (number, by): (i64, String) = (row.get(0), row.get(1));
            assert_eq!(by, output[number as usize]);
        }
        engine.shutdown(Duration::from_secs(1)).await;
    }
}
