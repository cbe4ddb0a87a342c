//! A query whose future is dropped is nobody else's burden: beside a plain pool, whose next user waits for it.

mod postgres;
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_store::deadpool_postgres::Pool;
use event_store::{Append, EventStore, ExpectedVersion, PgOptions, PostgresStore, Read};
use futures::StreamExt;
use support::{event, stream};
use tokio::time::timeout;

const QUERY: Duration = Duration::from_secs(2);

/// How long the pool's next user waits for its own answer.
async fn next_user(pool: &Pool) -> Duration {
    let began = Instant::now();
    let client = pool.get().await.expect("a connection");
    client.query_one("SELECT 1", &[]).await.expect("an answer");
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_user_of_the_pool_never_waits_for_a_query_that_was_given_up() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");

    // The control: the pool takes the connection back with the query running on it.
    let pool = postgres::pool(database.config(), 1);
    let client = pool.get().await.expect("a connection");
    let sleeping = format!("SELECT pg_sleep({})", QUERY.as_secs());
    timeout(Duration::from_millis(50), client.query_one(&sleeping, &[])).await.expect_err("it sleeps");
    drop(client);
    let waited = next_user(&pool).await;
    assert!(waited > QUERY / 2, "a plain pool lets its next user wait: {waited:?}");

    // The store: an append and a read that wait for a lock are given up.
    let pool = postgres::pool(database.config(), 1);
    let store = PostgresStore::connect(pool.clone(), PgOptions::new()).await.expect("it connects");
    store.migrate().await.expect("it migrates");
    let store = Arc::new(store);
    store.append(Append::events([event(0)])).await.expect("it is free");
    let mut client = database.connect().await.expect("a client");
    for given_up in ["append", "read", "removal"] {
        let holding = client.transaction().await.expect("a transaction");
        holding.batch_execute("LOCK TABLE es_head IN ACCESS EXCLUSIVE MODE").await.expect("the lock");
        let patience = Duration::from_millis(50);
        match given_up {
            "append" => {
                let append = Append::stream(stream("a"), ExpectedVersion::Any, [event(1)]);
                timeout(patience, store.append(append)).await.expect_err("it waits");
            }
            "read" => {
                let mut reading = Box::pin(store.read(Read::all()));
                assert!(timeout(patience, reading.next()).await.is_err(), "it waits");
            }
            _ => {
                timeout(patience, store.delete_stream(&stream("a"))).await.expect_err("it waits");
            }
        }
        let waited = next_user(&pool).await;
        assert!(waited < Duration::from_millis(500), "after an {given_up} was given up: {waited:?}");
        assert_eq!(pool.status().size, 1, "the pool has one connection again");
        // Nothing goes on at the server either.
        let began = Instant::now();
        let statement =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while holding.query_one(statement, &[]).await.expect("a count").get::<_, i64>(0) > 0 {
            assert!(began.elapsed() < Duration::from_secs(5), "the {given_up} still waits for its lock");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        holding.rollback().await.expect("it ends");
    }
    let events: Vec<_> = store.read(Read::all()).collect().await;
    assert_eq!(events.len(), 1, "what was cancelled has not happened");
}

/// Whoever leads a group may be dropped: those behind it get their verdicts, and the same ids tell what became of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_behind_one_that_was_given_up_go_on() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = Arc::new(postgres::store(&database).await);
    let mut client = database.connect().await.expect("a client");
    let holding = client.transaction().await.expect("a transaction");
    holding.execute("SELECT FROM es_head FOR UPDATE", &[]).await.expect("the head");
    let spawn = |number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.append(Append::events([event(number)])).await })
    };
    let leading = spawn(0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let behind: Vec<_> = (1..6).map(spawn).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    behind[2].abort();
    leading.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    holding.rollback().await.expect("it ends");
    for (number, append) in (1..).zip(behind) {
        match append.await {
            Ok(verdict) => drop(verdict.expect("the head is free")),
            Err(aborted) => assert!(aborted.is_cancelled() && number == 3),
        }
    }
    for number in 0..6 {
        store.append(Append::events([event(number)])).await.expect("new or a repetition");
    }
    let events: Vec<_> = store.read(Read::all()).map(|event| event.expect("it reads").id()).collect().await;
    assert_eq!(events.len(), 6);
    assert!((0..6).all(|number| events.contains(&event(number).id)));
}

/// Futures dropped at any moment: nothing breaks, nothing is there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_given_up_at_any_moment_can_be_repeated() {
    let appends = postgres::count("APPENDS", 300);
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = Arc::new(postgres::store(&database).await);
    let append =
        |number: u64| Append::stream(stream("a"), ExpectedVersion::Any, [event(number * 2), event(number * 2 + 1)]);
    let tasks: Vec<_> = (0..4_u64)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut given_up = 0;
                for number in (0..appends).filter(|number| number % 4 == task) {
                    // From at once to well after its answer.
                    let patience = Duration::from_micros(number * 7_919 % 3_000);
                    given_up += u64::from(timeout(patience, store.append(append(number))).await.is_err());
                }
                given_up
            })
        })
        .collect();
    let mut given_up = 0;
    for task in tasks {
        given_up += task.await.expect("no panic");
    }
    assert!(given_up > 0 && given_up < appends, "{given_up} of {appends} were given up");
    for number in 0..appends {
        store.append(append(number)).await.expect("new or a repetition");
    }
    let events: Vec<_> = store.read(Read::all()).map(|event| event.expect("it reads")).collect().await;
    assert_eq!(events.len() as u64, appends * 2);
    assert!(events.iter().zip(0..).all(|(event, version)| {
        event.position().get() == version + 1 && event.stream_version().is_some_and(|found| found.get() == version)
    }));
    let mut ids: Vec<_> = events.iter().map(|event| event.id()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len() as u64, appends * 2);
}
