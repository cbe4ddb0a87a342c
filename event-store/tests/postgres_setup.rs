//! Connecting, migrating, options.

mod postgres;
mod support;

use std::sync::Arc;
use std::time::Duration;

use event_store::{Append, AppendError, Delivery, EventStore, PgError, PgOptions, PostgresStore, Subscribe};
use futures::future::join_all;
use support::{event, position};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_processes_may_migrate_at_once() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let migrating = (0..8).map(|_| {
        let pool = postgres::pool(database.config(), 1);
        tokio::spawn(async move {
            let store = PostgresStore::connect(pool, PgOptions::new()).await.expect("it connects");
            store.migrate().await.expect("it migrates");
            store.migrate().await.expect("nothing is to do");
        })
    });
    join_all(migrating).await.into_iter().for_each(|task| task.expect("no panic"));
    let client = database.connect().await.expect("a client");
    let rows = client.query("SELECT version FROM es_schema", &[]).await.expect("it reads");
    assert_eq!(rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_a_later_version_are_refused() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = postgres::store(&database).await;
    let client = database.connect().await.expect("a client");
    client.execute("INSERT INTO es_schema (version) VALUES (1000)", &[]).await.expect("it inserts");
    let migrated = store.migrate().await;
    assert!(matches!(migrated, Err(PgError::NewerSchema { found: 1000, known: 1 })), "{migrated:?}");
    let connected = PostgresStore::connect(postgres::pool(database.config(), 1), PgOptions::new()).await;
    assert!(matches!(connected, Err(PgError::NewerSchema { found: 1000, .. })), "{connected:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_tables_refuses_and_says_why() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let pool = postgres::pool(database.config(), 2);
    let store = PostgresStore::connect(pool.clone(), PgOptions::new()).await.expect("it connects");
    let refused = store.append(Append::events([event(0)])).await;
    assert!(matches!(&refused, Err(AppendError::Unavailable(why)) if why.contains("es_append_1")), "{refused:?}");
    assert!(store.head().await.is_err());
    store.migrate().await.expect("it migrates");
    store.append(Append::events([event(0)])).await.expect("there are tables");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_outside_of_their_range_are_refused() {
    let server = postgres::server().await;
    let second = Duration::from_secs(1);
    let options = [
        ("lock_timeout", PgOptions::new().lock_timeout(Duration::ZERO)),
        ("answer_timeout", PgOptions::new().answer_timeout(second).lock_timeout(second)),
        ("pool_timeout", PgOptions::new().pool_timeout(second * 3_601)),
        ("poll_interval", PgOptions::new().poll_interval(Duration::ZERO)),
        ("queue", PgOptions::new().queue(0)),
        ("max_event_bytes", PgOptions::new().max_event_bytes(0)),
        ("max_append_bytes", PgOptions::new().max_append_bytes(1 << 30)),
    ];
    for (name, options) in options {
        let refused = PostgresStore::connect(postgres::pool(server.config(), 1), options).await;
        assert!(matches!(refused, Err(PgError::Option { option, .. }) if option == name), "{name}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_beyond_the_limits_is_refused_unsent() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = postgres::store_with(&database, PgOptions::new().max_event_bytes(10).max_append_bytes(25)).await;
    let sized = |number, bytes: usize| event(number).with_metadata(vec![0; bytes - number.to_string().len()]);
    let refused = store.append(Append::events([sized(0, 11)])).await;
    assert_eq!(refused, Err(AppendError::TooLarge { size: 11, limit: 10 }));
    let refused = store.append(Append::events([sized(0, 10), sized(1, 10), sized(2, 10)])).await;
    assert_eq!(refused, Err(AppendError::TooLarge { size: 30, limit: 25 }));
    store.append(Append::events([sized(0, 10), sized(1, 10)])).await.expect("it is small enough");
}

/// With a connection that listens, what another store appends is told within a fraction of the time that asking would take; and again
/// after the connection broke.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_wakes_the_subscriptions_of_another_store() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let writer = postgres::store_with(&database, PgOptions::new()).await;
    let listening = PgOptions::new().listen(database.config().clone()).poll_interval(Duration::from_secs(60));
    let reader = Arc::new(postgres::store_with(&database, listening).await);
    let mut subscription = reader.subscribe(Subscribe::from_start());
    assert_eq!(subscription.next().await, Some(Ok(Delivery::CaughtUp(None))));
    let client = database.connect().await.expect("a client");
    let mut number = 0;
    for round in 0..3 {
        let listeners = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()";
        // It sleeps, so somebody watches and listens.
        let pid = timeout(Duration::from_secs(20), async {
            loop {
                let _ = timeout(Duration::from_millis(20), subscription.next()).await;
                if let Some(row) = client.query_opt(listeners, &[]).await.expect("it reads") {
                    break row.get::<_, i32>(0);
                }
            }
        });
        let pid = pid.await.expect("somebody listens");
        for _ in 0..3 {
            // Longer than the pauses in which it asks after something has come.
            let _ = timeout(Duration::from_millis(1_200), subscription.next()).await;
            writer.append(Append::events([event(number)])).await.expect("it is free");
            number += 1;
            let delivered = timeout(Duration::from_millis(700), subscription.next()).await.expect("it is told");
            let Some(Ok(Delivery::Event(event))) = delivered else { panic!("{delivered:?}") };
            assert_eq!(event.position(), position(number));
            assert_eq!(subscription.next().await, Some(Ok(Delivery::CaughtUp(Some(position(number))))));
        }
        if round < 2 {
            server.terminate_backend(pid).await.expect("it listens");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_listening_connection_a_subscription_asks() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let writer = postgres::store_with(&database, PgOptions::new().notify(false)).await;
    let reader = postgres::store_with(&database, PgOptions::new().poll_interval(Duration::from_millis(50))).await;
    let mut subscription = reader.subscribe(Subscribe::from_start());
    assert_eq!(subscription.next().await, Some(Ok(Delivery::CaughtUp(None))));
    for number in 0..5 {
        let _ = timeout(Duration::from_millis(120), subscription.next()).await;
        writer.append(Append::events([event(number)])).await.expect("it is free");
        let delivered = timeout(Duration::from_secs(2), subscription.next()).await.expect("it asks");
        let Some(Ok(Delivery::Event(event))) = delivered else { panic!("{delivered:?}") };
        assert_eq!(event.position(), position(number + 1));
        assert_eq!(subscription.next().await, Some(Ok(Delivery::CaughtUp(Some(position(number + 1))))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_end_with_their_store() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = postgres::store(&database).await;
    let mut subscription = store.subscribe(Subscribe::from_start());
    assert_eq!(subscription.next().await, Some(Ok(Delivery::CaughtUp(None))));
    let ended = tokio::spawn(async move { subscription.next().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(store);
    let ended = timeout(Duration::from_secs(5), ended).await.expect("it ends").expect("no panic");
    assert_eq!(ended, None);
}
