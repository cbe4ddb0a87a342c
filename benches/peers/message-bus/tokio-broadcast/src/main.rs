//! tokio's broadcast channel between tasks, held back so that it loses nothing.

mod window;

use std::process::ExitCode;

use message_bus_contest::{CAPACITY, Checksum, Contest, Flow, Message, Tasks, Work, message};
use tokio::sync::broadcast::{Receiver, Sender, channel};
use window::{Acknowledge, Window, window};

fn main() -> ExitCode {
    Contest::of("tokio-broadcast").tasks::<Broadcast>(&Work::STREAMS).tasks::<Broadcast>(&Work::FAN_OUT).run()
}

struct Broadcast;

impl Tasks for Broadcast {
    const NOTE: &'static str = "channel of 1,024 between tasks, messages cloned, one at a time; it overwrites what was not read, so \
                                its producer waits until every consumer has acknowledged the last half but one";
    type Producer = (Sender<Message>, Window);
    type Consumer = (Receiver<Message>, Acknowledge);

    async fn open(consumers: usize) -> (Self::Producer, Vec<Self::Consumer>) {
        let (sender, _) = channel(CAPACITY);
        let (window, acknowledge) = window(CAPACITY as u64, consumers);
        let receivers = (0..consumers).map(|_| (sender.subscribe(), acknowledge.clone())).collect();
        ((sender, window), receivers)
    }

    async fn produce((sender, window): &mut Self::Producer, flow: Flow) {
        for number in 0..flow.messages {
            window.room_for(number).await;
            sender.send(message(number)).expect("open");
        }
    }

    async fn consume((receiver, acknowledge): &mut Self::Consumer, flow: Flow) -> Checksum {
        let mut checksum = Checksum::default();
        while checksum.seen() < flow.messages {
            checksum.see(&receiver.recv().await.expect("nothing is lost"));
            acknowledge.has_read(checksum.seen());
        }
        checksum
    }
}
