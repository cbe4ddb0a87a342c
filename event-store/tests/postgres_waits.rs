//! Who waits for what, and for how long.

mod postgres;
mod support;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ephemeral_postgres::{Direction, Proxy, Toxic, Upstream};
use event_store::{Append, AppendError, EventStore as _, PgOptions, PostgresStore, Subscribe};
use futures::future::join_all;
use support::{event, tag};
use tokio::time::{Instant, timeout};

const LONG: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_an_append_that_is_not_polled() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = Arc::new(postgres::store(&database).await);
    let mut unpolled = pin!(store.append(Append::events([event(0)])));
    assert!(futures::poll!(&mut unpolled).is_pending());
    timeout(LONG, store.append(Append::events([event(1)]))).await.expect("it has its turn").expect("it is free");
    let others = (2..50).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.append(Append::events([event(number)])).await })
    });
    for appended in timeout(LONG, join_all(others)).await.expect("they have their turn") {
        appended.expect("no panic").expect("it is free");
    }
    unpolled.await.expect("it is free");
    assert_eq!(store.verify().await.expect("it can be found out").faults, []);
    assert_eq!(store.statistics().await.expect("they can be counted").events, 50);
}

/// One connection more is enough for what a subscription and an append hold that are not polled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_not_polled_holds_one_connection() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let options = PgOptions::new().pool_timeout(Duration::from_millis(500)).notify(false);
    let store = PostgresStore::connect(postgres::pool(database.config(), 2), options).await.expect("it connects");
    store.migrate().await.expect("it migrates");
    let mut subscription = store.subscribe(Subscribe::from_start());
    let mut next = pin!(subscription.next());
    assert!(futures::poll!(&mut next).is_pending());
    store.append(Append::events([event(0)])).await.expect("there is another connection");

    let mut other = store.subscribe(Subscribe::from_start());
    let mut other_next = pin!(other.next());
    assert!(futures::poll!(&mut other_next).is_pending());
    let began = Instant::now();
    let refused = store.append(Append::events([event(1)])).await;
    assert!(
        matches!(&refused, Err(AppendError::Unavailable(why)) if why.contains("the pool gave no connection")),
        "{refused:?}"
    );
    assert!(began.elapsed() >= Duration::from_millis(500));
    assert!(next.await.is_some_and(|delivery| delivery.is_ok()));
    store.append(Append::events([event(1)])).await.expect("it is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown() {
    let server = postgres::server_with_port().await;
    let database = server.database().await.expect("a database");
    let tcp = database.tcp_config().expect("it listens");
    let proxy = Proxy::start(Upstream::of(tcp).expect("an address")).await.expect("a proxy");
    let patience = Duration::from_millis(600);
    let options = PgOptions::new().notify(false).lock_timeout(Duration::from_millis(300)).answer_timeout(patience);
    let store = PostgresStore::connect(postgres::pool(&proxy.config(tcp), 2), options).await.expect("it connects");
    store.migrate().await.expect("it migrates");
    store.append(Append::events([event(0)])).await.expect("it is free");

    let hole = proxy.add(Direction::Down, Toxic::BlackHole).expect("a toxic");
    let began = Instant::now();
    let lost = store.append(Append::events([event(1)])).await;
    assert!(matches!(&lost, Err(AppendError::Unknown(why)) if why.contains("no answer in 600ms")), "{lost:?}");
    assert!((patience..patience * 4).contains(&began.elapsed()), "{:?}", began.elapsed());
    let unread = store.head().await;
    assert!(unread.is_err(), "{unread:?}");
    proxy.remove(hole);
    proxy.reset_all();
    let told = loop {
        // Connections that the hole has swallowed are found out one after the other.
        match store.append(Append::events([event(1)])).await {
            Err(AppendError::Unknown(_) | AppendError::Unavailable(_)) if began.elapsed() < LONG => {}
            told => break told,
        }
    };
    assert!(told.expect("a repetition").deduplicated, "it was written behind the hole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_lets_its_callers_wait() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = Arc::new(postgres::store_with(&database, PgOptions::new().queue(2)).await);
    let mut client = database.connect().await.expect("a client");
    let holding = client.transaction().await.expect("a transaction");
    holding.execute("SELECT FROM es_head FOR UPDATE", &[]).await.expect("it holds the head");
    let appends: Vec<_> = (0..40)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.append(Append::events([event(number)])).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(appends.iter().all(|append| !append.is_finished()), "the head is held");
    holding.rollback().await.expect("it lets go");
    for appended in timeout(LONG, join_all(appends)).await.expect("all have their turn") {
        appended.expect("no panic").expect("it is free");
    }
    let head = store.head().await.expect("it reads");
    assert_eq!(head.map(|head| head.get()), Some(40));
    // Groups of two at most, beside those who found nobody at work.
    let client = database.connect().await.expect("a client");
    let row = client.query_one("SELECT count(DISTINCT xmin::text) FROM es_events", &[]).await.expect("it reads");
    assert!(row.get::<_, i64>(0) >= 20, "{}", row.get::<_, i64>(0));
}

/// What cannot be put into a message was not sent, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_count_for_the_size_of_an_append() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = postgres::store(&database).await;
    let long = |number: u64| tag(&format!("{number:0>512}"));
    let many = (0..2_000).map(long);
    let tagged = event(0).with_tags(many.collect());
    store.append(Append::events([tagged.clone()])).await.expect("2 MB are no trouble");
    let heavy = (1..300).map(|number| event(number).with_tags(tagged.tags.clone()));
    let refused = store.append(Append::events(heavy)).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");

    // Groups are as heavy as their names: each of these is a call of its own.
    let store = Arc::new(store);
    let mut client = database.connect().await.expect("a client");
    let holding = client.transaction().await.expect("a transaction");
    holding.execute("SELECT FROM es_head FOR UPDATE", &[]).await.expect("it holds the head");
    let appends: Vec<_> = (300..330)
        .map(|number| {
            let (store, tags) = (Arc::clone(&store), tagged.tags.clone());
            tokio::spawn(async move { store.append(Append::events([event(number).with_tags(tags)])).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    holding.rollback().await.expect("it lets go");
    for appended in timeout(LONG * 3, join_all(appends)).await.expect("all have their turn") {
        appended.expect("no panic").expect("it is free");
    }
    let row = client.query_one("SELECT count(DISTINCT xmin::text) FROM es_events", &[]).await.expect("it reads");
    // 2 MB each, 8 MiB a call, and one found nobody at work.
    assert!(row.get::<_, i64>(0) > 30 / 4, "{}", row.get::<_, i64>(0));
}
