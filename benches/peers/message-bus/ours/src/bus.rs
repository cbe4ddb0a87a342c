//! Synchronous handlers that a publisher calls.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use message_bus::{Bus, Publisher, Subscription, event};
use message_bus_contest::{Inline, runtime_of_one_thread};
use tokio::runtime::Runtime;

/// The event.
struct Number(u64);
event!(Number);

/// A bus and its handlers.
pub(crate) struct Handlers {
    runtime: Runtime,
    publisher: Publisher<Number>,
    sums: Vec<Arc<AtomicU64>>,
    /// Dropped, they close the bus and end the subscriptions.
    _bus: Bus,
    _subscriptions: Vec<Subscription>,
}

impl Inline for Handlers {
    const NOTE: &'static str =
        "Publisher, awaited, with synchronous handlers: causes of failures kept, panics contained";

    fn with_handlers(handlers: u64) -> Self {
        let bus = Bus::new();
        let sums: Vec<Arc<AtomicU64>> = (0..handlers).map(|_| Arc::default()).collect();
        let subscribe = |sum: &Arc<AtomicU64>| {
            let sum = Arc::clone(sum);
            // One thread adds: no locked instruction, as little as for an actor that owns its sum.
            let handler = move |number: &Number| sum.store(sum.load(Ordering::Relaxed) + number.0, Ordering::Relaxed);
            bus.subscribe_sync(handler).expect("the bus is open")
        };
        let subscriptions = sums.iter().map(subscribe).collect();
        let (runtime, publisher) = (runtime_of_one_thread(), bus.publisher());
        Self { runtime, publisher, sums, _bus: bus, _subscriptions: subscriptions }
    }

    fn publish(&mut self, numbers: Range<u64>) {
        self.runtime.block_on(async {
            for number in numbers {
                self.publisher.publish(Number(number)).await.expect("no handler fails");
            }
        });
    }

    fn sum(&mut self) -> u64 {
        self.sums.iter().map(|sum| sum.load(Ordering::Relaxed)).sum()
    }
}
