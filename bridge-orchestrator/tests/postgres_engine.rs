//! Engines on PostgreSQL: one append a step, steps inside of transactions, and several engines on one store.

mod on_postgres;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bridge_orchestrator::{
    Boundary, Conflict, Ctx, Error, ErrorCode, HandleError, RetryPolicy, StartOptions, StepError, Workflow,
    WorkflowError, WorkflowState,
};
use event_store::{EventStore as _, MemoryStore};
use on_postgres::{LEASE, count, database, engine, id, kinds, server, store};

/// Three steps.
struct Three;

impl Workflow for Three {
    type Input = u32;
    type Output = u32;
    const TYPE: &'static str = "three";

    async fn run(ctx: Ctx, mut number: u32) -> Result<u32, WorkflowError> {
        for _ in 0..3 {
            number = ctx.step("add", move |_| async move { Ok::<_, StepError>(number + 1) }).await?;
        }
        Ok(number)
    }
}

/// Waits for an answer, and says what it was.
struct Asks;

impl Workflow for Asks {
    type Input = ();
    type Output = Vec<u32>;
    const TYPE: &'static str = "asks";

    async fn run(ctx: Ctx, (): ()) -> Result<Vec<u32>, WorkflowError> {
        let mut answers = Vec::new();
        ctx.expose("answers", &answers)?;
        for _ in 0..3 {
            answers.push(ctx.signal::<u32>("answer").await?);
            ctx.expose("answers", &answers)?;
        }
        Ok(answers)
    }
}

/// Moves money in a transaction, in as many attempts as its input says.
struct Moves;

impl Workflow for Moves {
    type Input = (i64, u16);
    type Output = i64;
    const TYPE: &'static str = "moves";

    async fn run(ctx: Ctx, (amount, attempts): (i64, u16)) -> Result<i64, WorkflowError> {
        let moved = ctx.tx_step("move", move |tx, attempt| {
            Box::pin(async move {
                let statement = "UPDATE account SET balance = balance + $1 RETURNING balance";
                let balance = tx.query_one(statement, &[&amount]).await?.get(0);
                if attempt.number() < attempts {
                    return Err(StepError::retryable("not yet"));
                }
                Ok(balance)
            })
        });
        moved.retry(quick()).await
    }
}

fn quick() -> RetryPolicy {
    RetryPolicy::DEFAULT.initial(Duration::from_millis(1))
}

async fn accounts(database: &ephemeral_postgres::Database) -> event_store::tokio_postgres::Client {
    let client = database.connect().await.expect("a client");
    client
        .batch_execute("CREATE TABLE account (balance bigint NOT NULL); INSERT INTO account VALUES (0)")
        .await
        .expect("a table");
    client
}

async fn balance(client: &event_store::tokio_postgres::Client) -> i64 {
    client.query_one("SELECT balance FROM account", &[]).await.expect("a row").get(0)
}

#[tokio::test]
async fn start_three_steps_and_end_are_four_appends_on_postgresql_too() {
    let server = server().await;
    let database = database(&server).await;
    let store = store(database.config()).await;
    let appends = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&appends);
    let counts = move |at| {
        counted.fetch_add(u32::from(at == Boundary::BeforeAppend), Ordering::SeqCst);
    };
    let engine = engine(&store).register::<Three>().at_boundaries(counts).start().await.expect("starts");
    let before = store.head().await.expect("a head").map_or(0, |head| head.get());
    let handle = engine.client().start::<Three>(id("t"), &1, StartOptions::default()).await.expect("starts");
    assert_eq!(handle.result().await.expect("ends"), 4);
    let kinds = kinds(&store, "t").await;
    assert_eq!(kinds, ["started", "step.completed", "step.completed", "step.completed", "completed"]);
    assert_eq!(store.head().await.expect("a head").map_or(0, |head| head.get()) - before, 5);
    // Each of which is one round trip: a call of a function.
    assert_eq!(appends.load(Ordering::SeqCst), 4);
    engine.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn what_a_transactional_step_does_and_its_record_are_committed_together() {
    let server = server().await;
    let database = database(&server).await;
    let client = accounts(&database).await;
    let store = store(database.config()).await;
    let engine = engine(&store).register::<Moves>().start().await.expect("starts");
    let handle = engine.client().start::<Moves>(id("m"), &(7, 3), StartOptions::default()).await.expect("starts");
    assert_eq!(handle.result().await.expect("ends"), 7);
    assert_eq!(balance(&client).await, 7, "two attempts were rolled back");
    let kinds = kinds(&store, "m").await;
    assert_eq!(kinds, ["started", "attempt.failed", "attempt.failed", "step.completed", "completed"]);
    engine.shutdown(Duration::from_secs(1)).await;
}

/// Inserts what a deferred constraint refuses at the commit, the first time.
struct Deferred;

impl Workflow for Deferred {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "deferred";

    async fn run(ctx: Ctx, (): ()) -> Result<(), WorkflowError> {
        let step = ctx.tx_step("insert", |tx, attempt| {
            Box::pin(async move {
                let number = i64::from(attempt.number().min(2));
                tx.execute("INSERT INTO part VALUES ($1)", &[&number]).await?;
                Ok(())
            })
        });
        step.retry(quick()).await
    }
}

#[tokio::test]
async fn a_commit_that_the_server_refuses_is_a_failed_attempt_of_which_nothing_is_left() {
    let server = server().await;
    let database = database(&server).await;
    let client = database.connect().await.expect("a client");
    let tables = "CREATE TABLE whole (id bigint PRIMARY KEY); INSERT INTO whole VALUES (2);
        CREATE TABLE part (whole bigint REFERENCES whole DEFERRABLE INITIALLY DEFERRED)";
    client.batch_execute(tables).await.expect("tables");
    let store = store(database.config()).await;
    let engine = engine(&store).register::<Deferred>().start().await.expect("starts");
    let handle = engine.client().start::<Deferred>(id("d"), &(), StartOptions::default()).await.expect("starts");
    handle.result().await.expect("ends");
    let parts: i64 = client.query_one("SELECT sum(whole)::bigint FROM part", &[]).await.expect("a row").get(0);
    assert_eq!(parts, 2);
    assert_eq!(kinds(&store, "d").await, ["started", "attempt.failed", "step.completed", "completed"]);
    engine.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn in_memory_a_transactional_step_is_unsupported_and_not_tried_again() {
    let engine = bridge_orchestrator::Engine::builder(MemoryStore::new()).register::<Moves>().start().await;
    let engine = engine.expect("starts");
    let handle = engine.client().start::<Moves>(id("m"), &(7, 1), StartOptions::default()).await.expect("starts");
    let Err(HandleError::Failed(failure)) = handle.result().await else { panic!("it fails") };
    assert_eq!(failure.code, ErrorCode::Unsupported);
}

#[tokio::test]
async fn an_engine_leaves_alone_what_a_living_one_owns_and_speaks_to_it_all_the_same() {
    let server = server().await;
    let database = database(&server).await;
    let (one, two) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Asks>().start().await.expect("starts");
    let here = first.client().start::<Asks>(id("a"), &(), StartOptions::default()).await.expect("starts");
    let second = engine(&two).register::<Asks>().start().await.expect("starts");
    let there = second.client();
    let conflict = there.start::<Asks>(id("a"), &(), StartOptions::default()).await;
    assert!(matches!(conflict, Err(Error::AlreadyExists(_))), "{conflict:?}");
    let existing = StartOptions::default().conflict(Conflict::UseExisting);
    let there_handle = there.start::<Asks>(id("a"), &(), existing).await.expect("exists");

    there.signal(&id("a"), "answer", &1, Some("one")).await.expect("left");
    there.signal(&id("a"), "answer", &1, Some("one")).await.expect("left once");
    there.signal(&id("a"), "answer", &2, None).await.expect("left");
    let shown = async {
        while first.client().query::<Vec<u32>>(&id("a"), "answers").await.expect("shown") != Some(vec![1, 2]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), shown).await.expect("both came, in order, once");
    let asked = there.query::<Vec<u32>>(&id("a"), "answers").await;
    assert_eq!(asked, Err(Error::Elsewhere(id("a"))));
    // The same signal again, by the owner: it knows it.
    first.client().signal(&id("a"), "answer", &1, Some("one")).await.expect("known");
    // Longer than a lease: who renews it keeps what it owns.
    tokio::time::sleep(LEASE * 3).await;
    there.signal(&id("a"), "answer", &3, None).await.expect("left");
    assert_eq!(here.result().await.expect("ends"), [1, 2, 3]);
    assert_eq!(there_handle.result().await.expect("ends here, too"), [1, 2, 3]);
    assert_eq!(count(&kinds(&one, "a").await, "claimed"), 0);

    // What it starts itself is its own.
    let own = there.start::<Asks>(id("b"), &(), StartOptions::default()).await.expect("starts");
    first.client().cancel(&id("b")).await.expect("left");
    let Err(HandleError::Failed(failure)) = own.result().await else { panic!("it is cancelled") };
    assert_eq!(failure.code, ErrorCode::Cancelled);
    let replaced = there.start::<Asks>(id("c"), &(), StartOptions::default()).await.expect("starts");
    let instead = StartOptions::default().conflict(Conflict::Terminate);
    let next = first.client().start::<Asks>(id("c"), &(), instead).await.expect("starts instead");
    assert!(replaced.result().await.is_err());
    assert_eq!(next.state(), WorkflowState::Processing);
    second.shutdown(Duration::from_secs(1)).await;
    first.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn what_an_engine_lets_go_is_taken_over_at_once() {
    let server = server().await;
    let database = database(&server).await;
    let (one, two) = (store(database.config()).await, store(database.config()).await);
    // A lease that nobody would wait for.
    let long = Duration::from_secs(6);
    let first = engine(&one).lease(long).register::<Asks>().start().await.expect("starts");
    first.client().start::<Asks>(id("a"), &(), StartOptions::default()).await.expect("starts");
    let second = engine(&two).lease(long).register::<Asks>().start().await.expect("starts");
    let there = second.client().handle::<Asks>(&id("a"));
    let began = Instant::now();
    assert_eq!(first.shutdown(Duration::from_secs(1)).await, 1);
    for answer in 1..=3 {
        second.client().signal(&id("a"), "answer", &answer, None).await.expect("told");
    }
    assert_eq!(there.result().await.expect("ends"), [1, 2, 3]);
    assert!(began.elapsed() < long, "{:?}", began.elapsed());
    second.shutdown(Duration::from_secs(1)).await;
}

/// Runs an engine that dies with its runtime, with an execution that waits for answers.
fn dies_with(config: &event_store::tokio_postgres::Config, execution: &str) {
    let (config, execution) = (config.clone(), id(execution));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let store = store(&config).await;
            let engine = engine(&store).register::<Asks>().start().await.expect("starts");
            engine.client().start::<Asks>(execution.clone(), &(), StartOptions::default()).await.expect("starts");
            engine.client().signal(&execution, "answer", &1, None).await.expect("told");
        });
        runtime.shutdown_background();
    })
    .join()
    .expect("it dies in order");
}

#[tokio::test]
async fn what_a_dead_process_owned_is_taken_over_when_its_lease_has_run_out() {
    let server = server().await;
    let database = database(&server).await;
    let store = store(database.config()).await;
    let engine = engine(&store).register::<Asks>().start().await.expect("starts");
    dies_with(database.config(), "a");
    // Asked for while nobody has it: it is left in the inbox.
    engine.client().signal(&id("a"), "answer", &2, None).await.expect("left");
    let handle = engine.client().handle::<Asks>(&id("a"));
    engine.client().signal(&id("a"), "answer", &3, None).await.expect("left");
    let ended = tokio::time::timeout(Duration::from_secs(10), handle.result()).await.expect("in time");
    assert_eq!(ended.expect("ends"), [1, 2, 3]);
    assert_eq!(count(&kinds(&store, "a").await, "claimed"), 1);
    let client = database.connect().await.expect("a client");
    let leases = async {
        while client.query_one("SELECT count(*) FROM wf_lease", &[]).await.expect("a row").get::<_, i64>(0) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), leases).await.expect("the dead one's lease is removed");
    engine.shutdown(Duration::from_secs(1)).await;
}

/// Moves the clock that leases go by.
async fn set_clock(client: &event_store::tokio_postgres::Client, hours: i32) {
    let statement = format!(
        "CREATE OR REPLACE FUNCTION wf_now() RETURNS timestamptz LANGUAGE sql VOLATILE
         AS 'SELECT clock_timestamp() + interval ''{hours} hours'''"
    );
    client.batch_execute(&statement).await.expect("a function");
}

#[tokio::test]
async fn a_clock_that_jumps_kills_nobody_and_keeps_nobody_alive() {
    let server = server().await;
    let database = database(&server).await;
    let client = database.connect().await.expect("a client");
    let (one, two) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Asks>().start().await.expect("starts");
    let here = first.client().start::<Asks>(id("a"), &(), StartOptions::default()).await.expect("starts");
    let second = engine(&two).register::<Asks>().start().await.expect("starts");
    for hours in [1, 0, -1, 0] {
        set_clock(&client, hours).await;
        tokio::time::sleep(LEASE * 3).await;
    }
    for answer in 1..=3 {
        second.client().signal(&id("a"), "answer", &answer, None).await.expect("left");
    }
    assert_eq!(here.result().await.expect("ends"), [1, 2, 3]);
    assert_eq!(count(&kinds(&one, "a").await, "claimed"), 0, "it was never anybody else's");

    // One dies, and its lease seems to run for another hour.
    dies_with(database.config(), "b");
    set_clock(&client, -1).await;
    let handle = second.client().handle::<Asks>(&id("b"));
    for answer in 2..=3 {
        second.client().signal(&id("b"), "answer", &answer, None).await.expect("left");
    }
    let ended = tokio::time::timeout(Duration::from_secs(10), handle.result()).await.expect("in time");
    assert_eq!(ended.expect("ends"), [1, 2, 3]);
    second.shutdown(Duration::from_secs(1)).await;
    first.shutdown(Duration::from_secs(1)).await;
}

static RUNS: AtomicU32 = AtomicU32::new(0);

/// One that not every process can run.
struct Rare;

impl Workflow for Rare {
    type Input = ();
    type Output = u32;
    const TYPE: &'static str = "rare";

    async fn run(ctx: Ctx, (): ()) -> Result<u32, WorkflowError> {
        ctx.signal::<()>("go").await?;
        ctx.step("run", |_| async { Ok::<_, StepError>(RUNS.fetch_add(1, Ordering::SeqCst)) }).await
    }
}

#[tokio::test]
async fn what_the_one_that_takes_over_cannot_run_is_left_to_one_that_can() {
    let server = server().await;
    let database = database(&server).await;
    let stores = [store(database.config()).await, store(database.config()).await, store(database.config()).await];
    let owner = engine(&stores[0]).register::<Rare>().start().await.expect("starts");
    owner.client().start::<Rare>(id("r"), &(), StartOptions::default()).await.expect("starts");
    let cannot = engine(&stores[1]).register::<Asks>().start().await.expect("starts");
    owner.shutdown(Duration::from_secs(1)).await;
    tokio::time::sleep(LEASE * 3).await;
    assert_eq!(count(&kinds(&stores[1], "r").await, "claimed"), 0, "it burns no attempt");
    let can = engine(&stores[2]).register::<Rare>().start().await.expect("starts");
    can.client().signal(&id("r"), "go", &(), None).await.expect("told");
    let handle = can.client().handle::<Rare>(&id("r"));
    let ended = tokio::time::timeout(Duration::from_secs(10), handle.result()).await.expect("in time");
    assert_eq!(ended.expect("ends"), 0);
    can.shutdown(Duration::from_secs(1)).await;
    cannot.shutdown(Duration::from_secs(1)).await;
}
