//! What stands around a store, on PostgreSQL: the repository, upcasters, CloudEvents and an observed store do what they do in memory.

#[path = "support/account.rs"]
mod account;
mod postgres;
mod support;
#[path = "support/told.rs"]
mod told;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use account::{Account, Command, Overdrawn};
use event_store::cloudevents::{ImportOptions, ImportProblem, export, import};
use event_store::{
    Append, BoxError, Delivery, EventStore, ExpectedVersion, MemoryStore, NewEvent, Observed, Piece, Query, QueryItem,
    Read, RecordedEvent, Repository, RepositoryError, SnapshotPolicy, SnapshotUse, StreamVersion, Subscribe, Upcasters,
    Upcasting,
};
use futures::StreamExt as _;
use support::{event, events, exact, kind, position, stream, tag};
use told::{counts, listening_everywhere, told};

/// More than a page of a read or a subscription.
const EVENTS: u64 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_are_executed_at_once_are_each_decided_on_what_the_others_did() {
    listening_everywhere();
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = Arc::new(postgres::store(&database).await);
    let policy = SnapshotPolicy::EveryN(NonZeroU64::new(20).expect("not zero"));
    let accounts = Repository::<Account, _>::new(Arc::clone(&store)).max_attempts(1_000).snapshots(policy);
    let accounts = Arc::new(accounts);
    let tellers = (1..=4).map(|amount| {
        let accounts = Arc::clone(&accounts);
        tokio::spawn(async move {
            for _ in 0..25 {
                accounts.execute(&stream("a"), &Command::Deposit(amount)).await.expect("executed");
            }
        })
    });
    for teller in tellers.collect::<Vec<_>>() {
        teller.await.expect("no panic");
    }
    match accounts.execute(&stream("a"), &Command::Withdraw(251)).await {
        Err(RepositoryError::Refused(refusal)) => assert_eq!(refusal, Overdrawn { wanted: 251, balance: 250 }),
        other => panic!("{other:?}"),
    }
    let loaded = accounts.load(&stream("a")).await.expect("loaded");
    assert_eq!((loaded.state, loaded.version), (Account { balance: 250, changes: 100 }, Some(StreamVersion::new(99))));
    assert!(matches!(loaded.snapshot, SnapshotUse::Used(_)) && loaded.replayed < 100, "{:?}", loaded.snapshot);
    let without = Repository::<Account, _>::new(store).load(&stream("a")).await.expect("loaded");
    assert_eq!((without.state, without.replayed), (Account { balance: 250, changes: 100 }, 100));
}

/// `Old` 1 gets a letter and is `New` 1; `Both` is split into two `New`, or nothing where its payload ends with 7; `Noise` is dropped.
fn upcasters() -> Upcasters {
    let letter = |payload: &[u8]| -> Result<Vec<u8>, BoxError> { Ok([payload, b"a"].concat()) };
    let pieces = |payload: &[u8]| -> Result<Vec<Piece>, BoxError> {
        let count = if payload.ends_with(b"7") { 0 } else { 2 };
        Ok((0..count).map(|_| Piece::new(0, payload.to_vec())).collect())
    };
    Upcasters::builder()
        .current(kind("New"), 1)
        .step(kind("Old"), 1, 2, letter)
        .rename((kind("Old"), 2), (kind("New"), 1))
        .split((kind("Both"), 1), [(kind("New"), 1)], pieces)
        .drop(kind("Noise"), 1)
        .build()
        .expect("a sound graph")
}

fn of_kind(name: &str, number: u64) -> NewEvent {
    let mut event = event(number);
    event.event_type = kind(name);
    event
}

/// Events of all forms in two streams and in none, with all that an event may carry.
fn forms() -> Vec<Append> {
    let form = |number: u64| {
        of_kind(["New", "Old", "Both", "Noise", "Plain"][number as usize % 5], number)
            .with_tag(tag(if number.is_multiple_of(2) { "even" } else { "odd" }))
            .with_tag(tag(&format!("number:{number}")))
            .with_metadata(vec![number as u8, 0, 255])
    };
    let append = |first: u64| {
        let events = (first..first + 10).map(form);
        match first / 10 % 3 {
            0 => Append::events(events),
            1 => Append::stream(stream("a"), ExpectedVersion::Any, events),
            _ => Append::stream(stream("b"), ExpectedVersion::Any, events),
        }
    };
    (0..EVENTS).step_by(10).map(append).collect()
}

async fn fill(store: &impl EventStore) {
    for append in forms() {
        store.append(append).await.expect("nothing is expected");
    }
}

async fn read(store: &impl EventStore, read: Read) -> Vec<RecordedEvent> {
    store.read(read).map(|event| event.expect("it can be read")).collect().await
}

/// What a subscription delivers until it has caught up.
async fn delivered(store: &impl EventStore, subscribe: Subscribe) -> Vec<RecordedEvent> {
    let (mut subscription, mut events) = (store.subscribe(subscribe), Vec::new());
    loop {
        match subscription.next().await.expect("the store is there").expect("it can be read") {
            Delivery::Event(event) => events.push(event),
            Delivery::CaughtUp(_) => return events,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_forms_are_read_as_they_are_in_memory() {
    listening_everywhere();
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = Upcasting::new(postgres::store(&database).await, upcasters());
    let memory = Upcasting::new(MemoryStore::new(), upcasters());
    tokio::join!(fill(&store), fill(&memory));
    let of = |name: &str| QueryItem::types([kind(name)]).expect("a type");
    let even = QueryItem::tags([tag("even")]).expect("a tag");
    let queries = [
        Query::All,
        Query::item(of("New")),
        Query::item(even.clone().of_types([kind("New")])),
        Query::items([of("Plain"), even]).expect("items"),
        Query::item(of("Noise")),
    ];
    let mut found = 0;
    for query in queries {
        let whole = Read::query(query.clone());
        let page = Read::query_from(query.clone(), position(EVENTS / 2)).limit(777);
        for way in [whole.clone(), whole.backwards(), page.clone(), page.backwards()] {
            let events = read(&store, way.clone()).await;
            assert_eq!(events, read(&memory, way.clone()).await, "{way:?}");
            found += events.len() as u64;
        }
        for subscribe in [Subscribe::from_start(), Subscribe::after(position(EVENTS / 3))] {
            let subscribe = subscribe.query(query.clone());
            assert_eq!(delivered(&store, subscribe.clone()).await, delivered(&memory, subscribe).await, "{query:?}");
        }
    }
    for name in ["a", "b", "none"] {
        for way in [Read::stream(stream(name)), Read::stream(stream(name)).backwards().limit(99)] {
            assert_eq!(read(&store, way.clone()).await, read(&memory, way.clone()).await, "{way:?}");
        }
    }
    assert!(found > 5 * EVENTS, "{found}");

    // What comes while somebody waits for it.
    let mut subscription = store.subscribe(Subscribe::after(position(EVENTS)));
    assert!(matches!(subscription.next().await, Some(Ok(Delivery::CaughtUp(_)))));
    store.append(Append::events([of_kind("Both", EVENTS + 1)])).await.expect("no condition");
    for more in [true, false] {
        match subscription.next().await {
            Some(Ok(Delivery::Event(event))) => {
                assert_eq!((event.event_type(), event.position()), (&kind("New"), position(EVENTS + 1)));
                assert_eq!(subscription.has_more_at(event.position()), more);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_leave_one_database_and_come_into_another_once() {
    listening_everywhere();
    let server = postgres::server().await;
    let (from, to) = (server.database().await.expect("a database"), server.database().await.expect("another"));
    let (store, copy) = (postgres::store(&from).await, postgres::store(&to).await);
    fill(&store).await;
    let mut lines = Vec::new();
    let report = export(&store, Read::all(), "/shop", &mut lines).await.expect("exported");
    assert_eq!((report.events, report.last), (EVENTS, Some(position(EVENTS))));

    // It breaks off at a line that is none, and goes on when that is mended.
    let middle = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(999).expect("a line").0 + 1;
    let broken = [&lines[..middle], b"{}\n", &lines[middle..]].concat();
    let error = import(&copy, &broken[..], &ImportOptions::default()).await.expect_err("a line is none");
    assert!(matches!(error.problem, ImportProblem::Line(_)), "{error}");
    assert_eq!((error.line, error.report.imported), (1_001, 1_000));
    let mended = import(&copy, &lines[..], &ImportOptions::default()).await.expect("imported");
    assert_eq!((mended.imported, mended.deduplicated), (EVENTS - 1_000, 1_000));
    let again = import(&copy, &lines[..], &ImportOptions::default()).await.expect("imported");
    assert_eq!((again.imported, again.deduplicated), (0, EVENTS));
    assert_eq!(read(&copy, Read::all()).await, read(&store, Read::all()).await);

    let mut lines_of_copy = Vec::new();
    export(&copy, Read::all(), "/shop", &mut lines_of_copy).await.expect("exported");
    assert!(lines_of_copy == lines, "the same bytes");
}

#[test]
fn an_observed_store_tells_of_what_it_did() {
    // One thread: what is told there is heard.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(postgres::server());
    let database = runtime.block_on(server.database()).expect("a database");
    let (figures, spans) = told(|| {
        runtime.block_on(async {
            let store = Observed::new(postgres::store(&database).await);
            let first = Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..3));
            store.append(first.clone()).await.expect("no stream");
            store.append(first).await.expect("the same");
            store.append(Append::stream(stream("a"), exact(7), events(4..5))).await.expect_err("at version 2");
            assert_eq!(read(&store, Read::stream(stream("a"))).await.len(), 3);
            assert_eq!(delivered(&store, Subscribe::from_start()).await.len(), 3);
        });
    });
    // How many pages a subscription takes is its own affair.
    let figures: BTreeMap<String, u64> = figures.into_iter().filter(|(name, _)| !name.contains("page")).collect();
    assert_eq!(
        figures,
        counts(&[
            ("event_store_append_seconds", 3),
            ("event_store_appended_events_total", 3),
            ("event_store_appends_total{outcome=appended}", 1),
            ("event_store_appends_total{outcome=deduplicated}", 1),
            ("event_store_appends_total{outcome=wrong_version}", 1),
            ("event_store_read_events_total", 3),
            ("event_store_read_seconds", 1),
            ("event_store_reads_total{outcome=complete}", 1),
        ])
    );
    for span in [
        "event_store.append events=3 first_position=1 last_position=3 outcome=appended streams=1",
        "event_store.append events=1 outcome=wrong_version streams=1",
        "event_store.read backwards=false events=3 outcome=complete source=stream",
        "event_store.page events=3 outcome=filled",
    ] {
        assert!(spans.iter().any(|told| told == span), "{span} is not in {spans:#?}");
    }
}
