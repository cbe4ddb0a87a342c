//! Every message to each of several actors.

use kameo::mailbox;
use kameo::prelude::*;
use kameo_actors::DeliveryStrategy;
use kameo_actors::message_bus::{MessageBus, Publish, Register};
use message_bus_contest::{CAPACITY, Checksum, Flow, Tasks, message};
use tokio::sync::oneshot;

/// The message: a type of this package, as the bus goes by types.
#[derive(Clone)]
struct Numbered(message_bus_contest::Message);

/// Tells an actor how many messages it will get, and whom to tell when it has them.
struct Expect {
    messages: u64,
    done: oneshot::Sender<Checksum>,
}

/// An actor that gets every message.
#[derive(Actor, Default)]
pub(crate) struct Subscriber {
    checksum: Checksum,
    expected: Option<Expect>,
}

impl Subscriber {
    fn tell_if_done(&mut self) {
        if let Some(expected) = self.expected.take_if(|expected| expected.messages == self.checksum.seen()) {
            // Nobody listens any more only where the round has failed, which says so itself.
            let _ = expected.done.send(self.checksum.clone());
        }
    }
}

impl Message<Numbered> for Subscriber {
    type Reply = ();

    async fn handle(&mut self, message: Numbered, _: &mut Context<Self, ()>) {
        self.checksum.see(&message.0);
        self.tell_if_done();
    }
}

impl Message<Expect> for Subscriber {
    type Reply = ();

    async fn handle(&mut self, expected: Expect, _: &mut Context<Self, ()>) {
        self.expected = Some(expected);
        self.tell_if_done();
    }
}

/// The bus with its recipients.
pub(crate) struct Bus;

impl Tasks for Bus {
    const NOTE: &'static str = "MessageBus with recipient actors as tasks, mailboxes of 1,024, messages cloned; Guaranteed, the only \
                                delivery that neither drops messages nor lets them overtake each other";
    type Producer = ActorRef<MessageBus>;
    type Consumer = ActorRef<Subscriber>;

    async fn open(consumers: usize) -> (ActorRef<MessageBus>, Vec<ActorRef<Subscriber>>) {
        let bus =
            MessageBus::spawn_with_mailbox(MessageBus::new(DeliveryStrategy::Guaranteed), mailbox::bounded(CAPACITY));
        let mut subscribers = Vec::new();
        for _ in 0..consumers {
            let subscriber = Subscriber::spawn_with_mailbox(Subscriber::default(), mailbox::bounded(CAPACITY));
            bus.ask(Register(subscriber.clone().recipient::<Numbered>())).await.expect("the bus runs");
            subscribers.push(subscriber);
        }
        (bus, subscribers)
    }

    async fn produce(bus: &mut ActorRef<MessageBus>, flow: Flow) {
        for number in 0..flow.messages {
            bus.tell(Publish(Numbered(message(number)))).await.expect("the bus runs");
        }
    }

    async fn consume(subscriber: &mut ActorRef<Subscriber>, flow: Flow) -> Checksum {
        let (done, when_done) = oneshot::channel();
        subscriber.tell(Expect { messages: flow.messages, done }).await.expect("the actor runs");
        when_done.await.expect("the actor runs")
    }
}
