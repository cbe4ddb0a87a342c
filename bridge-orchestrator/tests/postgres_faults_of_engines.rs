//! Answers that are lost, servers that go, leases that are stolen: every execution ends as if nothing had been, and nothing is done twice that is
//! done in a transaction.

mod on_postgres;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bridge_orchestrator::{
    Boundary, Ctx, Engine, ErrorCode, HandleError, RetryPolicy, StartOptions, StepError, Workflow, WorkflowError,
};
use ephemeral_postgres::{Database, Direction, Profile, Proxy, Server, StopMode, Toxic, Upstream};
use event_store::deadpool_postgres::{Manager, Pool};
use event_store::tokio_postgres::{Client, NoTls};
use event_store::{PgOptions, PostgresStore};
use futures::future::join_all;
use on_postgres::{LEASE, database, engine, id, number, server, store};

fn quick() -> RetryPolicy {
    RetryPolicy::DEFAULT.initial(Duration::from_millis(5)).cap(Duration::from_millis(100)).attempts(1_000)
}

/// Writes a row, in a transaction.
async fn book(ctx: &Ctx, name: &'static str) -> Result<u32, WorkflowError> {
    let execution = ctx.execution().to_string();
    let step = ctx.tx_step(name, move |tx, _| {
        let execution = execution.clone();
        Box::pin(async move {
            tx.execute("INSERT INTO booked VALUES ($1, $2)", &[&execution, &name]).await?;
            Ok(1)
        })
    });
    step.retry(quick()).await
}

/// Two transactions and a step between them.
struct Books;

impl Workflow for Books {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "books";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        let mut sum = 0;
        for name in ["first", "second"] {
            sum += book(&ctx, name).await?;
            sum += ctx.step("between", |_| async { Ok::<_, StepError>(1) }).retry(quick()).await?;
        }
        Ok(sum)
    }
}

/// What waits for one signal between two transactions.
struct Waits;

impl Workflow for Waits {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "waits";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        let mut sum = 0;
        for name in ["first", "second"] {
            sum += book(&ctx, name).await?;
            if name == "first" {
                sum += ctx.signal::<u32>("go").await?;
            }
        }
        Ok(sum)
    }
}

async fn booked(database: &Database) -> Client {
    let client = database.connect().await.expect("a client");
    client.batch_execute("CREATE TABLE booked (execution text, name text)").await.expect("a table");
    client
}

/// How many transactions there are, and how many stand twice.
async fn books(client: &Client) -> (i64, i64) {
    let question = "SELECT coalesce(sum(n), 0)::bigint, count(*) FILTER (WHERE n > 1)
        FROM (SELECT count(*) AS n FROM booked GROUP BY execution, name) AS each";
    let row = client.query_one(question, &[]).await.expect("a row");
    (row.get(0), row.get(1))
}

/// Commits reach the system before they are acknowledged, so that they outlive the server's processes.
async fn durable_server() -> Server {
    Server::builder().profile(Profile::Fast).setting("synchronous_commit", "on").start().await.expect("a server")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_around_a_commit_neither_loses_the_transaction_nor_doubles_it() {
    let server = durable_server().await;
    let database = database(&server).await;
    let client = booked(&database).await;
    let tcp = database.tcp_config().expect("it listens");
    let proxy = Arc::new(Proxy::start(Upstream::of(tcp).expect("an address")).await.expect("a proxy"));
    let pool = Pool::builder(Manager::new(proxy.config(tcp), NoTls)).max_size(8).build().expect("a pool");
    let store = PostgresStore::connect(pool, PgOptions::new().notify(false)).await.expect("it connects");
    // Each third append of a journal loses its connection after some bytes, in one direction or the other.
    let (cutter, appends) = (Arc::clone(&proxy), AtomicU64::new(0));
    let runtime = tokio::runtime::Handle::current();
    let engine = Engine::builder(store).lease(Duration::from_secs(2)).register::<Books>().at_boundaries(move |at| {
        let number = appends.fetch_add(1, Ordering::Relaxed);
        if at != Boundary::BeforeAppend || number % 6 != 0 {
            return;
        }
        let direction = if number % 4 == 0 { Direction::Down } else { Direction::Up };
        let bytes = number * 37 % 400;
        let cut = cutter.add(direction, Toxic::LimitData { bytes }).expect("a toxic");
        let cutter = Arc::clone(&cutter);
        runtime.spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            cutter.remove(cut);
        });
    });
    let engine = engine.start().await.expect("starts");
    let executions = number("CUT", 10);
    for case in 0..executions {
        let name = format!("cut-{case}");
        let handle = engine.client().start::<Books>(id(&name), &(), StartOptions::default()).await.expect("starts");
        let ended = tokio::time::timeout(Duration::from_secs(30), handle.result()).await.expect("in time");
        assert_eq!(ended.expect("ends"), 4, "{name}");
    }
    proxy.heal();
    assert!(proxy.counts().cuts > 0, "the fault was felt");
    assert_eq!(books(&client).await, (executions as i64 * 2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_and_comes_back_is_waited_for() {
    let server = durable_server().await;
    let database = database(&server).await;
    let client = booked(&database).await;
    drop(client);
    let store = store(database.config()).await;
    let engine = engine(&store).lease(Duration::from_secs(2)).register::<Books>().start().await.expect("starts");
    let mut handles = Vec::new();
    for case in 0..30 {
        let options = StartOptions::default().delay(Duration::from_millis(case * 20));
        let name = format!("restart-{case}");
        handles.push(engine.client().start::<Books>(id(&name), &(), options).await.expect("starts"));
    }
    for pause in [50, 150] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        server.restart(StopMode::Immediate).await.expect("it restarts");
    }
    let ended = join_all(handles.iter().map(|handle| handle.result()));
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await.expect("in time");
    assert!(ended.iter().all(|ended| *ended == Ok(4)), "{ended:?}");
    let client = database.connect().await.expect("a client");
    assert_eq!(books(&client).await, (60, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_whose_server_is_gone_can_be_shut_down() {
    let server = durable_server().await;
    let database = database(&server).await;
    drop(booked(&database).await);
    let store = store(database.config()).await;
    let engine = engine(&store).register::<Books>().register::<Waits>().start().await.expect("starts");
    let mut handles = Vec::new();
    for case in 0..10 {
        let name = id(&format!("gone-{case}"));
        handles.push(engine.client().start::<Books>(name, &(), StartOptions::default()).await.expect("starts"));
    }
    engine.client().start::<Waits>(id("waits"), &(), StartOptions::default()).await.expect("starts");
    server.stop(StopMode::Immediate).await.expect("it stops");
    // By now some have something to append, and the lease has run out.
    tokio::time::sleep(LEASE * 2).await;
    let shut_down = engine.shutdown(Duration::from_millis(100));
    let released = tokio::time::timeout(Duration::from_secs(20), shut_down).await.expect("it is not waited for");
    assert!(released >= 1, "the one that waits is let go");
    for handle in handles {
        let ended = tokio::time::timeout(Duration::from_secs(5), handle.result()).await.expect("whoever waits is told");
        assert!(matches!(ended, Ok(4) | Err(HandleError::Released)), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_cancellations_and_renewals_at_once_never_stand_in_each_others_way() {
    let server = server().await;
    let database = database(&server).await;
    let client = booked(&database).await;
    let mut engines = Vec::new();
    for _ in 0..3 {
        engines.push(engine(&store(database.config()).await).register::<Waits>().start().await.expect("starts"));
    }
    let count = number("EXECUTIONS", 30);
    let mut handles = Vec::new();
    for case in 0..count {
        let engine = &engines[case as usize % 3];
        let name = id(&format!("stress-{case}"));
        handles.push(engine.client().start::<Waits>(name, &(), StartOptions::default()).await.expect("starts"));
    }
    // Leases are stolen all the while: what they cover changes hands between living processes.
    let thief = async {
        for _ in 0..10 {
            let steal = "UPDATE wf_lease SET epoch = epoch + 1, expires_at = '-infinity'
                WHERE owner = (SELECT owner FROM wf_lease WHERE epoch = 1 ORDER BY random() LIMIT 1)";
            client.execute(steal, &[]).await.expect("it is stolen");
            tokio::time::sleep(LEASE / 2).await;
        }
    };
    let ask = async {
        for case in 0..count {
            let (name, asker) = (id(&format!("stress-{case}")), engines[(case as usize + 1) % 3].client());
            let asked = async {
                loop {
                    let told = if case % 5 == 0 {
                        asker.cancel(&name).await
                    } else {
                        asker.signal(&name, "go", &10, Some("the one")).await
                    };
                    match told {
                        Ok(()) => break,
                        // It changes hands just now.
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it is told");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    futures::join!(thief, ask);
    for (case, handle) in handles.iter().enumerate() {
        let ended = tokio::time::timeout(Duration::from_secs(30), handle.result()).await;
        match ended.unwrap_or_else(|_| panic!("execution {case} does not end: {:?}", handle.state())) {
            Ok(sum) => assert_eq!(sum, 12),
            Err(HandleError::Failed(failure)) if case % 5 == 0 => assert_eq!(failure.code, ErrorCode::Cancelled),
            Err(error) => panic!("execution {case}: {error}"),
        }
    }
    let (_, twice) = books(&client).await;
    assert_eq!(twice, 0, "a transaction stands twice");
    for engine in engines {
        engine.shutdown(Duration::from_secs(1)).await;
    }
    let log = server.log().await.expect("a log");
    assert!(!log.contains("deadlock detected"), "{log}");
}
