//! The ring between threads that may sleep.

use message_bus::ring::{Multicast, Subscriber};
use message_bus_contest::{CAPACITY, Checksum, Flow, Message, Threads, message, messages};

/// The ring by its blocking calls.
pub(crate) struct Blocking;

impl Threads for Blocking {
    const NOTE: &'static str =
        "ring of 1,024 between threads, blocking calls, which sleep after a short spin; read in place";
    type Producer = Multicast<Message>;
    type Consumers = Subscriber<Message>;

    fn open(_: usize) -> (Multicast<Message>, Subscriber<Message>) {
        let ring = Multicast::new(CAPACITY).expect("a valid capacity");
        let subscriber = ring.subscribe();
        (ring, subscriber)
    }

    fn produce(ring: &mut Multicast<Message>, flow: Flow) {
        if flow.send == 1 {
            for number in 0..flow.messages {
                ring.publish_blocking(message(number)).expect("open");
            }
            return;
        }
        let mut batch = Vec::with_capacity(flow.send);
        for numbers in flow.batches() {
            batch.extend(messages(numbers));
            ring.publish_all_blocking(&mut batch).expect("open");
        }
    }

    fn consume(subscriber: &mut Subscriber<Message>, flow: Flow) -> Vec<Checksum> {
        let mut checksum = Checksum::default();
        while checksum.seen() < flow.messages {
            if flow.receive == 1 {
                checksum.see(&*subscriber.next_blocking().expect("open"));
            } else {
                let batch = subscriber.next_batch_blocking(flow.receive).expect("open");
                batch.iter().for_each(|message| checksum.see(message));
            }
        }
        vec![checksum]
    }
}
