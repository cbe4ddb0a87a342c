//! The crate flume between threads; for a fan-out, between tasks, one channel a subscriber.

use std::process::ExitCode;

use flume::{Receiver, Sender, bounded};
use message_bus_contest::{CAPACITY, Checksum, Contest, Flow, Message, Tasks, Threads, Work, message};

fn main() -> ExitCode {
    Contest::of("flume").threads::<Blocking>(&Work::STREAMS).tasks::<OneEach>(&Work::FAN_OUT).run()
}

struct Blocking;

impl Threads for Blocking {
    const NOTE: &'static str = "channel of 1,024 between threads, blocking calls; sent singly, received in batches by drain, which \
                                takes all there is";
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
        while checksum.seen() < flow.messages {
            checksum.see(&receiver.recv().expect("open"));
            if flow.receive > 1 {
                receiver.drain().for_each(|message| checksum.see(&message));
            }
        }
        vec![checksum]
    }
}

struct OneEach;

impl Tasks for OneEach {
    const NOTE: &'static str = "channel of 1,024 between tasks, one a subscriber; received in batches by drain";
    type Producer = Vec<Sender<Message>>;
    type Consumer = Receiver<Message>;

    async fn open(consumers: usize) -> (Vec<Sender<Message>>, Vec<Receiver<Message>>) {
        (0..consumers).map(|_| bounded(CAPACITY)).unzip()
    }

    async fn produce(senders: &mut Vec<Sender<Message>>, flow: Flow) {
        for number in 0..flow.messages {
            for sender in &*senders {
                sender.send_async(message(number)).await.expect("open");
            }
        }
    }

    async fn consume(receiver: &mut Receiver<Message>, flow: Flow) -> Checksum {
        let mut checksum = Checksum::default();
        while checksum.seen() < flow.messages {
            checksum.see(&receiver.recv_async().await.expect("open"));
            receiver.drain().for_each(|message| checksum.see(&message));
        }
        checksum
    }
}
