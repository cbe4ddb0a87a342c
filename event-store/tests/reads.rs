//! Every way to read: one stream, all events, a query; from somewhere, backwards, a few.

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;

use event_store::{
    Append, DynEventStore, EventRef, EventStore, Events, ExpectedVersion, MemoryStore, Query, QueryError, QueryItem,
    Read, StreamVersion,
};
use futures::StreamExt as _;
use support::{event, events, kind, payloads, position, stream, tag};

/// Streams `a` (0, 2, 4, 6, 8) and `b` (1, 3, 5, 7, 9) in turn; every third event has tag `third`, every fourth type `Fourth`.
fn store() -> MemoryStore {
    let store = MemoryStore::new();
    for number in 0..10 {
        let mut event = event(number);
        if number % 3 == 0 {
            event = event.with_tag(tag("third"));
        }
        if number % 4 == 0 {
            event.event_type = kind("Fourth");
        }
        let name = if number % 2 == 0 { "a" } else { "b" };
        store.append_now(Append::stream(stream(name), ExpectedVersion::Any, [event])).expect("nothing is expected");
    }
    store
}

fn read(read: &Read) -> String {
    payloads(&store().read_now(read)).concat()
}

#[test]
fn a_stream_reads_from_a_version_on_in_both_directions_and_up_to_a_limit() {
    let from = |version| Read::stream_from(stream("a"), StreamVersion::new(version));
    for (wanted, found) in [
        (Read::stream(stream("a")), "02468"),
        (Read::stream(stream("a")).limit(2), "02"),
        (Read::stream(stream("a")).limit(0), ""),
        (Read::stream(stream("a")).backwards(), "86420"),
        (Read::stream(stream("a")).backwards().limit(2), "86"),
        (from(0), "02468"),
        (from(3), "68"),
        (from(5), ""),
        (from(u64::MAX), ""),
        (from(3).limit(1), "6"),
        (from(3).backwards(), "6420"),
        (from(0).backwards(), "0"),
        (from(99).backwards(), "86420"),
        (Read::stream(stream("unknown")), ""),
        (Read::stream(stream("unknown")).backwards(), ""),
    ] {
        assert_eq!(read(&wanted), found, "{wanted:?}");
    }
}

#[test]
fn all_events_read_from_a_position_on_in_both_directions_and_up_to_a_limit() {
    let from = |number| Read::all_from(position(number));
    for (wanted, found) in [
        (Read::all(), "0123456789"),
        (Read::all().backwards(), "9876543210"),
        (Read::all().limit(3), "012"),
        (from(1), "0123456789"),
        (from(4), "3456789"),
        (from(4).backwards(), "3210"),
        (from(4).backwards().limit(2), "32"),
        (from(11), ""),
        (from(u64::MAX), ""),
        (from(u64::MAX).backwards().limit(1), "9"),
    ] {
        assert_eq!(read(&wanted), found, "{wanted:?}");
    }
}

#[test]
fn a_query_matches_any_item_and_within_an_item_any_type_and_all_tags() {
    let third = || QueryItem::tags([tag("third")]).expect("one tag");
    let fourth = || QueryItem::types([kind("Fourth")]).expect("one type");
    let or = || Query::items([third(), fourth()]).expect("two items");
    let both = || Query::item(third().of_types([kind("Fourth"), kind("Unknown")]));
    for (wanted, found) in [
        (Read::query(Query::item(third())), "0369"),
        (Read::query(Query::item(fourth())), "048"),
        (Read::query(or()), "034689"),
        (Read::query(or()).backwards(), "986430"),
        (Read::query(or()).backwards().limit(2), "98"),
        (Read::query_from(or(), position(5)), "4689"),
        (Read::query_from(or(), position(5)).backwards(), "430"),
        (Read::query(both()), "0"),
        (Read::query(Query::item(third().of_types([kind("Happened")]))), "369"),
        (Read::query(Query::item(QueryItem::tags([tag("third"), tag("unknown")]).expect("two tags"))), ""),
        (Read::query(Query::item(QueryItem::types([kind("Unknown")]).expect("one type"))), ""),
        (Read::query(Query::All).limit(1), "0"),
    ] {
        assert_eq!(read(&wanted), found, "{wanted:?}");
    }
}

#[test]
fn a_query_that_selects_by_nothing_cannot_be_built() {
    assert_eq!(Query::items([]), Err(QueryError::NoItems));
    assert_eq!(QueryItem::tags([]), Err(QueryError::EmptyItem));
    assert_eq!(QueryItem::types([]), Err(QueryError::EmptyItem));
}

#[test]
fn a_scan_ends_with_what_its_visitor_breaks_with() {
    let found = store().scan(&Read::all(), |event| match event.payload() {
        b"4" => ControlFlow::Break(event.position().get()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(found, Some(5));
}

#[test]
fn borrowed_and_owned_events_are_the_same() {
    let store = store();
    let mut owned = store.read_now(&Read::all()).into_iter();
    store.scan(&Read::all(), |lent| {
        let event = owned.next().expect("as many");
        assert_eq!(lent.position(), event.position());
        assert_eq!(lent.stream(), event.stream());
        assert_eq!((lent.id(), lent.time(), lent.schema_version()), (event.id(), event.time(), event.schema_version()));
        assert_eq!((lent.event_type(), lent.tags()), (event.event_type(), event.tags()));
        assert_eq!((lent.payload(), lent.metadata()), (event.payload(), event.metadata()));
        assert_eq!((lent.correlation_id(), lent.causation_id()), (None, None));
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(owned.next(), None);
}

#[test]
fn owned_events_outlive_the_store() {
    let events = store().read_now(&Read::all());
    assert_eq!(payloads(&events).concat(), "0123456789");
    let events = store().events_now(&Read::all().backwards());
    let text = |event: EventRef<'_>| String::from_utf8(event.payload().to_vec()).expect("text");
    assert_eq!(
        std::thread::spawn(move || events.iter().map(text).collect::<String>()).join().expect("no panic"),
        "9876543210"
    );
}

#[test]
fn kept_events_do_not_change_while_the_store_grows() {
    let store = MemoryStore::new();
    let add = |from: u64, to: u64| {
        for number in from..to {
            let stream = stream(if number % 3 == 0 { "a" } else { "b" });
            store.append_now(Append::stream(stream, ExpectedVersion::Any, [event(number)])).expect("any version");
        }
    };
    add(0, 1_000);
    let kept = store.events_now(&Read::stream(stream("a")));
    let empty = store.events_now(&Read::stream(stream("c")));
    let versions =
        |events: &Events| events.iter().map(|event| event.stream_version().map(StreamVersion::get)).collect::<Vec<_>>();
    let before = versions(&kept);
    assert_eq!(before, (0..334).map(Some).collect::<Vec<_>>());
    add(1_000, 20_000);
    assert_eq!(versions(&kept), before);
    assert_eq!((kept.len(), kept.is_empty(), kept.iter().skip(300).len()), (334, false, 34));
    assert!(empty.is_empty() && empty.iter().next().is_none());
    assert_eq!(store.events_now(&Read::stream(stream("a"))).len(), 6_667);
}

#[tokio::test]
async fn a_stream_of_events_pages_through_what_was_there_when_it_was_first_polled() {
    let store = MemoryStore::new();
    store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, events(0..1_000))).expect("new");
    for wanted in [
        Read::all(),
        Read::all().backwards(),
        Read::stream(stream("a")),
        Read::stream(stream("a")).backwards(),
        Read::stream(stream("a")).limit(600),
        Read::stream(stream("a")).limit(512),
    ] {
        let expected = store.read_now(&wanted);
        let found: Vec<_> = store.read(wanted.clone()).map(|event| event.expect("memory")).collect().await;
        assert_eq!(found, expected, "{wanted:?}");
    }
    let mut reading = std::pin::pin!(store.read(Read::all()));
    reading.next().await.expect("one").expect("memory");
    store.append_now(Append::events([event(5_000)])).expect("no condition");
    assert_eq!(reading.count().await, 999);
}

#[tokio::test]
async fn the_object_safe_twin_is_a_store_again() {
    let store: Arc<dyn DynEventStore> = Arc::new(MemoryStore::new());
    async fn use_it(store: impl EventStore) {
        store.append(Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..2))).await.expect("new");
        assert_eq!(store.head().await, Ok(Some(position(2))));
        assert_eq!(store.stream_version(&stream("a")).await, Ok(Some(StreamVersion::new(1))));
        assert_eq!(store.read(Read::all()).count().await, 2);
    }
    use_it(store).await;
}

#[tokio::test]
async fn an_append_that_is_dropped_before_it_is_polled_has_not_happened() {
    let store = MemoryStore::new();
    drop(EventStore::append(&store, Append::events(events(0..3))));
    assert_eq!(store.head().await, Ok(None));
}
