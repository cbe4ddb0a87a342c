//! What the store that this one replaces does wrong, each as a test that this one does not. Numbers are those of the list in the
//! README; 6, 8, 10 and 12 are about repositories, migrations, other back ends and upcasters, which this crate does not have yet.

mod support;

use event_store::{Append, AppendError, ExpectedVersion, MemoryStore, NewEvent, Read, StreamVersion};
use support::{all, event, events, exact, head, kind, payloads, store_with, stream};

#[test]
fn defect_1_an_empty_stream_has_no_version_and_the_first_is_0() {
    let store = MemoryStore::new();
    assert_eq!(store.stream_version_now(&stream("a")), None);
    let appended = store.append_now(Append::stream(stream("a"), ExpectedVersion::NoStream, [event(0)])).expect("new");
    assert_eq!(appended.versions(), [(stream("a"), StreamVersion::FIRST)]);
    assert_eq!(StreamVersion::FIRST.get(), 0);
}

#[test]
fn defect_2_from_is_inclusive_and_cannot_be_negative() {
    let store = store_with(5);
    let from = |version| payloads(&store.read_now(&Read::stream_from(stream("a"), StreamVersion::new(version))));
    assert_eq!(from(3), ["3", "4"]);
    assert_eq!(from(0).len(), 5);
    assert!(from(5).is_empty());
}

#[test]
fn defect_3_an_unknown_stream_reads_as_empty() {
    let store = store_with(5);
    assert!(store.read_now(&Read::stream(stream("unknown"))).is_empty());
    assert_eq!(store.stream_version_now(&stream("unknown")), None);
}

#[test]
fn defect_4_saving_nothing_checks_the_expected_version() {
    let store = store_with(5);
    assert!(store.append_now(Append::stream(stream("a"), exact(4), [])).is_ok());
    assert!(store.append_now(Append::stream(stream("a"), exact(3), [])).is_err());
    assert_eq!(head(&store), 5);
}

#[test]
fn defect_5_a_failed_check_on_an_unknown_stream_leaves_no_key() {
    let store = MemoryStore::new();
    assert!(store.append_now(Append::stream(stream("a"), exact(3), [event(0)])).is_err());
    assert!(store.append_now(Append::stream(stream("a"), ExpectedVersion::Exists, [event(0)])).is_err());
    assert_eq!(store.stream_version_now(&stream("a")), None);
    store.append_now(Append::stream(stream("a"), ExpectedVersion::NoStream, [event(0)])).expect("it never existed");
}

#[test]
fn defect_7_a_duplicate_id_is_a_repetition_or_an_error() {
    let store = store_with(1);
    let again = store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, [event(0)])).expect("a repetition");
    assert!(again.deduplicated);
    let other = event(0).with_metadata("other");
    let error = store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, [other])).unwrap_err();
    assert!(matches!(error, AppendError::DuplicateEventId { .. }));
    assert_eq!(head(&store), 1);
}

#[test]
fn defect_9_bytes_in_are_the_same_bytes_out() {
    let store = MemoryStore::new();
    for (number, payload) in
        [&br#"{"b":1,"a":2,"a":3}"#[..], b"\"\\u0000\"", b"\x00\xff\xfe", b""].into_iter().enumerate()
    {
        let event =
            NewEvent::with_given_id(event_store::EventId::from_u128(number as u128), kind("Kept"), payload.to_vec());
        store.append_now(Append::events([event])).expect("no condition");
        assert_eq!(all(&store)[number].payload(), payload);
    }
}

#[test]
fn defect_11_every_event_has_its_own_position() {
    let store = store_with(3);
    store.append_now(Append::stream(stream("b"), ExpectedVersion::Any, events(10..13))).expect("new");
    let positions: Vec<u64> = all(&store).iter().map(|event| event.position().get()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn defect_13_the_same_append_twice_does_not_grow_the_store() {
    let store = MemoryStore::new();
    for _ in 0..1_000 {
        store
            .append_now(Append::stream(stream("a"), ExpectedVersion::Any, [event(0)]))
            .expect("new, then a repetition");
    }
    assert_eq!(head(&store), 1);
}
