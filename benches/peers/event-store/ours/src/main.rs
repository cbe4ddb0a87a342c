//! The memory store of this repository, by its synchronous calls.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use event_store::{
    Append, EventId, EventType, Events, ExpectedVersion, MemoryStore, NewEvent, Read, RecordedEvent, StreamId,
    StreamVersion, Tag, Timestamp,
};
use event_store_contest::{Contender, Event, Seen, suite};

fn main() -> ExitCode {
    suite::<Ours>("ours").run()
}

#[derive(Default)]
struct Ours {
    store: Arc<MemoryStore>,
    names: Names,
}

/// Names that were parsed before: a caller keeps them and clones handles.
#[derive(Default)]
struct Names {
    streams: HashMap<Arc<str>, StreamId>,
    event_types: HashMap<Arc<str>, EventType>,
    tags: HashMap<Arc<str>, Tag>,
}

impl Contender for Ours {
    type Save = Append;
    type Load = Read;
    type Owned = Events;
    type ByValue = ByValue;
    const NOTE: &'static str = "checks the expected version, unique event ids and that names are valid; one dense global order, \
                                tags indexed, all or nothing; an owned list holds on to the store's memory";

    fn save_call(&mut self, stream: &Arc<str>, version: u64, events: Vec<Event>) -> Append {
        let events: Vec<NewEvent> = events.into_iter().map(|event| self.names.event(event)).collect();
        Append::stream(kept(&mut self.names.streams, stream), expected(version), events)
    }

    fn load_call(stream: &str) -> Read {
        Read::stream(stream.parse().expect("a valid stream id"))
    }

    fn save(&mut self, calls: Vec<Append>) {
        for append in calls {
            self.store.append_now(append).expect("the version is the expected one");
        }
    }

    fn visit(&mut self, load: &Read, times: u64, mut see: impl FnMut(Seen<'_>)) {
        for _ in 0..times {
            let stopped: Option<()> = self.store.scan(black_box(load), |event| {
                let version = event.stream_version().map_or(0, StreamVersion::get);
                see(Seen { position: event.position().get(), version, payload: event.payload() });
                ControlFlow::Continue(())
            });
            black_box(stopped);
        }
    }

    fn load_owned(&mut self, load: &Read) -> Events {
        self.store.events_now(load)
    }

    fn payloads(owned: &Events) -> impl Iterator<Item = &[u8]> {
        owned.iter().map(|event| event.payload())
    }

    fn handle(&self) -> Option<Self> {
        Some(Self { store: Arc::clone(&self.store), names: Names::default() })
    }
}

/// The same store, from events and to events: a call is built within the timing, as a caller does who has its events and nothing else.
#[derive(Default)]
struct ByValue(Ours);

impl Contender for ByValue {
    type Save = (StreamId, ExpectedVersion, Vec<NewEvent>);
    type Load = Read;
    type Owned = Vec<RecordedEvent>;
    type ByValue = Self;
    const NOTE: &'static str = Ours::NOTE;

    fn save_call(&mut self, stream: &Arc<str>, version: u64, events: Vec<Event>) -> Self::Save {
        let Ours { names, .. } = &mut self.0;
        let events = events.into_iter().map(|event| names.event(event)).collect();
        (kept(&mut names.streams, stream), expected(version), events)
    }

    fn load_call(stream: &str) -> Read {
        Ours::load_call(stream)
    }

    fn save(&mut self, calls: Vec<Self::Save>) {
        for (stream, expected, events) in calls {
            let append = Append::stream(stream, expected, events);
            self.0.store.append_now(append).expect("the version is the expected one");
        }
    }

    fn visit(&mut self, load: &Read, times: u64, see: impl FnMut(Seen<'_>)) {
        self.0.visit(load, times, see);
    }

    fn load_owned(&mut self, load: &Read) -> Vec<RecordedEvent> {
        self.0.store.read_now(load)
    }

    fn payloads(owned: &Self::Owned) -> impl Iterator<Item = &[u8]> {
        owned.iter().map(|event| event.payload())
    }
}

/// What a stream of `events` events is expected to be.
fn expected(events: u64) -> ExpectedVersion {
    match events.checked_sub(1) {
        Some(last) => ExpectedVersion::Exact(StreamVersion::new(last)),
        None => ExpectedVersion::NoStream,
    }
}

impl Names {
    fn event(&mut self, event: Event) -> NewEvent {
        let id = EventId::from_u128(event.id.as_u128());
        NewEvent::with_given_id(id, kept(&mut self.event_types, &event.event_type), event.payload)
            .with_time(Timestamp::from_micros(event.time))
            .with_tag(kept(&mut self.tags, &event.tag))
    }
}

/// The name as it was parsed when it was first seen.
fn kept<N: Clone + FromStr<Err: Debug>>(names: &mut HashMap<Arc<str>, N>, text: &Arc<str>) -> N {
    if let Some(name) = names.get(text) {
        return name.clone();
    }
    let name: N = text.parse().expect("the names of the contest are valid");
    names.insert(Arc::clone(text), name.clone());
    name
}
