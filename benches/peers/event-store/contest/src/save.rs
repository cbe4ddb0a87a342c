//! Saves from one thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Bench, BenchError};

use crate::proof::Tally;
use crate::{Contender, EVENTS_A_ROUND, EventSource};

/// One operation is one call with `batch` events.
pub(crate) fn measure<C: Contender>(bench: &mut Bench, batch: u64) -> Result<(), BenchError> {
    let mut growing = Growing::<C>::new(batch);
    bench.rounds(|| growing.round())?;
    growing.retire();
    growing.tally.state(bench);
    bench.note(format!("the largest store held {} events", growing.largest));
    Ok(())
}

/// A store that serves several rounds, so that its growth is spread over its saves as it is in use.
struct Growing<C> {
    batch: u64,
    source: EventSource,
    /// Names of the streams so far, kept over all stores.
    names: Vec<Arc<str>>,
    store: C,
    calls: u64,
    largest: u64,
    tally: Tally,
}

impl<C: Contender> Growing<C> {
    fn new(batch: u64) -> Self {
        Self {
            batch,
            source: EventSource::default(),
            names: Vec::new(),
            store: C::default(),
            calls: 0,
            largest: 0,
            tally: Tally::default(),
        }
    }

    fn round(&mut self) -> (Duration, u64) {
        let calls = EVENTS_A_ROUND.div_ceil(self.batch);
        if (self.calls + calls) * self.batch > C::LARGE {
            self.retire();
        }
        let built: Vec<C::Save> = (self.calls..self.calls + calls).map(|call| self.build(call)).collect();
        let start = Instant::now();
        self.store.save(built);
        let elapsed = start.elapsed();
        self.calls += calls;
        (elapsed, calls)
    }

    fn build(&mut self, call: u64) -> C::Save {
        let events = self.source.events(self.batch);
        // Single events go to one stream that grows, batches each to a stream of their own.
        let (stream, version) = if self.batch == 1 { (0, call) } else { (call, 0) };
        let stream = self.name(stream);
        self.store.save_call(&stream, version, events)
    }

    /// Proves what the store holds and starts with an empty one.
    fn retire(&mut self) {
        let (streams, events) = if self.batch == 1 { (1, self.calls) } else { (self.calls, self.batch) };
        for stream in 0..streams {
            let stream = self.name(stream);
            self.tally.check_stream(&mut self.store, &stream, events);
        }
        self.largest = self.largest.max(self.calls * self.batch);
        self.store = C::default();
        self.calls = 0;
    }

    fn name(&mut self, stream: u64) -> Arc<str> {
        while self.names.len() as u64 <= stream {
            self.names.push(format!("orders-{}", self.names.len()).into());
        }
        Arc::clone(&self.names[stream as usize])
    }
}
