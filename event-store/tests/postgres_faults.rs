//! What is told when answers are lost, connections end and servers go: what was acknowledged is there, nothing is there twice, and
//! `Unavailable` means that nothing happened.

mod postgres;
mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ephemeral_postgres::{Database, Direction, Profile, Proxy, Server, StopMode, Toxic, Upstream};
use event_store::{
    Append, AppendError, EventId, EventStore, ExpectedVersion, NewEvent, PgOptions, PostgresStore, Read,
};
use futures::StreamExt;
use futures::future::join_all;
use support::{event, kind, position, stream, tag};

/// Commits reach the system before they are acknowledged, so that they outlive the server's processes.
async fn server() -> Server {
    let server = Server::builder().profile(Profile::Fast).setting("synchronous_commit", "on");
    server.setting("deadlock_timeout", "500ms").start().await.expect("a server")
}

async fn count(database: &Database) -> i64 {
    let client = database.connect().await.expect("a client");
    client.query_one("SELECT count(*) FROM es_events", &[]).await.expect("a count").get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_behind_the_commit_is_unknown_and_a_repetition_tells() {
    let server = server().await;
    let database = server.database().await.expect("a database");
    postgres::store(&database).await;
    let tcp = database.tcp_config().expect("it listens");
    let proxy = Proxy::start(Upstream::of(tcp).expect("an address")).await.expect("a proxy");
    let pool = postgres::pool(&proxy.config(tcp), 1);
    let store = PostgresStore::connect(pool, PgOptions::new().notify(false)).await.expect("it connects");
    let store = Arc::new(store);
    store.append(Append::events([event(0)])).await.expect("it is free");

    let append = || Append::stream(stream("a"), ExpectedVersion::NoStream, [event(1), event(2)]);
    let cut = proxy.add(Direction::Down, Toxic::LimitData { bytes: 0 }).expect("a toxic");
    let lost = store.append(append()).await;
    assert!(matches!(lost, Err(AppendError::Unknown(_))), "{lost:?}");
    assert!(!lost.expect_err("no answer").is_definite());
    proxy.remove(cut);
    assert!(proxy.counts().cuts > 0, "the fault was felt");
    assert_eq!(count(&database).await, 3, "it was committed");

    let other = Append::stream(stream("a"), ExpectedVersion::NoStream, [event(1), event(3)]);
    let refused = store.append(other).await;
    assert_eq!(refused, Err(AppendError::DuplicateEventId { id: event(1).id, position: position(2) }));
    let again = store.append(append()).await.expect("a repetition");
    assert!(again.deduplicated);
    assert_eq!(again.positions, Some((position(2), position(3))));
    assert_eq!(count(&database).await, 3);

    // The same for a group, and for calls that do not arrive.
    for (direction, numbers) in [(Direction::Down, 10..20), (Direction::Up, 20..30)] {
        let cuts = proxy.counts().cuts;
        let cut = proxy.add(direction, Toxic::LimitData { bytes: 0 }).expect("a toxic");
        let appends = numbers.clone().map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.append(Append::events([event(number)])).await })
        });
        let verdicts = join_all(appends).await;
        proxy.remove(cut);
        assert!(proxy.counts().cuts > cuts, "the fault was felt");
        for verdict in verdicts {
            let verdict = verdict.expect("no panic");
            assert!(matches!(verdict, Err(AppendError::Unknown(_) | AppendError::Unavailable(_))), "{verdict:?}");
        }
        for number in numbers {
            store.append(Append::events([event(number)])).await.expect("new or a repetition");
        }
    }
    assert_eq!(count(&database).await, 23, "each once");
}

/// What became of one append, in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    /// Told that nothing happened, and given up.
    Refused,
}

/// Appends by 12 tasks while `disturb` does harm, and holds what they were told against what is there.
async fn under_load(database: &Database, disturb: impl Future<Output = ()>) -> (u64, u64, u64) {
    let options = PgOptions::new().pool_timeout(Duration::from_secs(2));
    let store = Arc::new(postgres::store_with(database, options).await);
    let done = Arc::new(AtomicBool::new(false));
    let unknown = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..12_u64)
        .map(|task| {
            let (store, done, unknown) = (Arc::clone(&store), Arc::clone(&done), Arc::clone(&unknown));
            tokio::spawn(async move {
                let mut fates = HashMap::new();
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    let id = EventId::from_u128(u128::from(task) << 64 | number);
                    let new = NewEvent::with_given_id(id, kind("Happened"), number.to_string());
                    let append = Append::stream(stream(&format!("task-{task}")), ExpectedVersion::Any, [new]);
                    let mut is_in_doubt = false;
                    let fate = loop {
                        match store.append(append.clone()).await {
                            Ok(_) => break Fate::Acknowledged,
                            Err(AppendError::Unknown(_)) => {
                                unknown.fetch_add(1, Ordering::Relaxed);
                                is_in_doubt = true;
                            }
                            // Who knows that nothing happened takes it at its word; who does not goes on until an answer comes.
                            Err(AppendError::Unavailable(_)) if !is_in_doubt => {
                                tokio::time::sleep(Duration::from_millis(5)).await;
                                break Fate::Refused;
                            }
                            Err(AppendError::Unavailable(_)) => {}
                            Err(other) => panic!("{other}"),
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    };
                    fates.insert(id, fate);
                    number += 1;
                    // Some are in the middle of an append when harm is done, and some are about to begin one.
                    if task % 2 == 0 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                fates
            })
        })
        .collect();
    disturb.await;
    done.store(true, Ordering::Relaxed);
    let mut fates = HashMap::new();
    for task in tasks {
        fates.extend(task.await.expect("no panic"));
    }
    let mut seen = HashMap::new();
    let mut versions: HashMap<String, u64> = HashMap::new();
    let mut events = std::pin::pin!(store.read(Read::all()));
    let mut next = 1;
    while let Some(event) = events.next().await {
        let event = event.expect("it reads");
        assert_eq!(event.position().get(), next, "positions are dense");
        next += 1;
        let (stream, version) = event.stream().expect("each has a stream");
        let expected = versions.entry(stream.to_string()).or_default();
        assert_eq!(version.get(), *expected, "versions are dense");
        *expected += 1;
        assert!(seen.insert(event.id(), ()).is_none(), "twice");
    }
    for (id, fate) in &fates {
        let is_there = seen.contains_key(id);
        match fate {
            Fate::Acknowledged => assert!(is_there, "an acknowledged event is lost"),
            Fate::Refused => assert!(!is_there, "a refused event is there"),
        }
    }
    assert!(seen.keys().all(|id| fates.contains_key(id)), "an event that nobody appended");
    let refused = fates.values().filter(|fate| **fate == Fate::Refused).count();
    (seen.len() as u64, refused as u64, unknown.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_end_under_load_lose_nothing_and_repeat_nothing() {
    let rounds = postgres::count("TERMINATIONS", 15);
    let server = server().await;
    let database = server.database().await.expect("a database");
    let client = database.connect().await.expect("a client");
    let (events, refused, unknown) = under_load(&database, async {
        let mut ended = 0;
        for _ in 0..rounds {
            tokio::time::sleep(Duration::from_millis(60)).await;
            let statement = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
            ended += client.query_one(statement, &[]).await.expect("a count").get::<_, i64>(0);
        }
        assert!(ended > 0, "the fault was felt");
        tokio::time::sleep(Duration::from_millis(100)).await;
    })
    .await;
    eprintln!("{events} events, {refused} refused, {unknown} unknown outcomes");
    assert!(events > 50 && unknown > 0);
}

/// `RESTARTS=20` for the full count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_lose_nothing_and_repeat_nothing() {
    let restarts = postgres::count("RESTARTS", 3);
    let server = server().await;
    let database = server.database().await.expect("a database");
    let (events, refused, unknown) = under_load(&database, async {
        for restart in 0..restarts {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let mode = if restart % 2 == 0 { StopMode::Immediate } else { StopMode::Fast };
            server.restart(mode).await.expect("it comes back");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    })
    .await;
    eprintln!("{events} events, {refused} refused, {unknown} unknown outcomes in {restarts} restarts");
    assert!(events > 50 && refused > 0 && unknown > 0);
}

/// A trigger that gives the transaction up so often.
async fn give_up(database: &Database, code: &str, times: u32) -> tokio_postgres::Client {
    let client = database.connect().await.expect("a client");
    let trigger = format!(
        "CREATE SEQUENCE tries; CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF nextval('tries') <= {times} THEN RAISE EXCEPTION 'given up' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER give_up BEFORE INSERT ON es_events FOR EACH ROW EXECUTE FUNCTION give_up()"
    );
    client.batch_execute(&trigger).await.expect("a trigger");
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_the_server_gives_up_is_sent_again_so_often() {
    let server = server().await;
    for code in ["40001", "40P01"] {
        for (times, is_written) in [(5, true), (1_000, false)] {
            let database = server.database().await.expect("a database");
            let store = postgres::store(&database).await;
            let client = give_up(&database, code, times).await;
            let verdict = store.append(Append::events([event(0)])).await;
            match verdict {
                Ok(_) => assert!(is_written),
                Err(AppendError::Unavailable(why)) => assert!(!is_written && why.contains("given up"), "{why}"),
                Err(other) => panic!("{other}"),
            }
            let tries: i64 = client.query_one("SELECT last_value FROM tries", &[]).await.expect("a count").get(0);
            assert_eq!(tries, 6);
            assert_eq!(count(&database).await, i64::from(is_written));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_survives_a_deadlock_with_a_foreign_transaction() {
    let server = server().await;
    let database = server.database().await.expect("a database");
    let store = Arc::new(postgres::store(&database).await);
    store.append(Append::stream(stream("a"), ExpectedVersion::Any, [event(0)])).await.expect("it is free");
    for round in 1..5 {
        let mut client = database.connect().await.expect("a client");
        // The server takes notice of a deadlock by whoever has waited for so long: one time the append's, the next time the other's.
        let is_own = round % 2 == 0;
        client
            .batch_execute(if is_own { "SET deadlock_timeout = '10s'" } else { "SET deadlock_timeout = '1ms'" })
            .await
            .expect("it is set");
        let foreign = client.transaction().await.expect("a transaction");
        foreign.batch_execute("LOCK TABLE es_tags IN SHARE MODE").await.expect("the table");
        let own = Arc::clone(&store);
        let tagged = event(round).with_tags([tag("x")].into_iter().collect());
        let appending =
            tokio::spawn(async move { own.append(Append::stream(stream("a"), ExpectedVersion::Any, [tagged])).await });
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        let client = database.connect().await.expect("a client");
        while client.query_one(waiting, &[]).await.expect("it reads").get::<_, i64>(0) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The append has the head and waits for the table; this one has the table and waits for the head.
        let deadlock = foreign.execute("SELECT FROM es_head FOR UPDATE", &[]).await;
        assert_eq!(deadlock.is_ok(), is_own, "{deadlock:?}");
        foreign.rollback().await.expect("it ends");
        appending.await.expect("no panic").expect("it is sent again, or was not the one to go");
        let deadlocks =
            "SELECT pg_stat_force_next_flush(), deadlocks FROM pg_stat_database WHERE datname = current_database()";
        // Processes tell of theirs now and then.
        let told = tokio::time::timeout(Duration::from_secs(20), async {
            while client.query_one(deadlocks, &[]).await.expect("it reads").get::<_, i64>(1) < round as i64 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        told.await.expect("there was a deadlock each time");
    }
    assert_eq!(count(&database).await, 5);
}
