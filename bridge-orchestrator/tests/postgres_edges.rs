//! What two things at once, an orderly end and ends of others leave of executions, with journals in PostgreSQL.

mod on_postgres;
mod waiting;

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bridge_orchestrator::{
    Conflict, Ctx, Engine, Error, ErrorCode, Filter, HandleError, Parked, StartOptions, StepError, Workflow,
    WorkflowError,
};
use event_store::deadpool_postgres::{Manager, Pool};
use event_store::tokio_postgres::{Client, NoTls};
use event_store::{Append, EventStore as _, EventType, ExpectedVersion, NewEvent, PgOptions, PostgresStore, StreamId};
use futures::future::{join_all, try_join, try_join_all};
use on_postgres::{LEASE, Store, count, database, engine, id, kinds, server, store};
use tokio::time::{Instant, sleep, timeout};
use waiting::{Runs, Waits};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[tokio::test]
async fn a_cancellation_from_another_process_behind_a_continue_as_new_ends_the_next_run() {
    let server = server().await;
    let database = database(&server).await;
    let (one, other) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Runs>().start().await.expect("starts");
    let second = engine(&other).register::<Runs>().start().await.expect("starts");
    let client = second.client();
    for round in 0..10 {
        let name = id(&format!("runs-{round}"));
        let started = first.client().start::<Runs>(name.clone(), &vec![], StartOptions::default()).await;
        let handle = started.expect("starts");
        // Signals behind its end may find it gone.
        let numbers: Vec<u32> = (0..5).collect();
        let signals = join_all(numbers.iter().map(|number| client.signal(&name, "number", number, None)));
        let (_, told) = tokio::join!(signals, client.cancel(&name));
        told.expect("is told");
        let ended = timeout(LONG, handle.result()).await.expect("ends");
        let is_cancelled = matches!(&ended, Err(HandleError::Failed(failure)) if failure.code == ErrorCode::Cancelled);
        assert!(is_cancelled, "round {round}: {ended:?}");
    }
}

/// How many leases of processes are valid.
async fn valid_leases(client: &Client) -> i64 {
    let statement = "SELECT count(*) FROM wf_lease WHERE expires_at > now() AND expires_at < 'infinity'";
    client.query_one(statement, &[]).await.expect("a row").get(0)
}

#[tokio::test]
async fn a_start_that_fails_or_is_given_up_leaves_no_lease_alive() {
    let server = server().await;
    let database = database(&server).await;
    let client = database.connect().await.expect("a client");
    let store = store(database.config()).await;
    let engine = || engine(&store).register::<Waits>();
    engine().start().await.expect("starts").shutdown(Duration::ZERO).await;
    client.batch_execute("ALTER TABLE es_events RENAME TO elsewhere").await.expect("is renamed");
    let failed = engine().start().await;
    assert!(matches!(failed, Err(Error::Read(_))), "{:?}", failed.map(|_| ()));
    client.batch_execute("ALTER TABLE elsewhere RENAME TO es_events").await.expect("is renamed");
    sleep(LEASE * 3).await;
    assert_eq!(valid_leases(&client).await, 0, "it is not renewed");

    let locking = database.connect().await.expect("a client");
    locking.batch_execute("BEGIN; LOCK TABLE es_events IN ACCESS EXCLUSIVE MODE").await.expect("is locked");
    let given_up = timeout(LEASE * 2, engine().start()).await;
    assert!(given_up.is_err(), "it reads for as long");
    locking.batch_execute("ROLLBACK").await.expect("is unlocked");
    sleep(LEASE * 3).await;
    assert_eq!(valid_leases(&client).await, 0, "it is not renewed");
}

#[tokio::test]
async fn a_stream_whose_name_is_no_executions_is_nothing_to_a_start() {
    let server = server().await;
    let database = database(&server).await;
    let store = store(database.config()).await;
    let event = NewEvent::new(EventType::new("workflow.started").expect("valid"), "{}");
    let stream = StreamId::new("workflow-").expect("valid");
    store.append(Append::stream(stream, ExpectedVersion::NoStream, [event])).await.expect("is appended");
    let engine = engine(&store).register::<Waits>().start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Waits>(id("waits"), &(), StartOptions::default()).await.expect("starts");
    client.signal(&id("waits"), "go", &3, None).await.expect("is told");
    assert_eq!(timeout(LONG, handle.result()).await, Ok(Ok(3)));
}

/// A transaction and a step at once.
struct Both;

impl Workflow for Both {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "both";

    async fn run(ctx: Ctx, (): ()) -> Result<(), WorkflowError> {
        let transaction = ctx.tx_step("transaction", |tx, _| {
            Box::pin(async move {
                tx.execute("SELECT pg_sleep(0.3)", &[]).await?;
                Ok(())
            })
        });
        let step = ctx.step("step", |_| async {
            sleep(millis(100)).await;
            Ok::<_, StepError>(())
        });
        try_join(transaction.into_future(), step.into_future()).await.map(|_| ())
    }
}

#[tokio::test]
async fn as_many_transactions_as_the_pool_has_connections_end() {
    let server = server().await;
    let database = database(&server).await;
    let (one, other) = (store(database.config()).await, store(database.config()).await);
    // With leases that are short, too: they are renewed meanwhile.
    let engine = engine(&one).register::<Both>().start().await.expect("starts");
    let client = engine.client();
    let names: Vec<_> = (0..8).map(|number| format!("both-{number}")).collect();
    let mut handles = Vec::new();
    for name in &names {
        handles.push(client.start::<Both>(id(name), &(), StartOptions::default()).await.expect("starts"));
    }
    let ended = timeout(LONG, join_all(handles.iter().map(|handle| handle.result()))).await.expect("in time");
    assert_eq!(ended, vec![Ok(()); 8]);
    for name in &names {
        let kinds = kinds(&other, name).await;
        assert_eq!((kinds.len(), count(&kinds, "step.completed")), (4, 2), "{kinds:?}");
    }
}

async fn store_of(database: &ephemeral_postgres::Database, connections: usize) -> Store {
    let config = database.config();
    let pool = Pool::builder(Manager::new(config.clone(), NoTls)).max_size(connections).build().expect("a pool");
    Arc::new(PostgresStore::connect(pool, PgOptions::new().listen(config.clone())).await.expect("it connects"))
}

#[tokio::test]
async fn a_pool_of_one_connection_is_refused_and_two_are_enough() {
    let server = server().await;
    let database = database(&server).await;
    let store = store_of(&database, 1).await;
    let refused = engine(&store).register::<Both>().start().await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{:?}", refused.map(|_| ()));

    let store = store_of(&database, 2).await;
    let engine = Engine::builder(Arc::clone(&store)).register::<Both>().start().await.expect("starts");
    let client = engine.client();
    let mut handles = Vec::new();
    for number in 0..3 {
        let name = id(&format!("both-{number}"));
        handles.push(client.start::<Both>(name, &(), StartOptions::default()).await.expect("starts"));
    }
    let ended = timeout(LONG, join_all(handles.iter().map(|handle| handle.result()))).await.expect("in time");
    assert_eq!(ended, vec![Ok(()); 3]);
}

static RAN: AtomicU32 = AtomicU32::new(0);

struct Child;

impl Workflow for Child {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "child";

    async fn run(ctx: Ctx, (): ()) -> Result<(), WorkflowError> {
        ctx.step("runs", |_| async { Ok::<_, StepError>(RAN.fetch_add(1, Ordering::SeqCst)) }).await.map(|_| ())
    }
}

/// Leaves a child behind.
struct Parent;

impl Workflow for Parent {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "parent";

    async fn run(ctx: Ctx, (): ()) -> Result<(), WorkflowError> {
        let child = ctx.child::<Child>(id("child"), &())?;
        let timer = ctx.sleep(millis(200));
        tokio::select! { biased; ended = child => ended, rung = timer => rung }
    }
}

#[tokio::test]
async fn what_is_parked_when_its_owner_ends_in_order_is_run_by_one_that_can() {
    let server = server().await;
    let database = database(&server).await;
    let (one, other) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Parent>().start().await.expect("starts");
    let second = engine(&other).register::<Child>().start().await.expect("starts");
    let handle = first.client().start::<Parent>(id("parent"), &(), StartOptions::default()).await.expect("starts");
    assert_eq!(timeout(LONG, handle.result()).await, Ok(Ok(())));
    let parked = first.client().list(&Filter::parked()).await.expect("needs no store");
    assert!(matches!(&parked[..], [one] if matches!(one.parked, Some(Parked::Unregistered { .. }))), "{parked:?}");
    first.shutdown(millis(1_000)).await;
    let ended = async {
        while !kinds(&other, "child").await.contains(&"completed".to_owned()) {
            sleep(LEASE / 4).await;
        }
    };
    timeout(LONG, ended).await.expect("the other runs it");
    assert_eq!(RAN.load(Ordering::SeqCst), 1);
    assert_eq!(timeout(LONG, second.client().handle::<Child>(&id("child")).result()).await, Ok(Ok(())));
}

/// Pays in a transaction that takes a while, and says whether it did; cleans up in any case.
struct Pays;

impl Workflow for Pays {
    type Input = ();
    type Output = bool;
    const TYPE: &'static str = "pays";

    async fn run(ctx: Ctx, (): ()) -> Result<bool, WorkflowError> {
        let paid = ctx.tx_step("pay", |tx, _| {
            Box::pin(async move {
                sleep(millis(400)).await;
                tx.execute("UPDATE account SET balance = balance + 1", &[]).await?;
                Ok(())
            })
        });
        let paid = paid.await;
        ctx.shield(async { ctx.step("clean up", |_| async { Ok::<_, StepError>(()) }).await }).await?;
        Ok(paid.is_ok())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transactional_step_that_was_answered_with_a_cancellation_is_not_committed() {
    let server = server().await;
    let database = database(&server).await;
    let mut account = database.connect().await.expect("a client");
    let table = "CREATE TABLE account (balance bigint NOT NULL); INSERT INTO account VALUES (0)";
    account.batch_execute(table).await.expect("a table");
    let store = store(database.config()).await;
    let engine = Engine::builder(Arc::clone(&store)).register::<Pays>().start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Pays>(id("pays"), &(), StartOptions::default()).await.expect("starts");
    sleep(millis(100)).await;
    // The cancellation waits for the head of the store; meanwhile the transaction is ready to be committed.
    let holds = account.transaction().await.expect("begins");
    holds.execute("SELECT FROM es_head FOR UPDATE", &[]).await.expect("is locked");
    let cancelled = tokio::spawn({
        let client = client.clone();
        async move { client.cancel(&id("pays")).await }
    });
    sleep(millis(700)).await;
    holds.rollback().await.expect("is unlocked");
    cancelled.await.expect("ends").expect("is told");
    let told = timeout(LONG, handle.result()).await.expect("ends").expect("completes");
    let balance: i64 = account.query_one("SELECT balance FROM account", &[]).await.expect("a row").get(0);
    assert_eq!((told, balance), (false, 0), "{:?}", kinds(&store, "pays").await);
    let expected = ["started", "cancel.requested", "step.completed", "completed"];
    assert_eq!(kinds(&store, "pays").await, expected);
}

/// Pays beside a step, and says whether it did.
struct PaysQuickly;

impl Workflow for PaysQuickly {
    type Input = ();
    type Output = bool;
    const TYPE: &'static str = "pays-quickly";

    async fn run(ctx: Ctx, (): ()) -> Result<bool, WorkflowError> {
        let pay = ctx.tx_step("pay", |tx, _| {
            Box::pin(async move {
                tx.execute("UPDATE account SET balance = balance + 1", &[]).await?;
                Ok(())
            })
        });
        let step = ctx.step("step", |_| async { Ok::<_, StepError>(()) });
        let (paid, _) = futures::future::join(pay.into_future(), step.into_future()).await;
        Ok(paid.is_ok())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_transactional_step_was_answered_is_what_was_committed_whenever_it_is_cancelled() {
    let server = server().await;
    let database = database(&server).await;
    let account = database.connect().await.expect("a client");
    let table = "CREATE TABLE account (balance bigint NOT NULL); INSERT INTO account VALUES (0)";
    account.batch_execute(table).await.expect("a table");
    let store = store(database.config()).await;
    let engine = Engine::builder(Arc::clone(&store)).register::<PaysQuickly>().start().await.expect("starts");
    let client = engine.client();
    let mut expected = 0;
    for round in 0..60 {
        let name = format!("pays-{round}");
        let started = client.start::<PaysQuickly>(id(&name), &(), StartOptions::default()).await;
        let handle = started.expect("starts");
        sleep(Duration::from_micros(100 * round)).await;
        match client.cancel(&id(&name)).await {
            Ok(()) | Err(Error::NotFound(_)) => {}
            other => panic!("{other:?}"),
        }
        match timeout(LONG, handle.result()).await.expect("ends") {
            Ok(was_paid) => expected += i64::from(was_paid),
            other => panic!("round {round}: {other:?}"),
        }
        let balance: i64 = account.query_one("SELECT balance FROM account", &[]).await.expect("a row").get(0);
        assert_eq!(balance, expected, "round {round}: {:?}", kinds(&store, &name).await);
    }
}

/// Steps with large values side by side.
struct Large;

impl Workflow for Large {
    type Input = usize;
    type Output = usize;
    const TYPE: &'static str = "large";

    async fn run(ctx: Ctx, steps: usize) -> Result<usize, WorkflowError> {
        let step = |_| {
            let step = ctx.step("large", |_| async {
                sleep(millis(300)).await;
                Ok::<_, StepError>("x".repeat((2 << 20) - 2))
            });
            step.into_future()
        };
        Ok(try_join_all((0..steps).map(step)).await?.iter().map(String::len).sum())
    }
}

#[tokio::test]
async fn steps_with_large_values_that_end_at_once_are_not_one_append() {
    let server = server().await;
    let database = database(&server).await;
    let store = store(database.config()).await;
    let engine = Engine::builder(Arc::clone(&store)).register::<Large>().start().await.expect("starts");
    let handle = engine.client().start::<Large>(id("large"), &40, StartOptions::default()).await.expect("starts");
    assert_eq!(timeout(LONG * 2, handle.result()).await, Ok(Ok(40 * ((2 << 20) - 2))));
    assert_eq!(count(&kinds(&store, "large").await, "step.completed"), 40);
}

/// Fails with a message of so many bytes.
struct Wordy;

impl Workflow for Wordy {
    type Input = usize;
    type Output = ();
    const TYPE: &'static str = "wordy";

    async fn run(ctx: Ctx, bytes: usize) -> Result<(), WorkflowError> {
        let step = ctx.step("wordy", move |_| async move { Err::<(), _>(StepError::terminal("x".repeat(bytes))) });
        step.await
    }
}

#[tokio::test]
async fn of_a_long_message_the_beginning_is_kept() {
    let server = server().await;
    let database = database(&server).await;
    let store = store(database.config()).await;
    let engine = Engine::builder(Arc::clone(&store)).register::<Wordy>().start().await.expect("starts");
    let client = engine.client();
    let handle = client.start::<Wordy>(id("wordy"), &(17 << 20), StartOptions::default()).await.expect("starts");
    let ended = timeout(LONG, handle.result()).await.expect("ends");
    let Err(HandleError::Failed(failure)) = ended else { panic!("it fails") };
    assert_eq!(failure.code, ErrorCode::OperationFailed);
    assert!(failure.message.starts_with("step wordy failed: OPERATION_FAILED: xxx"), "{}", &failure.message[..64]);
    assert!(failure.message.ends_with('…'));
    // What it is that failed stands before it.
    assert!(failure.message.len() <= (64 << 10) + 100, "{} bytes", failure.message.len());
    assert_eq!(kinds(&store, "wordy").await, ["started", "step.failed", "failed"]);
}

#[tokio::test]
async fn signals_from_another_process_around_a_continue_as_new_are_all_seen() {
    let server = server().await;
    let database = database(&server).await;
    let (one, other) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Runs>().start().await.expect("starts");
    let second = engine(&other).register::<Runs>().start().await.expect("starts");
    let (client, name) = (second.client(), id("runs"));
    let handle = first.client().start::<Runs>(name.clone(), &vec![], StartOptions::default()).await.expect("starts");
    let numbers: Vec<u32> = (0..20).collect();
    let told = join_all(numbers.iter().map(|number| client.signal(&name, "number", number, None))).await;
    assert_eq!(told, vec![Ok(()); 20]);
    client.signal(&name, "number", &99, None).await.expect("is told");
    let mut seen = timeout(LONG, handle.result()).await.expect("ends").expect("completes");
    seen.sort_unstable();
    assert_eq!(seen, numbers);
}

#[tokio::test]
async fn who_waits_elsewhere_for_one_that_is_removed_at_once_is_told_soon() {
    let server = server().await;
    let database = database(&server).await;
    let (one, other) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Waits>().retention(Duration::ZERO, 0).start().await.expect("starts");
    let second = engine(&other).register::<Waits>().start().await.expect("starts");
    for round in 0..5 {
        let name = id(&format!("waits-{round}"));
        first.client().start::<Waits>(name.clone(), &(), StartOptions::default()).await.expect("starts");
        let watcher = second.client().handle::<Waits>(&name);
        let asking = second.client();
        let (ended, told) = tokio::join!(timeout(LEASE * 25, watcher.result()), async {
            sleep(LEASE / 2).await;
            let told = first.client().signal(&name, "go", &round, None).await;
            // Whoever speaks to it meanwhile keeps nobody from being told.
            let until = Instant::now() + LEASE * 5;
            while Instant::now() < until {
                let _ = asking.signal(&name, "other", &0, None).await;
                sleep(LEASE / 10).await;
            }
            told
        });
        told.expect("is told");
        let is_told = match ended.expect("is told") {
            Ok(output) => output == round,
            // It was removed before it was read.
            Err(error) => matches!(error, HandleError::Engine(Error::NotFound(_))),
        };
        assert!(is_told);
    }
}

/// Awaits what is not its context's.
struct Foreign;

impl Workflow for Foreign {
    type Input = ();
    type Output = ();
    const TYPE: &'static str = "foreign";

    async fn run(_: Ctx, (): ()) -> Result<(), WorkflowError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_start_in_the_place_of_one_that_is_parked_elsewhere_says_so() {
    let server = server().await;
    let database = database(&server).await;
    let (one, other) = (store(database.config()).await, store(database.config()).await);
    let first = engine(&one).register::<Foreign>().start().await.expect("starts");
    let second = engine(&other).register::<Foreign>().start().await.expect("starts");
    first.client().start::<Foreign>(id("foreign"), &(), StartOptions::default()).await.expect("starts");
    while first.client().list(&Filter::parked()).await.expect("is listed").is_empty() {
        sleep(millis(5)).await;
    }
    let options = StartOptions::default().conflict(Conflict::Terminate);
    let client = second.client();
    let started = timeout(LONG, client.start::<Foreign>(id("foreign"), &(), options)).await.expect("is answered");
    assert!(matches!(started, Err(Error::Elsewhere(_))));
}
