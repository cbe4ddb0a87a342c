//! Loads of one stream that is alone in its store.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use harness::{Bench, BenchError};

use crate::proof::{Tally, visited};
use crate::{Contender, EventSource, PAYLOAD, expected_visit, loads_a_round};

const STREAM: &str = "orders-1";
/// Events of one save while the store is filled.
const FILL: u64 = 1_000;

/// One operation is one visit of the whole stream.
pub(crate) fn measure<C: Contender>(bench: &mut Bench, events: u64) -> Result<(), BenchError> {
    let (mut store, mut tally) = filled::<C>(events);
    let load = C::load_call(STREAM);
    let loads = loads_a_round(events);
    let expected = expected_visit(events).wrapping_mul(loads);
    bench.rounds(|| {
        let mut sum = 0_u64;
        let start = Instant::now();
        store.visit(&load, loads, |seen| sum = sum.wrapping_add(visited(seen)));
        let sum = black_box(sum);
        let elapsed = start.elapsed();
        tally.expect(expected);
        tally.observe(sum);
        (elapsed, loads)
    })?;
    tally.state(bench);
    Ok(())
}

/// One operation is one list of the whole stream, every payload of it looked at; that it is dropped again is not timed.
pub(crate) fn measure_owned<C: Contender>(bench: &mut Bench, events: u64) -> Result<(), BenchError> {
    let (mut store, mut tally) = filled::<C>(events);
    let load = C::load_call(STREAM);
    bench.rounds(|| {
        let start = Instant::now();
        let owned = black_box(store.load_owned(black_box(&load)));
        let bytes = black_box(C::payloads(&owned).map(|payload| payload.len() as u64).sum::<u64>());
        let elapsed = start.elapsed();
        tally.expect(events + events * PAYLOAD as u64);
        tally.observe(C::payloads(&owned).count() as u64 + bytes);
        (elapsed, 1)
    })?;
    tally.state(bench);
    Ok(())
}

/// A store whose one stream holds `events` events, and the proof that it does.
fn filled<C: Contender>(events: u64) -> (C, Tally) {
    let (mut store, mut source, mut tally) = (C::default(), EventSource::default(), Tally::default());
    let stream: Arc<str> = STREAM.into();
    for version in (0..events).step_by(FILL as usize) {
        let batch = source.events(FILL.min(events - version));
        let call = store.save_call(&stream, version, batch);
        store.save(vec![call]);
    }
    tally.check_stream(&mut store, STREAM, events);
    (store, tally)
}
