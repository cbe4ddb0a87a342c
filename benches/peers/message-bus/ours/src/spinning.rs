//! The ring between threads that try until they succeed.

use std::hint::spin_loop;

use message_bus::ring::{SolePublisher, Subscriber};
use message_bus_contest::{CAPACITY, Checksum, Flow, Message, Threads, message, messages};

/// The ring by the calls that do not wait.
pub(crate) struct Spinning;

impl Threads for Spinning {
    const NOTE: &'static str = "ring of 1,024, one producer, both threads try and spin: they burn their processors; read in place, several \
                                subscribers in turn by one thread";
    type Producer = SolePublisher<Message>;
    type Consumers = Vec<Subscriber<Message>>;

    fn open(consumers: usize) -> (SolePublisher<Message>, Vec<Subscriber<Message>>) {
        let (publisher, feed) = SolePublisher::new(CAPACITY).expect("a valid capacity");
        (publisher, (0..consumers).map(|_| feed.subscribe()).collect())
    }

    fn produce(publisher: &mut SolePublisher<Message>, flow: Flow) {
        if flow.send == 1 {
            for number in 0..flow.messages {
                while publisher.try_publish(message(number)).is_err() {
                    spin_loop();
                }
            }
            return;
        }
        let mut batch = Vec::with_capacity(flow.send);
        for numbers in flow.batches() {
            batch.extend(messages(numbers));
            while publisher.try_publish_all(&mut batch).is_err() {
                spin_loop();
            }
        }
    }

    fn consume(subscribers: &mut Vec<Subscriber<Message>>, flow: Flow) -> Vec<Checksum> {
        let mut checksums = vec![Checksum::default(); subscribers.len()];
        while checksums.iter().any(|checksum| checksum.seen() < flow.messages) {
            for (subscriber, checksum) in subscribers.iter_mut().zip(&mut checksums) {
                if flow.receive == 1 {
                    if let Ok(item) = subscriber.try_next() {
                        checksum.see(&item);
                    }
                } else if let Ok(batch) = subscriber.try_next_batch(flow.receive) {
                    batch.iter().for_each(|message| checksum.see(message));
                }
            }
        }
        checksums
    }
}
