//! Publishing later: on time, once, and nothing lost.

mod support;

use std::time::Duration;

use message_bus::{Bus, DelayError, Delivery, FailurePolicy, Metadata, Overflow, RawMessage, Reason, Subject};
use support::{Calls, Order, OutOf, balanced, until};
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_message_is_published_when_its_time_has_come() {
    let bus = Bus::new();
    let calls = Calls::default();
    let (recorder, began) = (calls.clone(), Instant::now());
    let _orders = bus.subscribe_sync(move |order: &Order| recorder.add((order.0, began.elapsed().as_secs())));
    for seconds in [3, 1, 2] {
        bus.publish_after(seconds * SECOND, Order(u64::from(seconds))).expect("accepted");
    }
    sleep(SECOND / 2).await;
    assert_eq!((calls.len(), bus.delayed().waiting), (0, 3));
    sleep(4 * SECOND).await;
    assert_eq!(calls.all(), [(1, 1), (2, 2), (3, 3)]);
    let stats = bus.delayed();
    assert_eq!((stats.waiting, stats.published), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn the_handlers_are_those_of_then_and_the_message_inherits_from_now() {
    let bus = Bus::new();
    let calls = Calls::default();
    let (recorder, weak) = (calls.clone(), bus.downgrade());
    let _parent = bus.subscribe_subject("parent", move |delivery: Delivery<RawMessage>| {
        recorder.add(delivery.metadata().clone());
        weak.upgrade().expect("alive").publish_after(SECOND, Order(7)).expect("accepted");
        async {}
    });
    bus.publish_subject(RawMessage::new(Subject::new("parent").expect("a subject"), "")).await.expect("succeeds");
    let recorder = calls.clone();
    let _later = bus.subscribe_sync(move |_: &Order| recorder.add(Metadata::current().expect("in a handler")));
    sleep(2 * SECOND).await;
    let seen = calls.all();
    assert_eq!((seen[1].causation, seen[1].correlation), (Some(seen[0].id), seen[0].correlation));
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_back_is_not_published_and_frees_its_place() {
    let bus = Bus::builder().delayed(1).build().expect("valid");
    let calls = Calls::default();
    let recorder = calls.clone();
    let _orders = bus.subscribe_sync(move |order: &Order| recorder.add(order.0));
    let waiting = bus.publish_after(SECOND, Order(1)).expect("accepted");
    let refused = bus.publish_after(SECOND, Order(2)).expect_err("only one may wait");
    assert!(matches!(refused, DelayError::TooMany(Order(2))), "{refused:?}");
    assert_eq!(waiting.cancel(), Some(Order(1)));
    let done = bus.publish_after(SECOND, Order(3)).expect("the place is free");
    sleep(2 * SECOND).await;
    assert_eq!(done.cancel(), None, "too late");
    let stats = bus.delayed();
    assert_eq!((calls.all(), stats.published, stats.cancelled, stats.waiting), (vec![3], 1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_or_fails_then_is_a_dead_letter_that_can_be_replayed() {
    let bus = Bus::builder().ring_capacity(1).build().expect("valid");
    let failing = bus.subscribe_sync(|_: &Order| Err(OutOf("luck"))).expect("open");
    bus.publish_after(SECOND, Order(1)).expect("accepted");
    sleep(2 * SECOND).await;
    let letter = bus.dead_letters().page(None, 1).remove(0);
    assert_eq!((letter.reason, letter.message::<Order>()), (Reason::Unpublished, Some(&Order(1))));
    assert!(letter.cause.expect("a cause").to_string().contains("out of luck"));
    bus.dead_letters().replay(letter.id).await.expect_err("it fails again");
    drop(failing);
    bus.dead_letters().replay(letter.id).await.expect("nobody fails");
    assert!(bus.dead_letters().is_empty());

    let stuck = bus.subscription().queue(1).overflow(Overflow::Error);
    let stuck = stuck.run(|_: Delivery<Order>| std::future::pending::<()>()).expect("open");
    for number in 0..4 {
        bus.publish_after(SECOND, Order(number)).expect("accepted");
    }
    sleep(2 * SECOND).await;
    let stats = bus.delayed();
    assert_eq!(stats.published + stats.dead_lettered, 5);
    assert_eq!(bus.dead_letters().count(Reason::Unpublished) as u64, stats.dead_lettered - 1);
    bus.shutdown(Duration::ZERO).await;
    balanced(stuck.stats().expect("a queue"), stats.published);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_somebody_got_is_no_dead_letter_whatever_the_policy() {
    let bus = Bus::builder().failure_policy(FailurePolicy::AnyFailed).build().expect("valid");
    let _failing = bus.subscribe_sync(|_: &Order| Err(OutOf("luck"))).expect("open");
    let queue = bus.subscription().queue(8).run(|_: Delivery<Order>| async {}).expect("open");
    bus.publish_after(SECOND, Order(1)).expect("accepted");
    sleep(2 * SECOND).await;
    assert_eq!((bus.delayed().published, bus.dead_letters().len()), (1, 0));
    balanced(queue.unsubscribe().await.expect("a queue"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_makes_dead_letters_of_what_waits_and_says_so() {
    let bus = Bus::new();
    let _orders = bus.subscribe_sync(|_: &Order| {});
    for number in 0..5 {
        bus.publish_after(3600 * SECOND, Order(number)).expect("accepted");
    }
    let report = bus.shutdown(10 * SECOND).await;
    assert_eq!((report.dead_lettered, report.drained, report.abandoned), (5, 0, 0));
    assert_eq!(bus.dead_letters().count(Reason::Shutdown), 5);
    assert_eq!((bus.delayed().waiting, bus.delayed().dead_lettered), (0, 5));
    let refused = bus.publish_after(SECOND, Order(9)).expect_err("closed");
    assert!(matches!(refused, DelayError::Closed(Order(9))));
    assert_eq!(refused.into_message(), Order(9));
}

#[tokio::test(start_paused = true)]
async fn a_publish_that_hangs_ends_with_the_deadline_of_the_shutdown() {
    let bus = Bus::new();
    let _stuck = bus.subscribe(|_: Delivery<Order>| std::future::pending::<()>()).expect("open");
    bus.publish_after(SECOND, Order(1)).expect("accepted");
    sleep(2 * SECOND).await;
    assert_eq!(bus.delayed().waiting, 1);
    let report = bus.shutdown(SECOND).await;
    assert_eq!((report.dead_lettered, bus.delayed().waiting), (1, 0));
}

#[tokio::test]
async fn a_subject_is_published_to_later() {
    let bus = Bus::new();
    let calls = Calls::default();
    let message = RawMessage::new(Subject::new("a.b").expect("a subject"), "payload");
    bus.publish_subject_after(Duration::from_millis(20), message).expect("accepted");
    let recorder = calls.clone();
    let _later = bus.subject_subscription("a.*").expect("a pattern");
    let _later = _later.run_sync(move |message: &RawMessage| recorder.add(message.payload.clone())).expect("open");
    until(|| calls.len() == 1).await;
    until(|| bus.delayed().published == 1).await;
}

#[test]
fn without_a_runtime_there_are_no_timers() {
    let refused = Bus::new().publish_after(SECOND, Order(1)).expect_err("no runtime");
    assert!(matches!(refused, DelayError::NoRuntime(Order(1))));
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_is_dropped_takes_its_delayed_messages_along() {
    struct Witness(#[expect(dead_code, reason = "it counts the messages that are alive")] std::sync::Arc<()>);
    message_bus::event!(Witness);
    let bus = Bus::new();
    let alive = std::sync::Arc::new(());
    bus.publish_after(3600 * SECOND, Witness(alive.clone())).expect("accepted");
    drop(bus);
    until(|| std::sync::Arc::strong_count(&alive) == 1).await;
}
