//! Projections into tables beside the events: each event counts once whatever breaks, what cannot be applied is parked, a rebuild stands beside
//! the live version.

mod postgres;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ephemeral_postgres::{Database, Direction, Proxy, Server, Toxic, Upstream};
use event_store::{
    Append, ApplyError, EventStore, ExpectedVersion, NewEvent, PgOptions, PgReadModel, PgTx, PostgresStore, Projection,
    ProjectionId, ProjectionOptions, ProjectionRunner, ReadModel, ReadModelError, RecordedEvent, RunOutcome,
};
use support::{event, kind, position, stream};
use tokio::time::{sleep, timeout};

/// A row an event, and their sum: what is applied twice violates the key, what is lost is missing.
struct Ledger {
    version: u32,
    /// Whether events of the type `Bad` can be applied.
    mended: Arc<AtomicBool>,
}

impl Ledger {
    fn new(version: u32) -> Self {
        Self { version, mended: Arc::default() }
    }

    async fn tables(database: &Database) {
        let client = database.connect().await.expect("a client");
        for version in 1..=2 {
            let tables = format!(
                "CREATE TABLE ledger_{version} (position bigint PRIMARY KEY, payload text NOT NULL);
                CREATE TABLE sum_{version} (sum bigint NOT NULL); INSERT INTO sum_{version} VALUES (0)"
            );
            client.batch_execute(&tables).await.expect("made");
        }
    }

    /// The positions that were applied, and their sum as the projection has added it up.
    async fn found(database: &Database, version: u32) -> (Vec<u64>, i64) {
        let client = database.connect().await.expect("a client");
        let rows = client.query(&format!("SELECT position FROM ledger_{version} ORDER BY position"), &[]).await;
        let positions = rows.expect("rows").iter().map(|row| row.get::<_, i64>(0).unsigned_abs()).collect();
        let sum = client.query_one(&format!("SELECT sum FROM sum_{version}"), &[]).await.expect("a sum").get(0);
        (positions, sum)
    }
}

impl Projection for Ledger {
    type Tx = PgTx;

    fn name(&self) -> &str {
        "ledger"
    }

    fn version(&self) -> u32 {
        self.version
    }

    async fn apply(&self, tx: &mut PgTx, event: &RecordedEvent) -> Result<(), ApplyError> {
        let position = event.position().get() as i64;
        let payload = String::from_utf8_lossy(event.payload()).into_owned();
        let insert = format!("INSERT INTO ledger_{} VALUES ($1, $2)", self.version);
        tx.execute(&insert, &[&position, &payload]).await?;
        if event.event_type().as_str() == "Bad" && !self.mended.load(Ordering::Relaxed) {
            tx.query("SELECT 1 / ($1::bigint - $1::bigint)", &[&position]).await?;
        }
        tx.execute(&format!("UPDATE sum_{} SET sum = sum + $1", self.version), &[&position]).await?;
        Ok(())
    }
}

fn options() -> ProjectionOptions {
    let pauses = (Duration::from_millis(1), Duration::from_millis(10));
    ProjectionOptions::default().batch_events(7).attempts(3).pauses(pauses.0, pauses.1)
}

type Runner = ProjectionRunner<PostgresStore, PgReadModel, Ledger>;

fn runner(store: &Arc<PostgresStore>, ledger: Ledger, options: ProjectionOptions) -> Runner {
    ProjectionRunner::new(Arc::clone(store), Arc::new(store.read_model()), ledger, sleep).options(options)
}

fn id(version: u32) -> ProjectionId {
    ProjectionId { name: "ledger".to_owned(), version }
}

async fn append(store: &PostgresStore, events: impl IntoIterator<Item = NewEvent>) {
    let append = Append::stream(stream("a"), ExpectedVersion::Any, events);
    while store.append(append.clone()).await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }
}

fn all(count: u64) -> (Vec<u64>, i64) {
    ((1..=count).collect(), (1..=count as i64).sum())
}

async fn world(server: &Server) -> (Database, Arc<PostgresStore>) {
    let database = server.database().await.expect("a database");
    let store = Arc::new(postgres::store(&database).await);
    Ledger::tables(&database).await;
    (database, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_counts_once_while_connections_end_and_runs_are_dropped() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    postgres::store(&database).await;
    Ledger::tables(&database).await;
    let tcp = database.tcp_config().expect("it listens");
    let proxy = Proxy::start(Upstream::of(tcp).expect("an address")).await.expect("a proxy");
    let options_of_store = PgOptions::new().notify(false).pool_timeout(Duration::from_secs(2));
    let mut config = proxy.config(tcp);
    config.application_name("projected");
    let pool = postgres::pool(&config, 6);
    let store = Arc::new(PostgresStore::connect(pool, options_of_store).await.expect("it connects"));
    let count = postgres::count("EVENTS", 1_500);
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for number in (0..count).step_by(10) {
                append(&store, (number..number + 10).map(event)).await;
                sleep(Duration::from_millis(20)).await;
            }
        })
    };
    let is_over = Arc::new(AtomicBool::new(false));
    // Answers are cut off after a random number of bytes, often between a commit and its answer; backends are ended.
    let harm = {
        let (is_over, client) = (Arc::clone(&is_over), server.connect().await.expect("a client"));
        let name = database.name().to_owned();
        async move {
            let mut rng = fastrand::Rng::with_seed(11);
            while !is_over.load(Ordering::Relaxed) {
                let bytes = rng.u64(..4_000);
                let cut = proxy.add(Direction::Down, Toxic::LimitData { bytes }).expect("a toxic");
                sleep(Duration::from_millis(rng.u64(5..30))).await;
                proxy.remove(cut);
                let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE datname = $1 AND application_name = 'projected'";
                client.execute(end, &[&name]).await.expect("ended");
                sleep(Duration::from_millis(rng.u64(50..300))).await;
            }
            proxy
        }
    };
    let harm = tokio::spawn(harm);
    let runner = runner(&store, Ledger::new(1), options().max_failures(1_000_000));
    let (mut dropped, mut rng) = (0, fastrand::Rng::with_seed(12));
    loop {
        // Many a run is dropped at some moment.
        let patience = Duration::from_millis(2 << rng.u32(..10));
        if timeout(patience, runner.catch_up()).await.is_err() {
            dropped += 1;
        }
        if writer.is_finished() && Ledger::found(&database, 1).await.0.len() as u64 == count {
            break;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    writer.await.expect("no panic");
    let proxy = harm.await.expect("no panic");
    let cuts = proxy.counts().cuts;
    assert!(cuts > 0 && dropped > 0, "{cuts} cuts, {dropped} runs dropped");
    assert_eq!(runner.catch_up().await.expect("it runs"), RunOutcome::CaughtUp);
    assert_eq!(Ledger::found(&database, 1).await, all(count));
    assert!(runner.parked().await.expect("listed").is_empty(), "a lost connection is nobody's event");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_runners_of_one_projection_do_no_harm() {
    let server = postgres::server().await;
    let (database, store) = world(&server).await;
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let runner = Arc::new(runner(&store, Ledger::new(1), options().max_failures(1_000)));
            let running = Arc::clone(&runner);
            (runner, tokio::spawn(async move { running.run().await.expect("it runs") }))
        })
        .collect();
    for number in (0..400).step_by(20) {
        append(&store, (number..number + 20).map(event)).await;
    }
    while Ledger::found(&database, 1).await.0.len() < 400 {
        sleep(Duration::from_millis(5)).await;
    }
    for (runner, task) in tasks {
        runner.stop();
        assert_eq!(task.await.expect("no panic"), RunOutcome::Stopped);
    }
    assert_eq!(Ledger::found(&database, 1).await, all(400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_statement_refuses_is_parked_and_can_be_tried_again() {
    let server = postgres::server().await;
    let (database, store) = world(&server).await;
    append(&store, (0..5).map(event)).await;
    let mut bad = event(5);
    bad.event_type = kind("Bad");
    append(&store, [bad]).await;
    append(&store, (6..10).map(event)).await;
    let ledger = Ledger::new(1);
    let mended = Arc::clone(&ledger.mended);
    let runner = runner(&store, ledger, options());
    runner.catch_up().await.expect("it runs");
    let parked = runner.parked().await.expect("listed");
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].position, parked[0].attempts), (position(6), 3));
    assert!(parked[0].error.contains("division by zero"), "{}", parked[0].error);
    assert_eq!(Ledger::found(&database, 1).await, ([1, 2, 3, 4, 5, 7, 8, 9, 10].to_vec(), 49));

    runner.retry_parked(position(6)).await.expect_err("it is as before");
    mended.store(true, Ordering::Relaxed);
    runner.retry_parked(position(6)).await.expect("applied");
    assert!(runner.parked().await.expect("listed").is_empty());
    assert_eq!(Ledger::found(&database, 1).await, all(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_stands_beside_the_live_version_and_takes_its_place_at_once() {
    let server = postgres::server().await;
    let (database, store) = world(&server).await;
    let model = store.read_model();
    append(&store, (0..30).map(event)).await;
    assert_eq!(model.active_version("ledger").await, Ok(None));
    runner(&store, Ledger::new(1), options()).catch_up().await.expect("it runs");
    assert_eq!(model.active_version("ledger").await, Ok(Some(1)));
    let rebuild = runner(&store, Ledger::new(2), options());
    rebuild.catch_up().await.expect("it runs");
    assert_eq!(model.active_version("ledger").await, Ok(Some(1)), "the live one until told otherwise");
    assert_eq!(model.remove(&id(1)).await, Err(ReadModelError::IsActive(id(1))));
    rebuild.activate().await.expect("activated");
    assert_eq!(model.active_version("ledger").await, Ok(Some(2)));
    model.remove(&id(1)).await.expect("removed");
    assert_eq!(Ledger::found(&database, 2).await, all(30));
    // It would begin again.
    let mut tx = model.begin(&id(1)).await.expect("begun");
    let progress = model.load(&mut tx).await.expect("loaded");
    assert_eq!((progress.checkpoint, progress.active), (None, Some(2)));
}
