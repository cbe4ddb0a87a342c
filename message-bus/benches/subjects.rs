//! What a publish to a subject costs: where its route is known, where it is not, and where subscriptions come and go. A hundred thousand
//! patterns are subscribed to.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::{Bench, BenchError, Suite};
use message_bus::{Bus, Delivery, HandlerError, RawMessage, Subject, Subscription};
use tokio::runtime::Runtime;

/// Patterns that others subscribe to.
const PATTERNS: u64 = 100_000;
/// Publishes in a round.
const ROUND: u64 = 10_000;

fn main() -> ExitCode {
    Suite::new()
        .bench("message-bus/subjects/route-known", |bench: &mut Bench| publish(bench, 64))
        .bench("message-bus/subjects/route-unknown", |bench: &mut Bench| publish(bench, PATTERNS))
        .bench("message-bus/subjects/subscribe-and-end", subscribe_and_end)
        .bench("message-bus/subjects/request", request)
        .run()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn subject(number: u64) -> Subject {
    Subject::new(&format!("shop.{}.orders.{number}.placed", number % 100)).expect("a subject")
}

/// Every subject has a subscription of its own, and a wildcard matches all: a publish calls two.
fn subscribed(bus: &Bus, calls: &Arc<AtomicU64>) -> Vec<Subscription> {
    let patterns = (0..PATTERNS).map(|number| subject(number).to_string()).chain(["shop.*.orders.>".to_owned()]);
    let subscribe = |pattern: String| {
        let calls = Arc::clone(calls);
        let handler = move |_: &RawMessage| calls.store(calls.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        bus.subject_subscription(&pattern).expect("a pattern").run_sync(handler).expect("open")
    };
    patterns.map(subscribe).collect()
}

/// To one subject after the other, of so many.
fn publish(bench: &mut Bench, subjects: u64) -> Result<(), BenchError> {
    let (runtime, bus, calls) = (runtime(), Bus::new(), Arc::new(AtomicU64::new(0)));
    let _subscriptions = subscribed(&bus, &calls);
    // In an order in which no two of the same place in the table of routes follow each other.
    let messages: Vec<RawMessage> =
        (0..subjects).map(|number| RawMessage::new(subject(number * 7_919 % PATTERNS), Bytes::new())).collect();
    let mut next = messages.iter().cycle();
    let rounds = bench.rounds(|| {
        let batch: Vec<RawMessage> = next.by_ref().take(ROUND as usize).cloned().collect();
        let elapsed = runtime.block_on(async {
            let start = Instant::now();
            for message in batch {
                bus.publish_subject(message).await.expect("succeeds");
            }
            start.elapsed()
        });
        (elapsed, ROUND)
    })?;
    bench.proof(rounds * ROUND * 2, calls.load(Ordering::Relaxed));
    Ok(())
}

/// One operation is both, and the first publish after each of them.
fn subscribe_and_end(bench: &mut Bench) -> Result<(), BenchError> {
    const TIMES: u64 = 200;
    let (runtime, bus, calls) = (runtime(), Bus::new(), Arc::new(AtomicU64::new(0)));
    let _subscriptions = subscribed(&bus, &calls);
    let (message, mut called) = (RawMessage::new(subject(7), Bytes::new()), 0);
    let rounds = bench.rounds(|| {
        let mut elapsed = Duration::ZERO;
        for _ in 0..TIMES {
            let start = Instant::now();
            let more = bus.subject_subscription("shop.7.>").expect("a pattern").run_sync(|_: &RawMessage| {});
            let more = more.expect("open");
            let with = runtime.block_on(bus.publish_subject(message.clone())).expect("succeeds");
            drop(more);
            let without = runtime.block_on(bus.publish_subject(message.clone())).expect("succeeds");
            elapsed += start.elapsed();
            called += with.called + without.called;
        }
        (elapsed, TIMES)
    })?;
    bench.proof(rounds * TIMES * 5, called);
    Ok(())
}

fn request(bench: &mut Bench) -> Result<(), BenchError> {
    const REQUESTS: u64 = 1_000;
    let (runtime, bus) = (runtime(), Bus::new());
    let echo = |request: Delivery<RawMessage>| std::future::ready(Ok::<_, HandlerError>(request.payload.clone()));
    let _responder = bus.respond("echo", echo).expect("open");
    let (message, mut bytes) = (RawMessage::new(Subject::new("echo").expect("a subject"), "12345678"), 0);
    let rounds = bench.rounds(|| {
        runtime.block_on(async {
            let start = Instant::now();
            for _ in 0..REQUESTS {
                let answer = bus.request(message.clone(), Duration::from_secs(10)).await.expect("answered");
                bytes += answer.payload.len() as u64;
            }
            (start.elapsed(), REQUESTS)
        })
    })?;
    bench.proof(rounds * REQUESTS * 8, bytes);
    Ok(())
}
