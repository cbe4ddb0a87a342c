//! The crate async-broadcast between tasks; without overflow its producer waits for the slowest consumer.

use std::process::ExitCode;

use async_broadcast::{Receiver, Sender, broadcast};
use message_bus_contest::{CAPACITY, Checksum, Contest, Flow, Message, Tasks, Work, message};

fn main() -> ExitCode {
    Contest::of("async-broadcast").tasks::<Broadcast>(&Work::STREAMS).tasks::<Broadcast>(&Work::FAN_OUT).run()
}

struct Broadcast;

impl Tasks for Broadcast {
    const NOTE: &'static str = "channel of 1,024 between tasks, overflow off, messages cloned, one at a time; the calls that box no \
                                future";
    type Producer = Sender<Message>;
    type Consumer = Receiver<Message>;

    async fn open(consumers: usize) -> (Sender<Message>, Vec<Receiver<Message>>) {
        let (sender, first) = broadcast(CAPACITY);
        let mut receivers = vec![first];
        receivers.extend((1..consumers).map(|_| sender.new_receiver()));
        (sender, receivers)
    }

    async fn produce(sender: &mut Sender<Message>, flow: Flow) {
        for number in 0..flow.messages {
            sender.broadcast_direct(message(number)).await.expect("open");
        }
    }

    async fn consume(receiver: &mut Receiver<Message>, flow: Flow) -> Checksum {
        let mut checksum = Checksum::default();
        while checksum.seen() < flow.messages {
            checksum.see(&receiver.recv_direct().await.expect("open"));
        }
        checksum
    }
}
