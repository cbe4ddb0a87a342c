//! Projections into tables beside the events: each event counts once whatever breaks, what cannot be applied is parked, a rebuild stands beside
//! the live version.

mod postgres;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ephemeral_postgres::{Database, Direction, Proxy, Server, Toxic, Upstream};
use event_store::{
    Append, ApplyError, BoxFuture, EventStore, ExpectedVersion, NameError, NewEvent, PgOptions, PgReadModel, PgTx,
    PostgresStore, Projection, ProjectionId, ProjectionOptions, ProjectionRunner, ReadModel, ReadModelError,
    RecordedEvent, RetryError, RunOutcome,
};
use futures::FutureExt as _;
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
        if is_bad(event) && !self.mended.load(Ordering::Relaxed) {
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

/// The projection `ledger` that does something else.
struct By<F>(F);

fn by<F>(apply: F) -> By<F>
where
    F: for<'a> Fn(&'a mut PgTx, &'a RecordedEvent) -> BoxFuture<'a, Result<(), ApplyError>> + Send + Sync + 'static,
{
    By(apply)
}

impl<F> Projection for By<F>
where
    F: for<'a> Fn(&'a mut PgTx, &'a RecordedEvent) -> BoxFuture<'a, Result<(), ApplyError>> + Send + Sync + 'static,
{
    type Tx = PgTx;

    fn name(&self) -> &str {
        "ledger"
    }

    async fn apply(&self, tx: &mut PgTx, event: &RecordedEvent) -> Result<(), ApplyError> {
        (self.0)(tx, event).await
    }
}

type Runner<P> = ProjectionRunner<PostgresStore, PgReadModel, P>;

fn runner<P: Projection<Tx = PgTx>>(
    store: &Arc<PostgresStore>,
    projection: P,
    options: ProjectionOptions,
) -> Runner<P> {
    ProjectionRunner::new(Arc::clone(store), Arc::new(store.read_model()), projection, sleep).options(options)
}

fn bad(number: u64) -> NewEvent {
    let mut bad = event(number);
    bad.event_type = kind("Bad");
    bad
}

fn is_bad(event: &RecordedEvent) -> bool {
    event.event_type().as_str() == "Bad"
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
    append(&store, [bad(5)]).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_event_is_tried_again_while_no_batch_is_applied() {
    let server = postgres::server().await;
    let (database, store) = world(&server).await;
    append(&store, [bad(0), event(1)]).await;
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    // What it reads, it writes back later: of two that do so at once, one changes nothing.
    let adder = by(move |tx, event| {
        let (is_bad, is_mended) = (is_bad(event), is_mended.load(Ordering::Relaxed));
        async move {
            if is_bad && !is_mended {
                return Err(ApplyError::event("bad"));
            }
            let sum: i64 = tx.query("SELECT sum FROM sum_1", &[]).await?[0].get(0);
            if is_bad {
                sleep(Duration::from_millis(500)).await;
            }
            tx.execute("UPDATE sum_1 SET sum = $1", &[&(sum + event.position().get() as i64)]).await?;
            Ok(())
        }
        .boxed()
    });
    let runner = Arc::new(runner(&store, adder, options()));
    runner.catch_up().await.expect("it runs");
    mended.store(true, Ordering::Relaxed);
    let trying = Arc::clone(&runner);
    let retry = tokio::spawn(async move { trying.retry_parked(position(1)).await });
    sleep(Duration::from_millis(150)).await;
    append(&store, [event(2), event(3)]).await;
    runner.catch_up().await.expect("it runs");
    retry.await.expect("no panic").expect("applied");
    assert_eq!(Ledger::found(&database, 1).await.1, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_is_swallowed_leaves_the_event_parked_and_is_told() {
    let server = postgres::server().await;
    let (_database, store) = world(&server).await;
    append(&store, [bad(0)]).await;
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let careless = by(move |tx, _| {
        let is_mended = is_mended.load(Ordering::Relaxed);
        async move {
            let answer = tx.query("SELECT 1 / ($1::bigint - $1::bigint)", &[&1_i64]).await;
            if is_mended { Ok(()) } else { answer.map(drop) }
        }
        .boxed()
    });
    let runner = runner(&store, careless, options());
    runner.catch_up().await.expect("it runs");
    mended.store(true, Ordering::Relaxed);
    match runner.retry_parked(position(1)).await {
        Err(RetryError::ReadModel(ReadModelError::Unavailable(why))) => assert!(why.contains("aborted"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(runner.parked().await.expect("listed").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_has_not_run_yet_can_be_activated() {
    let server = postgres::server().await;
    let (_database, store) = world(&server).await;
    append(&store, [event(0)]).await;
    runner(&store, Ledger::new(1), options()).catch_up().await.expect("it runs");
    runner(&store, Ledger::new(2), options()).activate().await.expect("activated");
    assert_eq!(store.read_model().active_version("ledger").await, Ok(Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_first_versions_that_are_activated_at_once_the_later_one_is_active() {
    let server = postgres::server().await;
    let (_database, store) = world(&server).await;
    let model = store.read_model();
    let mut tx = model.begin(&id(1)).await.expect("begun");
    model.load(&mut tx).await.expect("loaded");
    model.activate(&mut tx).await.expect("nobody else is there");
    let second = runner(&store, Ledger::new(2), options());
    let second = tokio::spawn(async move { second.activate().await });
    sleep(Duration::from_millis(200)).await;
    model.commit(tx).await.expect("committed");
    second.await.expect("no panic").expect("activated");
    assert_eq!(model.active_version("ledger").await, Ok(Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_from_before_a_change_of_the_table_parks_nothing() {
    let server = postgres::server().await;
    let (database, store) = world(&server).await;
    append(&store, [event(0)]).await;
    let (model, look) = (store.read_model(), "SELECT * FROM sum_1");
    let mut transactions = Vec::new();
    for _ in 0..6 {
        let tx = model.begin(&id(1)).await.expect("begun");
        tx.query(look, &[]).await.expect("a row");
        transactions.push(tx);
    }
    for tx in transactions {
        model.commit(tx).await.expect("committed");
    }
    let client = database.connect().await.expect("a client");
    client.batch_execute("ALTER TABLE sum_1 ADD COLUMN of text").await.expect("altered");
    let runner =
        runner(&store, by(|tx, _| async { tx.query(look, &[]).await.map(drop) }.boxed()), options().attempts(1));
    runner.catch_up().await.expect("it runs");
    assert_eq!(runner.parked().await.expect("listed"), []);
    assert!(runner.stats().await.expect("known").model_failures > 0, "no connection had the plan");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_outlive_the_transactions_that_change_nothing() {
    let server = postgres::server().await;
    let (database, store) = world(&server).await;
    let client = database.connect().await.expect("a client");
    append(&store, [bad(0)]).await;
    let live = Ledger::new(1);
    live.mended.store(true, Ordering::Relaxed);
    runner(&store, live, options()).catch_up().await.expect("it runs");
    // It would take over, if nothing were parked.
    let rebuild = runner(&store, Ledger::new(2), options().activate_when_caught_up());
    let mut seen = std::collections::BTreeSet::new();
    let mut fresh = 0;
    for number in 1..=20 {
        append(&store, [event(number)]).await;
        rebuild.catch_up().await.expect("it runs");
        assert_eq!(rebuild.parked().await.expect("listed").len(), 1);
        rebuild.retry_parked(position(number + 1)).await.expect_err("not parked");
        let pids = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()";
        let pids: Vec<i32> = client.query(pids, &[]).await.expect("rows").iter().map(|row| row.get(0)).collect();
        let before = seen.len();
        seen.extend(pids);
        fresh = if number == 1 { 0 } else { fresh + seen.len() - before };
    }
    assert!(fresh < 3, "{fresh} new connections in 20 runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_the_server_cannot_hold_is_refused_before_it_is_asked() {
    let server = postgres::server().await;
    let (_database, store) = world(&server).await;
    let model = store.read_model();
    for (name, error) in [
        ("or\0der".to_owned(), NameError::Control { character: '\0' }),
        ("x".repeat(4_000), NameError::TooLong { bytes: 4_000 }),
    ] {
        let id = ProjectionId { name, version: 1 };
        assert_eq!(model.begin(&id).await.err(), Some(ReadModelError::Name(error.clone())));
        assert_eq!(model.remove(&id).await, Err(ReadModelError::Name(error.clone())));
        assert_eq!(model.active_version(&id.name).await, Err(ReadModelError::Name(error)));
    }
    let longest = ProjectionId { name: "ä".repeat(256), version: 1 };
    let mut tx = model.begin(&longest).await.expect("begun");
    model.load(&mut tx).await.expect("loaded");
    model.commit(tx).await.expect("committed");
}
