//! A producer on one thread, all consumers on another.

use std::sync::Mutex;

use harness::{Bench, BenchError, together};

use crate::tally::Tally;
use crate::{Checksum, Flow, Work};

/// A queue between threads.
pub trait Threads: 'static {
    /// How it is set up and called; every report repeats it.
    const NOTE: &'static str;
    /// The side that sends.
    type Producer: Send;
    /// The side that receives, all consumers of it.
    type Consumers: Send;

    /// Not timed: an empty queue of [`CAPACITY`](crate::CAPACITY) with so many consumers, each of which gets every message.
    fn open(consumers: usize) -> (Self::Producer, Self::Consumers);

    /// Timed: sends the messages of the flow.
    fn produce(producer: &mut Self::Producer, flow: Flow);

    /// Timed: takes the messages of the flow; a checksum a consumer.
    fn consume(consumers: &mut Self::Consumers, flow: Flow) -> Vec<Checksum>;
}

enum Side<P, C> {
    Producer(P),
    Consumers(C),
}

/// One operation is one message, to all consumers.
pub(crate) fn measure<C: Threads>(bench: &mut Bench, work: Work) -> Result<(), BenchError> {
    bench.note(C::NOTE);
    let (flow, consumers) = work.flow();
    let mut tally = Tally::new(flow, consumers);
    bench.rounds(|| {
        let (producer, receivers) = C::open(consumers);
        let sides = Mutex::new(vec![Side::Consumers(receivers), Side::Producer(producer)]);
        let take = |_| sides.lock().expect("no thread panics here").pop().expect("a side a thread");
        // The sides come back, so that what it takes to drop them is not in the time.
        let (elapsed, sides) = together(2, take, |side: Side<C::Producer, C::Consumers>| match side {
            Side::Producer(mut producer) => {
                C::produce(&mut producer, flow);
                (Vec::new(), Side::Producer(producer))
            }
            Side::Consumers(mut consumers) => {
                let checksums = C::consume(&mut consumers, flow);
                (checksums, Side::Consumers(consumers))
            }
        });
        tally.add(sides.iter().flat_map(|(checksums, _)| checksums));
        (elapsed, flow.messages)
    })?;
    tally.state(bench);
    Ok(())
}
