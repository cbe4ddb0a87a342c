//! Publishes whose handlers, recipient actors, have run.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kameo::prelude::*;
use kameo_actors::DeliveryStrategy;
use kameo_actors::message_bus::{MessageBus, Publish, Register};
use message_bus_contest::{Inline, runtime_of_one_thread};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// The event.
#[derive(Clone)]
struct Number(u64);

/// Tells how much a handler has added up.
struct Sum;

/// An actor that handles the event.
#[derive(Actor)]
struct Handler {
    sum: u64,
    running: Arc<Running>,
}

/// Handlers that have yet to run for the last event; the last of them wakes the publisher.
#[derive(Default)]
struct Running {
    handlers: AtomicU64,
    done: Notify,
}

impl Message<Number> for Handler {
    type Reply = ();

    async fn handle(&mut self, number: Number, _: &mut Context<Self, ()>) {
        self.sum += number.0;
        if self.running.handlers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.running.done.notify_one();
        }
    }
}

impl Message<Sum> for Handler {
    type Reply = u64;

    async fn handle(&mut self, _: Sum, _: &mut Context<Self, u64>) -> u64 {
        self.sum
    }
}

/// The bus, its recipients, and the thread that all of them run on.
pub(crate) struct Handlers {
    runtime: Runtime,
    bus: ActorRef<MessageBus>,
    handlers: Vec<ActorRef<Handler>>,
    running: Arc<Running>,
}

impl Inline for Handlers {
    const NOTE: &'static str = "MessageBus with Guaranteed delivery and recipient actors on the publisher's thread; its publish ends when \
                                the message is in the mailboxes, so the last recipient that has run wakes the publisher: less than \
                                asking each";

    fn with_handlers(handlers: u64) -> Self {
        let (runtime, running) = (runtime_of_one_thread(), Arc::<Running>::default());
        let (bus, handlers) = runtime.block_on(async {
            let bus = MessageBus::spawn(MessageBus::new(DeliveryStrategy::Guaranteed));
            let mut actors = Vec::new();
            for _ in 0..handlers {
                let handler = Handler::spawn(Handler { sum: 0, running: Arc::clone(&running) });
                bus.ask(Register(handler.clone().recipient::<Number>())).await.expect("the bus runs");
                actors.push(handler);
            }
            (bus, actors)
        });
        Self { runtime, bus, handlers, running }
    }

    fn publish(&mut self, numbers: Range<u64>) {
        let Self { runtime, bus, handlers, running } = self;
        runtime.block_on(async {
            for number in numbers {
                running.handlers.store(handlers.len() as u64, Ordering::Release);
                bus.tell(Publish(Number(number))).await.expect("the bus runs");
                running.done.notified().await;
            }
        });
    }

    fn sum(&mut self) -> u64 {
        let Self { runtime, handlers, .. } = self;
        runtime.block_on(async {
            let mut sum = 0;
            for handler in handlers {
                sum += handler.ask(Sum).await.expect("the handler runs");
            }
            sum
        })
    }
}
