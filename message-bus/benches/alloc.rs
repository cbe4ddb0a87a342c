//! Allocations a publish and memory a slot: counted, in a binary of its own.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::executor::block_on;
use harness::{Bench, BenchError, CountingAlloc, Suite, alloc_scope};
use message_bus::ring::Multicast;
use message_bus::{Bus, Delivery, HandlerError, Overflow, RawMessage, Subject, command, event};
use tokio::runtime::Runtime;
use tokio::task::yield_now;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::system();

const PUBLISHES: u64 = 1_000;

fn main() -> ExitCode {
    Suite::new()
        .bench("message-bus/allocs/publish-inline", inline)
        .bench("message-bus/allocs/publish-queued", queued)
        .bench("message-bus/allocs/publish-subject", subject)
        .bench("message-bus/allocs/send-command", commands)
        .bench("message-bus/allocs/ring", ring)
        .bench("message-bus/allocs/fan-out-10-megabytes", large_payload)
        .bench("message-bus/memory/slot-in-place", slot_in_place)
        .bench("message-bus/memory/slot-shared", slot_shared)
        .run()
}

/// A typical message: it holds something on the heap, hence has a niche.
struct Order {
    number: u64,
    _name: String,
}
event!(Order);

struct Double(u64);
command!(Double => u64);

struct Large(Vec<u8>);
event!(Large);

fn order(number: u64) -> Order {
    Order { number, _name: String::new() }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Counts what `PUBLISHES` publishes allocate when as many have gone before.
fn counted(
    bench: &mut Bench,
    calls_a_publish: u64,
    calls: &AtomicU64,
    publish_all: impl Fn(),
) -> Result<(), BenchError> {
    publish_all();
    let before = calls.load(Ordering::Relaxed);
    let ((), stats) = alloc_scope(publish_all);
    bench.allocations(PUBLISHES, stats)?;
    bench.proof(PUBLISHES * calls_a_publish, calls.load(Ordering::Relaxed) - before);
    Ok(())
}

/// Two synchronous handlers and ten that yield once, on one type.
fn inline(bench: &mut Bench) -> Result<(), BenchError> {
    let (bus, calls) = (Bus::new(), Arc::new(AtomicU64::new(0)));
    let mut subscriptions = Vec::new();
    for _ in 0..2 {
        let calls = Arc::clone(&calls);
        let handler = move |order: &Order| {
            calls.fetch_add(order.number, Ordering::Relaxed);
        };
        subscriptions.push(bus.subscribe_sync(handler).expect("open"));
    }
    for _ in 0..10 {
        let calls = Arc::clone(&calls);
        let handler = move |order: Delivery<Order>| {
            let calls = Arc::clone(&calls);
            async move {
                yield_now().await;
                calls.fetch_add(order.number, Ordering::Relaxed);
            }
        };
        subscriptions.push(bus.subscribe(handler).expect("open"));
    }
    let publisher = bus.publisher();
    counted(bench, 12, &calls, || {
        for _ in 0..PUBLISHES {
            block_on(publisher.publish(order(1))).expect("succeeds");
        }
    })
}

/// Three queues, worked off between the publishes, one of them lossy.
fn queued(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, bus, calls) = (runtime(), Bus::new(), Arc::new(AtomicU64::new(0)));
    let guard = runtime.enter();
    let subscriptions: Vec<_> = [Overflow::Block, Overflow::Error, Overflow::DropOldest]
        .map(|overflow| {
            let calls = Arc::clone(&calls);
            let handler = move |order: Delivery<Order>| {
                calls.fetch_add(order.number, Ordering::Relaxed);
                std::future::ready(())
            };
            bus.subscription().queue(64).overflow(overflow).run(handler).expect("valid")
        })
        .into();
    drop(guard);
    let publisher = bus.publisher();
    let result = counted(bench, 3, &calls, || {
        runtime.block_on(async {
            for round in 1..=PUBLISHES {
                publisher.publish(order(1)).await.expect("room");
                if round % 8 == 0 {
                    for _ in 0..4 {
                        yield_now().await;
                    }
                }
            }
        });
    });
    drop(subscriptions);
    result
}

/// A synchronous and an asynchronous handler and a queue, by three patterns. The messages exist before.
fn subject(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, bus, calls) = (runtime(), Bus::new(), Arc::new(AtomicU64::new(0)));
    let count = |calls: &Arc<AtomicU64>| {
        let calls = Arc::clone(calls);
        move || {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (synchronous, asynchronous, queued) = (count(&calls), count(&calls), count(&calls));
    let handler = move |_: &RawMessage| synchronous();
    let _synchronous = bus.subject_subscription("a.b").expect("a pattern").run_sync(handler).expect("open");
    let handler = move |_: Delivery<RawMessage>| {
        asynchronous();
        yield_now()
    };
    let _asynchronous = bus.subscribe_subject("a.*", handler).expect("open");
    let handler = move |_: Delivery<RawMessage>| {
        queued();
        std::future::ready(())
    };
    let queue = {
        let _inside = runtime.enter();
        bus.subject_subscription(">").expect("a pattern").queue(64).run(handler).expect("open")
    };
    let message = RawMessage::new(Subject::new("a.b").expect("a subject"), "payload");
    counted(bench, 3, &calls, || {
        runtime.block_on(async {
            let delivered = || queue.stats().expect("a queue").delivered;
            let before = delivered();
            for _ in 0..PUBLISHES {
                bus.publish_subject(message.clone()).await.expect("room comes");
            }
            while delivered() < before + PUBLISHES {
                yield_now().await;
            }
        });
    })
}

fn commands(bench: &mut Bench) -> Result<(), BenchError> {
    let (bus, replies) = (Bus::new(), AtomicU64::new(0));
    let handler = async |command: Double| {
        yield_now().await;
        Ok::<_, HandlerError>(command.0 * 2)
    };
    let _subscription = bus.handle(handler).expect("the first");
    counted(bench, 2, &replies, || {
        for _ in 0..PUBLISHES {
            replies.fetch_add(block_on(bus.send(Double(1))).expect("answered"), Ordering::Relaxed);
        }
    })
}

/// Publishing to and reading from a ring, singly and in batches.
fn ring(bench: &mut Bench) -> Result<(), BenchError> {
    let read = AtomicU64::new(0);
    let ring = Multicast::new(64).expect("valid");
    let subscriber = std::cell::RefCell::new(ring.subscribe());
    let batch = std::cell::RefCell::new(Vec::with_capacity(32));
    counted(bench, 33, &read, || {
        let (mut subscriber, mut batch) = (subscriber.borrow_mut(), batch.borrow_mut());
        for _ in 0..PUBLISHES {
            ring.try_publish(1).expect("room");
            batch.resize(32, 1);
            ring.try_publish_all(&mut batch).expect("room");
            while let Ok(messages) = subscriber.try_next_batch(8) {
                read.fetch_add(messages.iter().sum(), Ordering::Relaxed);
            }
        }
    })
}

/// Ten handlers get a payload of 10 MB: nothing of it is copied.
fn large_payload(bench: &mut Bench) -> Result<(), BenchError> {
    const BYTES: usize = 10_000_000;
    const MESSAGES: u64 = 4;
    let (bus, calls) = (Bus::new(), Arc::new(AtomicU64::new(0)));
    let _subscriptions: Vec<_> = (0..10)
        .map(|_| {
            let calls = Arc::clone(&calls);
            let handler = move |large: Delivery<Large>| {
                calls.fetch_add(large.0.len() as u64, Ordering::Relaxed);
                std::future::ready(())
            };
            bus.subscribe(handler).expect("open")
        })
        .collect();
    let publisher = bus.publisher();
    block_on(publisher.publish(Large(Vec::new()))).expect("succeeds");
    let payloads: Vec<Large> = (0..MESSAGES).map(|_| Large(vec![1; BYTES])).collect();
    let ((), stats) = alloc_scope(|| {
        for payload in payloads {
            block_on(publisher.publish(payload)).expect("succeeds");
        }
    });
    bench.allocations(MESSAGES, stats)?;
    bench.proof(MESSAGES * 10 * BYTES as u64, calls.load(Ordering::Relaxed));
    Ok(())
}

/// Beyond the message itself.
fn slot_in_place(bench: &mut Bench) -> Result<(), BenchError> {
    let build = |capacity: u64| Multicast::<[u64; 8]>::new(capacity as usize).expect("valid");
    bench.memory_per_item(&[1 << 12, 1 << 14, 1 << 16], 64, build, |ring| ring.capacity() as u64)?;
    bench.proof((1 << 12) + (1 << 14) + (1 << 16), bench.observed());
    Ok(())
}

/// The same where messages are shared: a queue that is full of them.
fn slot_shared(bench: &mut Bench) -> Result<(), BenchError> {
    let build = |capacity: u64| {
        let (runtime, capacity) = (runtime(), capacity as usize);
        let bus = Bus::builder().ring_capacity(capacity).build().expect("valid");
        let subscription = {
            let _guard = runtime.enter();
            bus.subscription().queue(capacity).run(|_: Delivery<Order>| async {}).expect("valid")
        };
        let publisher = bus.publisher();
        let accepted = (0..capacity as u64).filter(|number| publisher.try_publish(order(*number)).is_ok()).count();
        (runtime, bus, subscription, accepted)
    };
    bench.memory_per_item(&[1 << 12, 1 << 14, 1 << 16], size_of::<Order>() as u64, build, |built| built.3 as u64)?;
    bench.proof((1 << 12) + (1 << 14) + (1 << 16), bench.observed());
    Ok(())
}
