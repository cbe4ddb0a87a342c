//! The crate kanal between tasks; for a fan-out, one channel a subscriber.

use std::process::ExitCode;

use kanal::{AsyncReceiver, AsyncSender, bounded_async};
use message_bus_contest::{CAPACITY, Checksum, Contest, Flow, Message, Tasks, Work, message};

fn main() -> ExitCode {
    Contest::of("kanal").tasks::<Channels>(&Work::STREAMS).tasks::<Channels>(&Work::FAN_OUT).run()
}

struct Channels;

impl Tasks for Channels {
    const NOTE: &'static str = "channel of 1,024 between tasks, one a subscriber; sent singly, received in batches by drain_into, which \
                                takes all there is";
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
            if flow.receive > 1 {
                receiver.drain_into(&mut batch).expect("open");
                batch.drain(..).for_each(|message| checksum.see(&message));
            }
        }
        checksum
    }
}
