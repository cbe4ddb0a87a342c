//! Saves from two threads at once, each to streams of its own.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{Bench, BenchError, together};

use crate::proof::Tally;
use crate::{Contender, EventSource};

const STREAMS: u64 = 10;
const THREADS: u64 = 2;
/// Events that a stream gets in one round: enough that how the threads started does not matter.
const EVENTS_A_STREAM: u64 = 512;
/// Rounds that a store serves at least before it is replaced.
const ROUNDS_A_STORE: u64 = 3;

/// One operation is one event to each of the ten streams.
pub(crate) fn measure<C: Contender>(bench: &mut Bench) -> Result<(), BenchError> {
    let mut growing = Growing::<C>::new();
    bench.rounds(|| growing.round())?;
    growing.retire();
    growing.tally.state(bench);
    Ok(())
}

/// A store that serves several rounds, so that its growth is spread over its saves as it is in use.
struct Growing<C> {
    sources: Vec<EventSource>,
    store: C,
    /// Events of each stream.
    version: u64,
    tally: Tally,
}

impl<C: Contender> Growing<C> {
    fn new() -> Self {
        let sources = (0..THREADS).map(EventSource::for_thread).collect();
        Self { sources, store: C::default(), version: 0, tally: Tally::default() }
    }

    fn round(&mut self) -> (Duration, u64) {
        let each = EVENTS_A_STREAM.min(C::LARGE / STREAMS / ROUNDS_A_STORE);
        if (self.version + each) * STREAMS > C::LARGE {
            self.retire();
        }
        let store = &self.store;
        let handle = || store.handle().expect("only contenders that threads can share are asked");
        let handles: Vec<Mutex<Option<(C, &mut EventSource)>>> =
            self.sources.iter_mut().map(|source| Mutex::new(Some((handle(), source)))).collect();
        let version = self.version;
        let prepare = |thread: usize| {
            let taken = handles[thread].lock().expect("no thread panics here").take();
            let (mut store, source) = taken.expect("a handle a thread");
            let calls = calls(&mut store, source, thread as u64, version..version + each);
            (store, calls)
        };
        let (elapsed, _handles) = together(THREADS as usize, prepare, |(mut store, calls)| {
            store.save(calls);
            store
        });
        self.version += each;
        (elapsed, each)
    }

    /// Proves what the store holds and starts with an empty one.
    fn retire(&mut self) {
        for (thread, stream) in (0..THREADS).flat_map(streams_of) {
            self.tally.check_stream(&mut self.store, &name(thread, stream), self.version);
        }
        self.store = C::default();
        self.version = 0;
    }
}

/// One event to each of the thread's streams in turn, for each of the `versions`.
fn calls<C: Contender>(store: &mut C, source: &mut EventSource, thread: u64, versions: Range<u64>) -> Vec<C::Save> {
    let names: Vec<Arc<str>> = streams_of(thread).map(|(thread, stream)| name(thread, stream).into()).collect();
    let places = versions.flat_map(|version| names.iter().map(move |name| (name, version)));
    places.map(|(name, version)| store.save_call(name, version, source.events(1))).collect()
}

fn streams_of(thread: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..STREAMS / THREADS).map(move |stream| (thread, stream))
}

fn name(thread: u64, stream: u64) -> String {
    format!("order-{thread}-{stream}")
}
