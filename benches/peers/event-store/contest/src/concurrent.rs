//! Saves from two threads at once, each to streams of its own.

use std::sync::{Arc, Mutex};

use harness::{Bench, BenchError, together};

use crate::proof::Tally;
use crate::{Contender, EVENTS_A_ROUND, EventSource};

const STREAMS: u64 = 10;
const THREADS: u64 = 2;

/// One operation is one event to each of the ten streams. Every round has a store of its own.
pub(crate) fn measure<C: Contender>(bench: &mut Bench) -> Result<(), BenchError> {
    let mut tally = Tally::default();
    bench.rounds(|| {
        let mut store = C::default();
        let handle = || store.handle().expect("only contenders that threads can share are asked");
        let handles: Mutex<Vec<C>> = Mutex::new((0..THREADS).map(|_| handle()).collect());
        let each = EVENTS_A_ROUND / STREAMS;
        let prepare = |thread: usize| {
            let mut store = handles.lock().expect("no thread panics here").pop().expect("a handle a thread");
            let calls = calls(&mut store, thread as u64, each);
            (store, calls)
        };
        let (elapsed, _handles) = together(THREADS as usize, prepare, |(mut store, calls)| {
            store.save(calls);
            store
        });
        for (thread, stream) in (0..THREADS).flat_map(streams_of) {
            tally.check_stream(&mut store, &name(thread, stream), each);
        }
        (elapsed, each)
    })?;
    tally.state(bench);
    Ok(())
}

/// One event to each of the thread's streams in turn, `each` times over.
fn calls<C: Contender>(store: &mut C, thread: u64, each: u64) -> Vec<C::Save> {
    let mut source = EventSource::for_thread(thread);
    let names: Vec<Arc<str>> = streams_of(thread).map(|(thread, stream)| name(thread, stream).into()).collect();
    let places = (0..each).flat_map(|version| names.iter().map(move |name| (name, version)));
    places.map(|(name, version)| store.save_call(name, version, source.events(1))).collect()
}

fn streams_of(thread: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..STREAMS / THREADS).map(move |stream| (thread, stream))
}

fn name(thread: u64, stream: u64) -> String {
    format!("order-{thread}-{stream}")
}
