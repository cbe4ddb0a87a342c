//! The crate kanal between threads; for a fan-out, between tasks, one channel a subscriber.

use std::process::ExitCode;

use kanal::{AsyncReceiver, AsyncSender, Receiver, Sender, bounded, bounded_async};
use message_bus_contest::{CAPACITY, Checksum, Contest, Flow, Message, Tasks, Threads, Work, message};

fn main() -> ExitCode {
    Contest::of("kanal").threads::<Blocking>(&Work::STREAMS).tasks::<OneEach>(&Work::FAN_OUT).run()
}

struct Blocking;

impl Threads for Blocking {
    const NOTE: &'static str = "channel of 1,024 between threads, blocking calls; sent singly, received in batches by drain_into, \
                                which takes all there is";
    type Producer = Sender<Message>;
    type Consumers = Receiver<Message>;

    fn open(_: usize) -> (Sender<Message>, Receiver<Message>) {
        bounded(CAPACITY)
    }

    fn produce(sender: &mut Sender<Message>, flow: Flow) {
        for number in 0..flow.messages {
            sender.send(message(number)).expect("open");
        }
    }

    fn consume(receiver: &mut Receiver<Message>, flow: Flow) -> Vec<Checksum> {
        let mut checksum = Checksum::default();
        let mut batch = Vec::with_capacity(2 * CAPACITY);
        while checksum.seen() < flow.messages {
            checksum.see(&receiver.recv().expect("open"));
            if flow.receive > 1 {
                receiver.drain_into(&mut batch).expect("open");
                batch.drain(..).for_each(|message| checksum.see(&message));
            }
        }
        vec![checksum]
    }
}

struct OneEach;

impl Tasks for OneEach {
    const NOTE: &'static str = "channel of 1,024 between tasks, one a subscriber; received in batches by drain_into";
    type Producer = Vec<AsyncSender<Message>>;
    type Consumer = AsyncReceiver<Message>;

    async fn open(consumers: usize) -> (Vec<AsyncSender<Message>>, Vec<AsyncReceiver<Message>>) {
        (0..consumers).map(|_| bounded_async(CAPACITY)).unzip()
    }

    async fn produce(senders: &mut Vec<AsyncSender<Message>>, flow: Flow) {
        for number in 0..flow.messages {
            for sender in &*senders {
                sender.send(message(number)).await.expect("open");
            }
        }
    }

    async fn consume(receiver: &mut AsyncReceiver<Message>, flow: Flow) -> Checksum {
        let mut checksum = Checksum::default();
        let mut batch = Vec::with_capacity(2 * CAPACITY);
        while checksum.seen() < flow.messages {
            checksum.see(&receiver.recv().await.expect("open"));
            receiver.drain_into(&mut batch).expect("open");
            batch.drain(..).for_each(|message| checksum.see(&message));
        }
        checksum
    }
}
