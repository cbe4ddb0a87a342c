//! What Orchestrix' bus does, and its defects: ours keeps the first and shows that it has none of the second.

mod support;

use std::sync::Arc;
use std::time::Duration;

use message_bus::{
    Bus, Cause, Delivery, ExponentialBackoff, FailurePolicy, FixedDelay, HandleError, PublishError, RetryPolicy,
    SendError, command, event,
};
use support::{Calls, Order, OutOf, Payment, balanced, until};
use tokio::task::yield_now;

struct Reserve;
command!(Reserve => u64);

// ------------------------------------------------------------------------------------------------------- documented behaviour

#[tokio::test]
async fn the_same_handler_twice_runs_twice_in_the_order_of_registration() {
    let bus = Bus::new();
    let calls = Calls::default();
    let handler = |name: &'static str| {
        let calls = calls.clone();
        move |_: &Order| calls.add(name)
    };
    let twice = handler("twice");
    let _subscriptions = [
        bus.subscribe_sync(twice.clone()).expect("open"),
        bus.subscribe_sync(handler("between")).expect("open"),
        bus.subscribe_sync(twice).expect("open"),
    ];
    assert_eq!(bus.publish(Order(1)).await.expect("succeeds").called, 3);
    assert_eq!(calls.all(), ["twice", "between", "twice"]);
}

#[tokio::test]
async fn one_failure_stops_nobody_and_is_no_error_unless_all_fail() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let failing = bus.subscribe_sync(|_: &Order| Err(OutOf("luck"))).expect("open");
    let succeeding = bus.subscribe_sync(move |_: &Order| recorder.add("called")).expect("open");
    assert_eq!(bus.publish(Order(1)).await.expect("one did its work").succeeded(), 1);
    assert_eq!(calls.len(), 1);
    drop(succeeding);
    assert!(matches!(bus.publish(Order(1)).await, Err(PublishError::HandlersFailed(_))));
    drop(failing);
    assert!(bus.publish(Order(1)).await.is_ok(), "no handler is success");
}

#[tokio::test]
async fn routing_is_by_the_exact_type() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let _orders = bus.subscribe_sync(move |order: &Order| recorder.add(order.0)).expect("open");
    bus.publish(Payment(1)).await.expect("nobody is needed");
    bus.publish(Order(2)).await.expect("succeeds");
    assert_eq!(calls.all(), [2]);
}

// ----------------------------------------------------------------------------------------------------------------- its defects

#[tokio::test]
async fn defect_1_the_error_has_every_cause_with_its_handlers_name() {
    let bus = Bus::new();
    let _one = bus.subscription().name("one").run_sync(|_: &Order| Err(OutOf("ink"))).expect("open");
    let _two = bus.subscription().name("two").run_sync(|_: &Order| Err(OutOf("paper"))).expect("open");
    let error = bus.publish(Order(1)).await.expect_err("all fail");
    assert_eq!(error.to_string(), "2 of 2 handlers failed: handler `one`: out of ink; handler `two`: out of paper");
}

#[tokio::test]
async fn defect_2_a_cancelled_handler_is_a_failure() {
    let bus = Bus::builder().failure_policy(FailurePolicy::FailFast).build().expect("valid");
    let _pending = bus.subscribe(|_: Delivery<Order>| std::future::pending::<()>()).expect("open");
    let failing = |_: Delivery<Order>| async {
        yield_now().await;
        Err(OutOf("luck"))
    };
    let _failing = bus.subscribe(failing).expect("open");
    let Err(PublishError::HandlersFailed(report)) = bus.publish(Order(1)).await else { panic!("one fails") };
    assert_eq!(report.succeeded(), 0);
    assert!(report.failures.iter().any(|failure| matches!(failure.cause, Cause::Cancelled)));
}

#[tokio::test]
async fn defect_3_a_handler_that_subscribes_itself_does_not_loop() {
    let bus = Bus::new();
    let calls = Calls::default();
    fn subscribe(bus: &Bus, calls: &Calls<u64>) {
        let (inner, recorder) = (bus.clone(), calls.clone());
        let handler = move |order: &Order| {
            recorder.add(order.0);
            subscribe(&inner, &recorder);
        };
        bus.subscribe_sync(handler).expect("open").detach();
    }
    subscribe(&bus, &calls);
    bus.publish(Order(1)).await.expect("succeeds");
    assert_eq!(calls.len(), 1);
    bus.publish(Order(2)).await.expect("succeeds");
    assert_eq!(calls.all(), [1, 2, 2]);
    bus.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn defect_4_a_subscription_can_end() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let subscription = bus.subscribe_sync(move |order: &Order| recorder.add(order.0)).expect("open");
    bus.publish(Order(1)).await.expect("succeeds");
    drop(subscription);
    bus.publish(Order(2)).await.expect("nobody is needed");
    assert_eq!(calls.all(), [1]);
}

// Defect 5, an INFO record a publish: the crate links no logging library, which `cargo tree` shows.

#[tokio::test]
async fn defect_6_a_command_has_exactly_one_handler() {
    let bus = Bus::new();
    assert!(matches!(bus.send(Reserve).await, Err(SendError::NoHandler(Reserve))));
    let _first = bus.command().name("first").run(async |_: Reserve| Ok::<_, OutOf>(1)).expect("the first");
    let second = bus.handle(async |_: Reserve| Ok::<_, OutOf>(2));
    assert_eq!(second.expect_err("refused"), HandleError::AlreadyHandled("first".into()));
    assert_eq!(bus.send(Reserve).await.expect("answered"), 1);
}

#[tokio::test(start_paused = true)]
async fn defect_7_retries_are_wired_in_and_hold_nobody() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let handler = move |order: Delivery<Order>| {
        recorder.add((order.0, order.attempt()));
        std::future::ready(if order.0 == 0 && order.attempt() < 3 { Err(OutOf("luck")) } else { Ok(()) })
    };
    let queue = bus.subscription().queue(16).retry(FixedDelay::new(3, Duration::from_secs(60)));
    let subscription = queue.run(handler).expect("valid");
    for number in 0..3 {
        bus.publish(Order(number)).await.expect("room");
    }
    until(|| calls.len() == 3).await;
    assert_eq!(calls.all(), [(0, 1), (1, 1), (2, 1)], "the others do not wait a minute");
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(calls.all()[3..], [(0, 2), (0, 3)]);
    balanced(subscription.unsubscribe().await.expect("a queue"), 3);
}

#[test]
fn defect_8_jitter_is_random_and_stays_below_the_cap() {
    let (initial, max) = (Duration::from_secs(10), Duration::from_secs(15));
    let policy = ExponentialBackoff::new(10, initial, 2.0, max).expect("valid");
    let cause = Cause::Error(OutOf("luck").into());
    let delays: Vec<Duration> = (0..100).map(|_| policy.delay(5, &cause).expect("a retry")).collect();
    assert!(delays.iter().all(|delay| *delay <= max));
    assert!(delays.iter().any(|delay| *delay != delays[0]), "not the same every time");
}

#[tokio::test]
async fn defect_9_dead_letters_are_wired_in_bounded_indexed_and_removed_when_taken() {
    let bus = Bus::builder().dead_letters(2).build().expect("valid");
    let handler = |order: Delivery<Order>| {
        let result = if order.attempt() == 1 { Err(OutOf("luck")) } else { Ok(()) };
        std::future::ready(result)
    };
    let subscription = bus.subscription().queue(16).run(handler).expect("valid");
    for number in 0..3 {
        bus.publish(Order(number)).await.expect("room");
    }
    let letters = bus.dead_letters();
    until(|| subscription.stats().expect("a queue").dead_lettered == 3).await;
    assert_eq!((letters.len(), letters.evicted()), (2, 1));
    for letter in letters.page(None, 10) {
        letters.replay(letter.id).await.expect("it succeeds now");
    }
    assert!(letters.is_empty());
    balanced(subscription.unsubscribe().await.expect("a queue"), 3);
}

// Defects 10 and 11 concern an envelope for other processes, which this crate does not make.

struct Tick(Arc<()>);
event!(Tick);

/// Defect 12: the original's benchmarks time the start of an event loop. What ours time needs none.
#[test]
fn defect_12_a_publish_needs_no_event_loop() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let handler = move |tick: Delivery<Tick>| {
        recorder.add(Arc::strong_count(&tick.0));
        std::future::ready(())
    };
    let _subscription = bus.subscribe(handler).expect("open");
    futures::executor::block_on(bus.publish(Tick(Arc::new(())))).expect("succeeds");
    assert_eq!(calls.all(), [1]);
}
