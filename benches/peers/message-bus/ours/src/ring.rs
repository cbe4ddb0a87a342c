//! The ring between tasks: subscribers read in place.

use message_bus::ring::{SolePublisher, Subscriber};
use message_bus_contest::{CAPACITY, Checksum, Flow, Message, Tasks, message, messages};

/// The ring by its asynchronous calls.
pub(crate) struct Ring;

impl Tasks for Ring {
    const NOTE: &'static str = "ring of 1,024 between tasks, one producer; messages lie in the ring, where subscribers read them; batches by \
                                publish_all and next_batch";
    type Producer = SolePublisher<Message>;
    type Consumer = Subscriber<Message>;

    async fn open(consumers: usize) -> (SolePublisher<Message>, Vec<Subscriber<Message>>) {
        let (publisher, feed) = SolePublisher::new(CAPACITY).expect("a valid capacity");
        (publisher, (0..consumers).map(|_| feed.subscribe()).collect())
    }

    async fn produce(publisher: &mut SolePublisher<Message>, flow: Flow) {
        if flow.send == 1 {
            for number in 0..flow.messages {
                publisher.publish(message(number)).await.expect("open");
            }
            return;
        }
        let mut batch = Vec::with_capacity(flow.send);
        for numbers in flow.batches() {
            batch.extend(messages(numbers));
            publisher.publish_all(&mut batch).await.expect("open");
        }
    }

    async fn consume(subscriber: &mut Subscriber<Message>, flow: Flow) -> Checksum {
        let mut checksum = Checksum::default();
        while checksum.seen() < flow.messages {
            if flow.receive == 1 {
                checksum.see(&subscriber.next().await.expect("open"));
            } else {
                let batch = subscriber.next_batch(flow.receive).await.expect("open");
                batch.iter().for_each(|message| checksum.see(message));
            }
        }
        checksum
    }
}
