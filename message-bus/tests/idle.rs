//! Subscribers that have nothing to do, do nothing. Alone in its binary: it looks at the whole process.
//!
//! `IDLE_SECONDS=30 cargo test -p message-bus --test idle` takes the full time.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use message_bus::ring::{Loss, Multicast};
use message_bus::{Bus, Delivery, FixedDelay, Overflow};
use support::{Calls, Order, balanced, until};

/// Nanoseconds on a processor and times put on one, of all threads so far (the first and third number of `schedstat`).
fn activity() -> (u64, u64) {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux has it");
    tasks.flatten().fold((0, 0), |(time, slices), task| {
        let numbers = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let mut numbers = numbers.split_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        (time + numbers.next().unwrap_or(0), slices + numbers.nth(1).unwrap_or(0))
    })
}

#[test]
fn a_hundred_idle_subscribers_use_no_processor_and_wake_nobody() {
    const SUBSCRIBERS: u64 = 100;
    let seconds = std::env::var("IDLE_SECONDS").map_or(2, |number| number.parse().expect("a number"));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (bus, handled) = (Bus::new(), Calls::default());
    let subscriptions: Vec<_> = (0..SUBSCRIBERS)
        .map(|number| {
            let _guard = runtime.enter();
            let handled = handled.clone();
            let handler = move |order: Delivery<Order>| {
                handled.add(order.0);
                async {}
            };
            let overflow = if number % 2 == 0 { Overflow::Block } else { Overflow::DropOldest };
            let queue = bus.subscription().queue(64).overflow(overflow);
            queue.retry(FixedDelay::default()).run(handler).expect("valid")
        })
        .collect();
    let ring = Multicast::<u64>::new(64).expect("valid");
    let (mut lossless, mut lossy) = (ring.subscribe(), ring.subscribe_lossy(8, Loss::DropOldest).expect("valid"));
    runtime.spawn(async move { lossless.next().await.map(|_| ()) });
    runtime.spawn(async move { lossy.receive().await.map(|_| ()) });
    // Not the sleep of those who have never done anything.
    runtime.block_on(async {
        bus.publish(Order(1)).await.expect("room");
        until(|| handled.len() as u64 == SUBSCRIBERS).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    // Who looks now and then does so in every stretch of time; a machine that takes milliseconds for a wake-up does not.
    let mut stretches = Vec::new();
    let is_idle = (0..5).any(|_| {
        let (began, before) = (Instant::now(), activity());
        std::thread::sleep(Duration::from_secs(seconds));
        let (elapsed, after) = (began.elapsed(), activity());
        let share = (after.0 - before.0) as f64 / elapsed.as_nanos() as f64;
        // This thread's own wake-up, and that of the thread that waits for the test.
        let woken = after.1 - before.1;
        stretches.push(format!("{:.4} % of a processor, woken {woken} times in {seconds} s", share * 100.0));
        share <= 0.0005 && woken <= 5
    });
    assert!(is_idle, "{stretches:#?}");
    for subscription in subscriptions {
        balanced(runtime.block_on(subscription.unsubscribe()).expect("a queue"), 1);
    }
}
