//! Short names for what the tests say often.
#![allow(dead_code, reason = "each test file uses a part")]

use event_store::{
    Append, EventId, EventType, ExpectedVersion, MemoryStore, NewEvent, Position, Read, RecordedEvent, StreamId,
    StreamVersion, Tag, Timestamp,
};

pub(crate) fn stream(name: &str) -> StreamId {
    name.parse().expect("a valid stream id")
}

pub(crate) fn kind(name: &str) -> EventType {
    name.parse().expect("a valid type")
}

pub(crate) fn tag(name: &str) -> Tag {
    name.parse().expect("a valid tag")
}

pub(crate) fn position(number: u64) -> Position {
    Position::new(number).expect("not zero")
}

pub(crate) fn exact(version: u64) -> ExpectedVersion {
    ExpectedVersion::Exact(StreamVersion::new(version))
}

/// An event with id `number`, type `Happened`, and its number as payload.
pub(crate) fn event(number: u64) -> NewEvent {
    NewEvent::with_given_id(EventId::from_u128(u128::from(number) + 1), kind("Happened"), number.to_string())
        .with_time(Timestamp::from_micros(number as i64))
}

pub(crate) fn events(numbers: std::ops::Range<u64>) -> Vec<NewEvent> {
    numbers.map(event).collect()
}

/// A store whose stream `a` holds events 0 to `count`.
pub(crate) fn store_with(count: u64) -> MemoryStore {
    let store = MemoryStore::new();
    store.append_now(Append::stream(stream("a"), ExpectedVersion::Any, events(0..count))).expect("nothing is expected");
    store
}

pub(crate) fn all(store: &MemoryStore) -> Vec<RecordedEvent> {
    store.read_now(&Read::all())
}

pub(crate) fn payloads(events: &[RecordedEvent]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8_lossy(event.payload()).into_owned()).collect()
}

pub(crate) fn head(store: &MemoryStore) -> u64 {
    store.head_now().map_or(0, Position::get)
}
