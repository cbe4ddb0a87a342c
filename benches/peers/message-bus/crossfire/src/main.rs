//! The crate crossfire between tasks; for a fan-out, one channel a subscriber.

use std::process::ExitCode;

use crossfire::spsc::{Array, bounded_async};
use crossfire::{AsyncRx, AsyncTx, detect_backoff_cfg};
use message_bus_contest::{CAPACITY, Checksum, Contest, Flow, Message, Tasks, Work, message};

fn main() -> ExitCode {
    // What its documentation asks for on machines with few processors.
    detect_backoff_cfg();
    Contest::of("crossfire").tasks::<Channels>(&Work::STREAMS).tasks::<Channels>(&Work::FAN_OUT).run()
}

struct Channels;

impl Tasks for Channels {
    const NOTE: &'static str =
        "spsc channel of 1,024 between tasks, one a subscriber, detect_backoff_cfg called; it has no batches";
    type Producer = Vec<AsyncTx<Array<Message>>>;
    type Consumer = AsyncRx<Array<Message>>;

    async fn open(consumers: usize) -> (Self::Producer, Vec<Self::Consumer>) {
        (0..consumers).map(|_| bounded_async(CAPACITY)).unzip()
    }

    async fn produce(senders: &mut Self::Producer, flow: Flow) {
        for number in 0..flow.messages {
            for sender in &mut *senders {
                sender.send(message(number)).await.expect("open");
            }
        }
    }

    async fn consume(receiver: &mut Self::Consumer, flow: Flow) -> Checksum {
        let mut checksum = Checksum::default();
        while checksum.seen() < flow.messages {
            checksum.see(&receiver.recv().await.expect("open"));
        }
        checksum
    }
}
