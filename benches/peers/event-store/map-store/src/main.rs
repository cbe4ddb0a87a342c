//! A store of maps behind one mutex, to the same rules as ours: what a good engineer writes in an afternoon.

mod store;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use event_store_contest::{Contender, Event, Seen, suite};
use store::{MapStore, Recorded};

fn main() -> ExitCode {
    suite::<Maps>("map-store").run()
}

#[derive(Default)]
struct Maps {
    store: Arc<MapStore>,
}

/// The arguments of one append.
struct Save {
    stream: Arc<str>,
    version: u64,
    events: Vec<Event>,
}

impl Contender for Maps {
    type Save = Save;
    type Load = String;
    type Owned = Vec<Arc<Recorded>>;
    type ByValue = Self;
    const NOTE: &'static str = "checks the expected version and unique event ids; one dense global order, tags indexed, all or \
                                nothing; names are not checked";

    fn save_call(&mut self, stream: &Arc<str>, version: u64, events: Vec<Event>) -> Save {
        Save { stream: Arc::clone(stream), version, events }
    }

    fn load_call(stream: &str) -> String {
        stream.to_owned()
    }

    fn save(&mut self, calls: Vec<Save>) {
        for Save { stream, version, events } in calls {
            self.store.append(&stream, version, events).expect("the version is the expected one");
        }
    }

    fn visit(&mut self, load: &String, times: u64, mut see: impl FnMut(Seen<'_>)) {
        for _ in 0..times {
            for recorded in self.store.read(black_box(load)) {
                let Recorded { position, version, event } = &*recorded;
                see(Seen { position: *position, version: *version, payload: &event.payload });
            }
        }
    }

    fn load_owned(&mut self, load: &String) -> Vec<Arc<Recorded>> {
        self.store.read(load)
    }

    fn payloads(owned: &Vec<Arc<Recorded>>) -> impl Iterator<Item = &[u8]> {
        owned.iter().map(|recorded| &*recorded.event.payload)
    }

    fn handle(&self) -> Option<Self> {
        Some(Self { store: Arc::clone(&self.store) })
    }
}
