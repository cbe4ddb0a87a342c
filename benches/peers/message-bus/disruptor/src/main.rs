//! The crate disruptor between two threads, both spinning without a pause: a processor each, whether messages come or not.
//!
//! Consumers are its event pollers, which are the caller's threads instead of its own: ten consumers then take one processor and
//! not ten.

use std::process::ExitCode;

use disruptor::{
    BusySpin, EventPoller, MultiConsumerBarrier, Producer, SingleConsumerBarrier, SingleProducer,
    SingleProducerBarrier, build_single_producer,
};
use message_bus_contest::{CAPACITY, Checksum, Contest, Flow, Message, Threads, Work, message, messages};

fn main() -> ExitCode {
    let [one, batches, fan_out] = Work::SPINNING;
    Contest::of("disruptor")
        .threads::<Stream>(&Work::STREAMS)
        .threads::<Stream>(&[one, batches])
        .threads::<FanOut>(&Work::FAN_OUT)
        .threads::<FanOut>(&[fan_out])
        .run()
}

type Poller = EventPoller<Message, SingleProducerBarrier>;

fn produce(producer: &mut impl Producer<Message>, flow: Flow) {
    if flow.send == 1 {
        for number in 0..flow.messages {
            producer.publish(|slot| *slot = message(number));
        }
        return;
    }
    for numbers in flow.batches() {
        producer.batch_publish(flow.send, |slots| {
            slots.zip(messages(numbers)).for_each(|(slot, message)| *slot = message);
        });
    }
}

/// Takes what there is, without a limit, as the crate's own threads do.
#[inline]
fn poll(poller: &mut Poller, checksum: &mut Checksum) {
    if let Ok(mut batch) = poller.poll() {
        (&mut batch).for_each(|message| checksum.see(message));
    }
}

struct Stream;

impl Threads for Stream {
    const NOTE: &'static str = "ring of 1,024 between threads, one producer, BusySpin: both threads burn their processors; polls take \
                                all there is, batch_publish for batches";
    type Producer = SingleProducer<Message, SingleConsumerBarrier>;
    type Consumers = Poller;

    fn open(_: usize) -> (Self::Producer, Poller) {
        let (poller, builder) = build_single_producer(CAPACITY, Message::default, BusySpin).new_event_poller();
        (builder.build(), poller)
    }

    fn produce(producer: &mut Self::Producer, flow: Flow) {
        produce(producer, flow);
    }

    fn consume(poller: &mut Poller, flow: Flow) -> Vec<Checksum> {
        let mut checksum = Checksum::default();
        while checksum.seen() < flow.messages {
            poll(poller, &mut checksum);
        }
        vec![checksum]
    }
}

struct FanOut;

impl Threads for FanOut {
    const NOTE: &'static str = "ring of 1,024, one producer, BusySpin on two threads: the second one polls all consumers in turn, since a \
                                spinning thread each would wait for a processor most of the time; polls take all there is";
    type Producer = SingleProducer<Message, MultiConsumerBarrier>;
    type Consumers = Vec<Poller>;

    fn open(consumers: usize) -> (Self::Producer, Vec<Poller>) {
        let mut builder = build_single_producer(CAPACITY, Message::default, BusySpin).with_multi_consumer();
        let mut pollers = Vec::with_capacity(consumers);
        for _ in 0..consumers {
            let (poller, extended) = builder.new_event_poller();
            pollers.push(poller);
            builder = extended;
        }
        (builder.build(), pollers)
    }

    fn produce(producer: &mut Self::Producer, flow: Flow) {
        produce(producer, flow);
    }

    fn consume(pollers: &mut Vec<Poller>, flow: Flow) -> Vec<Checksum> {
        let mut checksums = vec![Checksum::default(); pollers.len()];
        while checksums.iter().any(|checksum| checksum.seen() < flow.messages) {
            for (poller, checksum) in pollers.iter_mut().zip(&mut checksums) {
                poll(poller, checksum);
            }
        }
        checksums
    }
}
