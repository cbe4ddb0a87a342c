//! What every suite stores: events of one type with one tag, ids and times given, so that no clock and no random source is timed.
#![allow(dead_code, reason = "each suite uses a part")]

use std::cell::Cell;
use std::ops::ControlFlow;

use bytes::Bytes;
use event_store::{
    Append, EventId, EventType, ExpectedVersion, MemoryStore, NewEvent, Position, Read, StreamId, StreamVersion, Tag,
    Timestamp,
};

/// Bytes of a payload, as in the limits of `thresholds.toml`.
pub(crate) const PAYLOAD: usize = 256;

/// Payload, tag and type of the events of a workload, made once.
pub(crate) struct Workload {
    event_type: EventType,
    tag: Tag,
    payload: Vec<u8>,
    next_id: u128,
}

impl Workload {
    pub(crate) fn new(payload: usize) -> Self {
        Self {
            event_type: "OrderPlaced".parse().expect("a valid type"),
            tag: "customer:4711".parse().expect("a valid tag"),
            payload: vec![0x5a; payload],
            next_id: 1,
        }
    }

    /// As [`Workload::new`], with ids that no other thread makes.
    pub(crate) fn for_thread(payload: usize, thread: u64) -> Self {
        Self { next_id: 1 + (u128::from(thread) << 64), ..Self::new(payload) }
    }

    /// One event; the id is spread over all bits, as random ids are.
    pub(crate) fn event(&mut self) -> NewEvent {
        let id = self.next_id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.next_id += 1;
        NewEvent::with_given_id(EventId::from_u128(id), self.event_type.clone(), Bytes::copy_from_slice(&self.payload))
            .with_time(Timestamp::from_micros(1_700_000_000_000_000))
            .with_tag(self.tag.clone())
    }

    pub(crate) fn events(&mut self, count: u64) -> Vec<NewEvent> {
        (0..count).map(|_| self.event()).collect()
    }

    /// `count` events to `stream`, which holds `version` events already.
    pub(crate) fn append(&mut self, stream: &StreamId, version: u64, count: u64) -> Append {
        Append::stream(stream.clone(), expected(version), self.events(count))
    }

    /// A store whose `stream` holds `count` events.
    pub(crate) fn store(&mut self, stream: &StreamId, count: u64) -> MemoryStore {
        let store = MemoryStore::new();
        let mut version = 0;
        while version < count {
            let batch = (count - version).min(1_000);
            store.append_now(self.append(stream, version, batch)).expect("nobody else appends");
            version += batch;
        }
        store
    }
}

/// A store that serves several rounds, so that its growth is spread over its appends as it is in use; a fresh one when it is large.
#[derive(Default)]
pub(crate) struct Reused {
    store: Cell<Option<MemoryStore>>,
    events: Cell<u64>,
}

impl Reused {
    /// Events of a store that is large: 5 MB.
    const LARGE: u64 = 16_384;

    /// The store and how many events it holds.
    pub(crate) fn take(&self) -> (MemoryStore, u64) {
        let store = self.store.take().filter(|_| self.events.get() < Self::LARGE).unwrap_or_default();
        self.events.set(events(&store));
        (store, self.events.get())
    }

    /// Keeps the store for the next round; returns how many events it has gained.
    pub(crate) fn put_back(&self, store: MemoryStore) -> u64 {
        let gained = events(&store) - self.events.get();
        self.events.set(events(&store));
        self.store.set(Some(store));
        gained
    }
}

fn events(store: &MemoryStore) -> u64 {
    store.head_now().map_or(0, Position::get)
}

pub(crate) fn stream(name: &str) -> StreamId {
    name.parse().expect("a valid stream id")
}

/// What a stream of `count` events expects.
pub(crate) fn expected(count: u64) -> ExpectedVersion {
    match count.checked_sub(1) {
        Some(last) => ExpectedVersion::Exact(StreamVersion::new(last)),
        None => ExpectedVersion::NoStream,
    }
}

/// The visitor of the borrowed loads: sums position, version and payload length.
pub(crate) fn sum(store: &MemoryStore, read: &Read) -> u64 {
    let mut sum = 0_u64;
    let stopped: Option<()> = store.scan(read, |event| {
        let version = event.stream_version().map_or(0, StreamVersion::get);
        sum = sum.wrapping_add(event.position().get() + version + event.payload().len() as u64);
        ControlFlow::Continue(())
    });
    assert!(stopped.is_none());
    sum
}

/// What [`sum`] finds in a stream that alone fills a store: `count` events from version `from`.
pub(crate) fn expected_sum(from: u64, count: u64) -> u64 {
    (from..from + count).map(|version| (version + 1) + version + PAYLOAD as u64).sum()
}

/// Every byte of every payload of `read`, added up: proof that content is there, outside the timing.
pub(crate) fn checksum(store: &MemoryStore, read: &Read) -> u64 {
    let mut sum = 0_u64;
    let stopped: Option<()> = store.scan(read, |event| {
        sum += event.payload().iter().map(|&byte| u64::from(byte)).sum::<u64>();
        ControlFlow::Continue(())
    });
    assert!(stopped.is_none());
    sum
}
