//! `eventually::inmemory::EventStore` by its asynchronous calls.
//!
//! It compares the expected version before it takes the lock for writing, so two writers of one stream can both pass; event ids
//! and tags are the event's own affair. A load hands out a stream of clones.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use event_store_contest::{Contender, Event, Seen, suite};
use eventually::inmemory::EventStore as Memory;
use eventually::store::{EventStore as _, Expected, Persisted, Select};
use eventually::versioning::Versioned as _;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    suite::<Eventually>("eventually").run()
}

type Stored = Persisted<String, Event>;

struct Eventually {
    store: Memory<String, Event>,
    runtime: Runtime,
}

impl Default for Eventually {
    fn default() -> Self {
        Self::new(Memory::default())
    }
}

impl Eventually {
    fn new(store: Memory<String, Event>) -> Self {
        Self { store, runtime: Builder::new_current_thread().build().expect("a runtime needs no more than memory") }
    }
}

impl Contender for Eventually {
    type Save = (String, Expected, Vec<Event>);
    type Load = String;
    type Owned = Vec<Stored>;
    type ByValue = Self;
    const NOTE: &'static str = "checks the expected version, though not in one step with the write; numbers events over all \
                                streams; checks no event ids, indexes no tags";

    fn save_call(&mut self, stream: &Arc<str>, version: u64, events: Vec<Event>) -> Self::Save {
        let version = u32::try_from(version).expect("streams of the contest are short");
        (stream.as_ref().to_owned(), Expected::Exact(version), events)
    }

    fn load_call(stream: &str) -> String {
        stream.to_owned()
    }

    fn save(&mut self, calls: Vec<Self::Save>) {
        self.runtime.block_on(async {
            for (stream, expected, events) in calls {
                self.store.append(stream, expected, events).await.expect("the version is the expected one");
            }
        });
    }

    fn visit(&mut self, load: &String, times: u64, mut see: impl FnMut(Seen<'_>)) {
        self.runtime.block_on(async {
            for _ in 0..times {
                let load = self.store.stream(black_box(load).clone(), Select::All);
                let mut events = load.await.expect("memory does not fail");
                while let Some(event) = events.next().await {
                    let event = event.expect("memory does not fail");
                    let (position, version) = (event.sequence_number() + 1, event.version() - 1);
                    see(Seen { position: position.into(), version: version.into(), payload: &event.payload });
                }
            }
        });
    }

    fn load_owned(&mut self, load: &String) -> Vec<Stored> {
        self.runtime.block_on(async {
            let events = self.store.stream(load.clone(), Select::All).await.expect("memory does not fail");
            events.try_collect().await.expect("memory does not fail")
        })
    }

    fn payloads(owned: &Vec<Stored>) -> impl Iterator<Item = &[u8]> {
        owned.iter().map(|event| &*event.payload)
    }

    fn handle(&self) -> Option<Self> {
        Some(Self::new(self.store.clone()))
    }
}
