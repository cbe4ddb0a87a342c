//! Subscriptions: what they are told, what they believe, and what they never leave out.

mod postgres;
mod support;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use event_store::{
    Append, Delivery, EventStore as _, EventType, NewEvent, PgOptions, PostgresStore, Read, ReadError, Subscribe,
    SubscribeError, Subscription, Upcasters, Upcasting,
};
use support::{event, events, kind, position};
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(10);

/// Positions of the events that come until the subscription has caught up, or what it says instead.
async fn until_caught_up(subscription: &mut Subscription) -> Result<Vec<u64>, SubscribeError> {
    let mut positions = Vec::new();
    loop {
        match timeout(LONG, subscription.next()).await.expect("in time").expect("it has not ended")? {
            Delivery::Event(event) => positions.push(event.position().get()),
            Delivery::CaughtUp(_) => return Ok(positions),
        }
    }
}

/// The server pages ahead of what an upcaster can read: what stands behind an event that it cannot is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_cannot_be_read_hides_none_behind_it() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = postgres::store(&database).await;
    for first in (0..3_000).step_by(500) {
        store.append(Append::events(events(first..first + 500))).await.expect("it is free");
    }
    // Each of these can be read when it is tried for the third time.
    let tries: Mutex<HashMap<u64, u32>> = Mutex::default();
    let upcasters = Upcasters::builder()
        .current(kind("Happened"), 2)
        .step(kind("Happened"), 1, 2, move |payload: &[u8]| {
            let number = String::from_utf8_lossy(payload).parse().expect("a number");
            if [299, 300, 1_777, 2_999].contains(&number) {
                let mut tries = tries.lock().expect("no panic");
                let count = tries.entry(number).or_default();
                *count += 1;
                if *count < 3 {
                    return Err("not yet".into());
                }
            }
            Ok(payload.to_vec())
        })
        .build()
        .expect("a graph");
    let store = Upcasting::new(store, upcasters);
    let mut subscription = store.subscribe(Subscribe::from_start());
    let (mut positions, mut failures) = (Vec::new(), Vec::new());
    while positions.len() < 3_000 {
        match timeout(LONG, subscription.next()).await.expect("in time").expect("it has not ended") {
            Ok(Delivery::Event(event)) => positions.push(event.position().get()),
            Ok(Delivery::CaughtUp(_)) => {}
            Err(SubscribeError::Read(ReadError::Upcast { position, .. })) => failures.push(position.get()),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(positions.iter().copied().eq(1..=3_000), "each once, in order");
    failures.dedup();
    assert_eq!(failures, [300, 301, 1_778, 3_000]);
}

/// A database that was restored to an earlier state under a live subscription is an error, whoever notices it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_goes_back_ends_a_subscription_with_an_error() {
    let server = postgres::server().await;
    for (writes_on, options) in [
        (false, PgOptions::new().notify(false)),
        (true, PgOptions::new().notify(false)),
        (false, PgOptions::new().poll_interval(Duration::from_millis(20))),
    ] {
        let database = server.database().await.expect("a database");
        let store = postgres::store_with(&database, options).await;
        store.append(Append::events(events(0..10))).await.expect("it is free");
        let mut subscription = store.subscribe(Subscribe::from_start());
        assert_eq!(until_caught_up(&mut subscription).await.expect("nothing is wrong").len(), 10);
        let client = database.connect().await.expect("a client");
        let restore = "DELETE FROM es_events WHERE position > 5; UPDATE es_head SET position = 5";
        client.batch_execute(restore).await.expect("it goes back");
        if writes_on {
            store.append(Append::events(events(100..103))).await.expect("it is free");
        }
        let told = timeout(LONG, subscription.next()).await.expect("in time");
        let Some(Err(SubscribeError::BeyondHead { cursor, head: Some(head) })) = told else { panic!("{told:?}") };
        assert_eq!(cursor, position(10));
        assert!(head < cursor, "{head}");
        assert_eq!(subscription.next().await, None);
    }
}

/// A notification is a reason to ask once: whatever it says, and whoever sends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_somebody_makes_up_is_not_believed() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = postgres::store(&database).await;
    let first = store.append(Append::events([event(0)])).await.expect("it is free");
    let mut subscription = store.subscribe(Subscribe::from_start());
    assert_eq!(until_caught_up(&mut subscription).await.expect("nothing is wrong"), [1]);
    let mut sleeping = tokio::spawn(async move {
        let next = subscription.next().await;
        (subscription, next)
    });
    let client = database.connect().await.expect("a client");
    postgres::until_somebody_listens(&database).await;
    for made_up in ["9223372036854775807", "18446744073709551615", "nonsense", "-1"] {
        let notify = format!("SELECT pg_notify('es_' || 'es_head'::regclass::oid, '{made_up}')");
        client.execute(&notify, &[]).await.expect("anybody may");
    }
    store.announce(&first);
    sleep(Duration::from_millis(300)).await;
    let transactions =
        "SELECT pg_stat_force_next_flush(), xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let before: i64 = client.query_one(transactions, &[]).await.expect("it reads").get(1);
    sleep(Duration::from_millis(1_500)).await;
    let after: i64 = client.query_one(transactions, &[]).await.expect("it reads").get(1);
    assert!(after - before < 60, "{} transactions while nothing happens", after - before);
    assert!(!sleeping.is_finished());

    // And what is true still wakes it.
    let other =
        PostgresStore::connect(postgres::pool(database.config(), 2), PgOptions::new()).await.expect("it connects");
    other.append(Append::events([event(1)])).await.expect("it is free");
    let (_, next) = timeout(LONG, &mut sleeping).await.expect("in time").expect("no panic");
    assert!(matches!(&next, Some(Ok(Delivery::Event(event))) if event.position() == position(2)), "{next:?}");
}

/// Pages of large events end early, and nothing is left out where they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_large_events_end_early_and_leave_nothing_out() {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = postgres::store(&database).await;
    let large = |number: u64| {
        let event_type: EventType = kind("Large");
        NewEvent::new(event_type, vec![number as u8; 3 << 20])
    };
    for first in (0..12).step_by(4) {
        store.append(Append::events((first..first + 4).map(large))).await.expect("it is free");
        store.append(Append::events(events(first * 10..first * 10 + 10))).await.expect("it is free");
    }
    let mut subscription = store.subscribe(Subscribe::from_start());
    let positions = until_caught_up(&mut subscription).await.expect("nothing is wrong");
    assert!(positions.iter().copied().eq(1..=42), "{positions:?}");
    for read in [Read::all(), Read::all().backwards()] {
        let mut reading = std::pin::pin!(store.read(read));
        let (mut count, mut bytes) = (0, 0);
        while let Some(event) = futures::StreamExt::next(&mut reading).await {
            count += 1;
            bytes += event.expect("it is read").payload().len();
        }
        assert!(count == 42 && bytes > 12 * (3 << 20), "{count} events of {bytes} bytes");
    }
}
