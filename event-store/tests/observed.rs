//! What an observed store tells by the facades `tracing` and `metrics`; and that it is a store like any other.

#[path = "support/shaky.rs"]
#[allow(dead_code, reason = "each test file uses a part")]
mod shaky;
mod support;
#[path = "support/told.rs"]
mod told;

use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use event_store::testkit::conformance;
use event_store::{
    Append, AppendCondition, AppendError, Appended, Delivery, EventStore, ExpectedVersion, MemoryReadModel,
    MemoryStore, NewEvent, Observed, Position, ProjectionRunner, Query, Read, ReadError, RecordedEvent, RemoveError,
    StreamId, StreamVersion, Subscribe, Subscription, Upcasters, Upcasting,
};
use futures::executor::block_on;
use futures::{FutureExt as _, Stream, StreamExt as _};
use support::{event, events, exact, stream};
use told::{counts, listening_everywhere, told};

#[test]
fn appends_are_told_with_their_outcome() {
    let (figures, spans) = told(|| {
        let store = Observed::new(MemoryStore::new());
        let append = |append| block_on(store.append(append));
        let first = Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..3)).and_events(events(3..4));
        append(first.clone()).expect("no stream");
        append(first).expect("the same");
        append(Append::stream(stream("a"), exact(2), [])).expect("at version 2");
        append(Append::stream(stream("a"), exact(7), events(4..5))).expect_err("at version 2");
        append(Append::events(events(4..5)).condition(AppendCondition::fail_if_exists(Query::All))).expect_err("4");
        append(Append::events([event(1).with_metadata("other")])).expect_err("taken");
    });
    assert_eq!(
        figures,
        counts(&[
            ("event_store_append_seconds", 6),
            ("event_store_appended_events_total", 4),
            ("event_store_appends_total{outcome=appended}", 1),
            ("event_store_appends_total{outcome=checked}", 1),
            ("event_store_appends_total{outcome=condition_failed}", 1),
            ("event_store_appends_total{outcome=deduplicated}", 1),
            ("event_store_appends_total{outcome=duplicate_id}", 1),
            ("event_store_appends_total{outcome=wrong_version}", 1),
        ])
    );
    assert_eq!(spans[0], "event_store.append events=4 first_position=1 last_position=4 outcome=appended streams=1");
    assert_eq!(spans[3], "event_store.append events=1 outcome=wrong_version streams=1");
    assert_eq!(spans.len(), 6);
}

#[test]
fn reads_and_pages_are_told_with_their_events() {
    let (figures, spans) = told(|| {
        let fails = |payload: &[u8]| if payload == b"5" { Err("five".into()) } else { Ok(payload.to_vec()) };
        let kind = support::kind("Happened");
        let upcasters = Upcasters::builder().current(kind.clone(), 2).step(kind, 1, 2, fails).build().expect("sound");
        let store = Observed::new(Upcasting::new(support::store_with(6), upcasters));
        block_on(store.read(Read::stream(stream("a")).limit(3)).for_each(|_| async {}));
        block_on(store.read(Read::all().backwards()).for_each(|_| async {}));
        block_on(store.read(Read::all()).next()).expect("one event").expect("no failure");
        // Never polled: nothing was asked for.
        drop(store.read(Read::all()));
        let mut subscription = store.subscribe(Subscribe::from_start());
        while let Some(Some(Ok(Delivery::Event(_)))) = subscription.next().now_or_never() {}
    });
    assert_eq!(
        figures,
        counts(&[
            ("event_store_page_events_total", 5),
            ("event_store_page_seconds", 2),
            ("event_store_pages_total{outcome=failed}", 1),
            ("event_store_pages_total{outcome=filled}", 1),
            ("event_store_read_events_total", 4),
            ("event_store_read_seconds", 3),
            ("event_store_reads_total{outcome=complete}", 1),
            ("event_store_reads_total{outcome=failed}", 1),
            ("event_store_reads_total{outcome=stopped}", 1),
        ])
    );
    assert_eq!(
        spans,
        [
            "event_store.read backwards=false events=3 outcome=complete source=stream",
            "event_store.read backwards=true events=0 outcome=failed source=all",
            "event_store.read backwards=false events=1 outcome=stopped source=all",
            "event_store.page events=5 outcome=filled",
            "event_store.page events=0 outcome=failed",
        ]
    );
}

/// Never answers an append.
struct Silent(MemoryStore);

impl EventStore for Silent {
    async fn append(&self, _: Append) -> Result<Appended, AppendError> {
        std::future::pending().await
    }

    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        self.0.read(read)
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        self.0.subscribe(subscribe)
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.0.head().await
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        self.0.stream_version(stream).await
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        self.0.truncate_stream(stream, before).await
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        self.0.delete_stream(stream).await
    }
}

#[test]
fn an_append_that_is_dropped_before_its_answer_is_told_too() {
    let (figures, spans) = told(|| {
        let store = Observed::new(Silent(MemoryStore::new()));
        let mut append = Box::pin(store.append(Append::events([NewEvent::new(support::kind("T"), "")])));
        assert!(pin!(&mut append).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(append);
        drop(store.append(Append::events([])));
    });
    let expected = [("event_store_append_seconds", 1), ("event_store_appends_total{outcome=cancelled}", 1)];
    assert_eq!(figures, counts(&expected), "the second one was not polled");
    assert_eq!(spans, ["event_store.append events=1 outcome=cancelled streams=0"]);
}

#[test]
fn an_observed_store_conforms() {
    listening_everywhere();
    block_on(conformance::run(|| async { Observed::new(MemoryStore::new()) })).assert_passed();
}

#[test]
fn a_projection_tells_its_lag_when_it_is_asked() {
    let (figures, _) = told(|| {
        let store = Arc::new(support::store_with(5));
        let model = Arc::new(MemoryReadModel::new());
        let runner = ProjectionRunner::new(Arc::clone(&store), model, shaky::Ledger::new(), shaky::no_sleep);
        block_on(runner.catch_up()).expect("caught up");
        store.append_now(Append::events(events(5..7))).expect("no condition");
        block_on(runner.stats()).expect("memory");
    });
    let labels = "{projection=ledger}{version=1}";
    let expected = [("applied_total", 5), ("event_failures_total", 0), ("lag", 2), ("parked_total", 0)];
    let expected = expected.map(|(name, value)| (format!("event_store_projection_{name}{labels}"), value));
    assert_eq!(figures, BTreeMap::from(expected));
}
