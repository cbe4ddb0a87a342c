//! tokio's bounded channel between tasks; for a fan-out, one channel a subscriber.

use std::process::ExitCode;

use message_bus_contest::{CAPACITY, Checksum, Contest, Flow, Message, Tasks, Work, message, messages};
use tokio::sync::mpsc::{Receiver, Sender, channel};

fn main() -> ExitCode {
    Contest::of("tokio-mpsc").tasks::<Channels>(&Work::STREAMS).tasks::<Channels>(&Work::FAN_OUT).run()
}

struct Channels;

impl Tasks for Channels {
    const NOTE: &'static str =
        "channel of 1,024 between tasks, one a subscriber; batches by reserve_many and recv_many";
    type Producer = Vec<Sender<Message>>;
    type Consumer = Receiver<Message>;

    async fn open(consumers: usize) -> (Vec<Sender<Message>>, Vec<Receiver<Message>>) {
        (0..consumers).map(|_| channel(CAPACITY)).unzip()
    }

    async fn produce(senders: &mut Vec<Sender<Message>>, flow: Flow) {
        for numbers in flow.batches() {
            for sender in &*senders {
                if flow.send == 1 {
                    sender.send(message(numbers.start)).await.expect("open");
                } else {
                    let permits = sender.reserve_many(flow.send).await.expect("open");
                    permits.zip(messages(numbers.clone())).for_each(|(permit, message)| permit.send(message));
                }
            }
        }
    }

    async fn consume(receiver: &mut Receiver<Message>, flow: Flow) -> Checksum {
        let mut checksum = Checksum::default();
        let mut batch = Vec::with_capacity(flow.receive);
        while checksum.seen() < flow.messages {
            if flow.receive == 1 {
                checksum.see(&receiver.recv().await.expect("open"));
            } else {
                receiver.recv_many(&mut batch, flow.receive).await;
                batch.drain(..).for_each(|message| checksum.see(&message));
            }
        }
        checksum
    }
}
