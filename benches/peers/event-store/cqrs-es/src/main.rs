//! `cqrs_es::mem_store::MemStore` by the calls of its `EventStore` trait.
//!
//! It checks nothing: neither version nor ids. Every commit copies the stream and puts the copy in its place; the load that the
//! framework does before is left out here, its context is built ahead. Loads and commits print a line, which goes nowhere here.

mod aggregate;
mod quiet;

use std::collections::HashMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use aggregate::{Order, OrderEvent};
use cqrs_es::mem_store::{MemStore, MemStoreAggregateContext};
use cqrs_es::{EventEnvelope, EventStore as _};
use event_store_contest::{Contender, Event, Seen, suite};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    suite::<CqrsEs>("cqrs-es").run()
}

struct CqrsEs {
    store: MemStore<Order>,
    runtime: Runtime,
}

impl Default for CqrsEs {
    fn default() -> Self {
        Self::new(MemStore::default())
    }
}

impl CqrsEs {
    fn new(store: MemStore<Order>) -> Self {
        Self { store, runtime: Builder::new_current_thread().build().expect("a runtime needs no more than memory") }
    }
}

impl Contender for CqrsEs {
    type Save = (Vec<OrderEvent>, MemStoreAggregateContext<Order>);
    type Load = String;
    type Owned = Vec<EventEnvelope<Order>>;
    type ByValue = Self;
    const NOTE: &'static str = "checks neither version nor event ids, has no order over streams and no tags; every commit copies \
                                the stream, every call prints a line (here to the null device)";
    // A commit takes the longer the more its stream holds, and would take most of a millisecond in stores of the common size.
    const LARGE: u64 = 1_024;

    fn save_call(&mut self, stream: &Arc<str>, version: u64, events: Vec<Event>) -> Self::Save {
        let context = MemStoreAggregateContext {
            aggregate_id: stream.as_ref().to_owned(),
            aggregate: Order,
            current_sequence: usize::try_from(version).expect("streams of the contest are short"),
        };
        (events.into_iter().map(OrderEvent).collect(), context)
    }

    fn load_call(stream: &str) -> String {
        stream.to_owned()
    }

    fn save(&mut self, calls: Vec<Self::Save>) {
        self.runtime.block_on(async {
            for (events, context) in calls {
                let committed = self.store.commit(events, context, HashMap::new()).await;
                black_box(committed.expect("memory does not fail"));
            }
        });
    }

    fn visit(&mut self, load: &String, times: u64, mut see: impl FnMut(Seen<'_>)) {
        self.runtime.block_on(async {
            for _ in 0..times {
                let events = self.store.load_events(black_box(load)).await.expect("memory does not fail");
                for event in &events {
                    let sequence = event.sequence as u64;
                    see(Seen { position: sequence, version: sequence - 1, payload: &event.payload.0.payload });
                }
            }
        });
    }

    fn load_owned(&mut self, load: &String) -> Self::Owned {
        self.runtime.block_on(self.store.load_events(load)).expect("memory does not fail")
    }

    fn payloads(owned: &Self::Owned) -> impl Iterator<Item = &[u8]> {
        owned.iter().map(|event| &*event.payload.0.payload)
    }

    fn handle(&self) -> Option<Self> {
        Some(Self::new(self.store.clone()))
    }

    fn hushed<R>(benchmark: impl FnOnce() -> R) -> R {
        quiet::without_output(benchmark).expect("standard output can be turned to the null device")
    }
}
