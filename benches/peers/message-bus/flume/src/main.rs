//! The crate flume between tasks; for a fan-out, one channel a subscriber.

use std::process::ExitCode;

use flume::{Receiver, Sender, bounded};
use message_bus_contest::{CAPACITY, Checksum, Contest, Flow, Message, Tasks, Work, message};

fn main() -> ExitCode {
    Contest::of("flume").tasks::<Channels>(&Work::STREAMS).tasks::<Channels>(&Work::FAN_OUT).run()
}

struct Channels;

impl Tasks for Channels {
    const NOTE: &'static str = "channel of 1,024 between tasks, one a subscriber; sent singly, received in batches by drain, which takes \
                                all there is";
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
            if flow.receive > 1 {
                receiver.drain().for_each(|message| checksum.see(&message));
            }
        }
        checksum
    }
}
