//! Retries, dead letters, and the end of a bus.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use message_bus::{
    Bus, Cause, Delivery, ExponentialBackoff, FixedDelay, HandlerError, LinearBackoff, NoRetry, Reason, ReplayError,
    RetryPolicy, RetryPolicyError,
};
use proptest::prelude::*;
use support::{Calls, Order, OutOf, Step, balanced, until};
use tokio::time::Instant;

fn cause() -> Cause {
    Cause::Error(OutOf("luck").into())
}

fn delays(policy: &impl RetryPolicy) -> Vec<f64> {
    (1..).map_while(|attempt| policy.delay(attempt, &cause())).map(|delay| delay.as_secs_f64()).collect()
}

#[test]
fn max_retries_counts_the_calls_after_the_first() {
    let seconds = Duration::from_secs;
    assert_eq!(delays(&NoRetry), [0.0; 0]);
    assert_eq!(delays(&FixedDelay::default()), [1.0, 1.0, 1.0]);
    assert_eq!(delays(&FixedDelay::new(0, seconds(1))), [0.0; 0]);
    assert_eq!(delays(&LinearBackoff::default()), [1.0, 2.0, 3.0]);
    let capped = LinearBackoff::new(4, seconds(1), seconds(2), seconds(4)).expect("valid");
    assert_eq!(delays(&capped), [1.0, 3.0, 4.0, 4.0]);
    assert_eq!(delays(&ExponentialBackoff::default().without_jitter()), [1.0, 2.0, 4.0]);
    let capped = ExponentialBackoff::new(5, seconds(1), 10.0, seconds(50)).expect("valid").without_jitter();
    assert_eq!(delays(&capped), [1.0, 10.0, 50.0, 50.0, 50.0]);
    let falling = ExponentialBackoff::new(3, seconds(1), 0.5, seconds(1)).expect("valid").without_jitter();
    assert_eq!(delays(&falling), [1.0, 0.5, 0.25]);
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let seconds = Duration::from_secs;
    assert_eq!(LinearBackoff::new(3, seconds(0), seconds(1), seconds(1)), Err(RetryPolicyError::InitialDelay));
    let shorter = RetryPolicyError::MaxDelay { initial: seconds(2), max: seconds(1) };
    assert_eq!(LinearBackoff::new(3, seconds(2), seconds(1), seconds(1)), Err(shorter));
    assert_eq!(ExponentialBackoff::new(3, seconds(2), 2.0, seconds(1)), Err(shorter));
    assert_eq!(ExponentialBackoff::new(3, seconds(0), 2.0, seconds(1)), Err(RetryPolicyError::InitialDelay));
    for multiplier in [0.0, -1.0, f64::INFINITY] {
        let refused = ExponentialBackoff::new(3, seconds(1), multiplier, seconds(1));
        assert_eq!(refused, Err(RetryPolicyError::Multiplier(multiplier)));
    }
    assert!(ExponentialBackoff::new(3, seconds(1), f64::NAN, seconds(1)).is_err());
}

proptest! {
    /// Jitter is random, never beyond the cap, and no attempt number overflows.
    #[test]
    fn a_jittered_delay_lies_between_zero_and_the_capped_delay(
        attempt in 1..=u32::MAX,
        initial in 1..10_000u64,
        multiplier in 0.001..1e9f64,
        extra in 0..100_000u64,
    ) {
        let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(initial + extra));
        let policy = ExponentialBackoff::new(u32::MAX, initial, multiplier, max).expect("valid");
        let grown = policy.without_jitter().delay(attempt, &cause()).expect("a retry");
        prop_assert!(grown <= max);
        prop_assert!(policy.delay(attempt, &cause()).expect("a retry") <= grown);
        let linear = LinearBackoff::new(u32::MAX, initial, max, max).expect("valid");
        prop_assert!(linear.delay(attempt, &cause()).expect("a retry") <= max);
    }
}

#[test]
fn jitter_spreads_over_the_whole_delay() {
    let policy = ExponentialBackoff::default();
    let delays: Vec<f64> = (0..1_000).map(|_| policy.delay(1, &cause()).expect("a retry").as_secs_f64()).collect();
    let (least, most) =
        delays.iter().fold((1.0f64, 0.0f64), |(least, most), delay| (least.min(*delay), most.max(*delay)));
    assert!(least < 0.05 && most > 0.95, "{least} to {most}");
}

/// A handler that notes the time of each call and fails so many times with each order.
fn failing(
    calls: &Calls<(u64, u32, Instant)>,
    times: u32,
) -> impl Fn(Delivery<Order>) -> std::future::Ready<Result<(), OutOf>> + use<> {
    let calls = calls.clone();
    move |order: Delivery<Order>| {
        calls.add((order.0, order.attempt(), Instant::now()));
        std::future::ready(if order.attempt() <= times { Err(OutOf("luck")) } else { Ok(()) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_message_is_handed_over_again_after_the_delay_and_others_go_on() {
    let bus = Bus::new();
    let calls = Calls::default();
    let policy = FixedDelay::new(3, Duration::from_secs(1));
    let handler = {
        let failing = failing(&calls, 3);
        let succeeding = failing_never(&calls);
        move |order: Delivery<Order>| if order.0 == 0 { failing(order) } else { succeeding(order) }
    };
    let subscription = bus.subscription().queue(16).retry(policy).run(handler).expect("valid");
    let began = Instant::now();
    for number in 0..3 {
        bus.publish(Order(number)).await.expect("room");
    }
    until(|| subscription.stats().expect("a queue").delivered == 3).await;
    let calls: Vec<_> =
        calls.all().iter().map(|(number, attempt, at)| (*number, *attempt, (*at - began).as_secs())).collect();
    assert_eq!(calls, [(0, 1, 0), (1, 1, 0), (2, 1, 0), (0, 2, 1), (0, 3, 2), (0, 4, 3)], "at most 4 calls");
    let stats = subscription.unsubscribe().await.expect("a queue");
    assert_eq!((stats.delivered, stats.retried), (3, 3));
    balanced(stats, 3);
}

fn failing_never(
    calls: &Calls<(u64, u32, Instant)>,
) -> impl Fn(Delivery<Order>) -> std::future::Ready<Result<(), OutOf>> + use<> {
    failing(calls, 0)
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_good_becomes_a_dead_letter_with_its_reason() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let handler = move |order: Delivery<Order>| {
        recorder.add(order.0);
        async move {
            match order.0 {
                0 => Err(HandlerError::transient("later")),
                1 => Err(HandlerError::permanent("never")),
                2 => panic!("a fault"),
                3 => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    Ok(())
                }
                _ => Ok(()),
            }
        }
    };
    let queue = bus.subscription().name("billing").queue(16).timeout(Duration::from_secs(1));
    let subscription = queue.retry(FixedDelay::new(2, Duration::from_secs(1))).run(handler).expect("valid");
    for number in 0..5 {
        bus.publish(Order(number)).await.expect("room");
    }
    let letters = bus.dead_letters();
    until(|| letters.len() == 4).await;
    assert_eq!((letters.count(Reason::Permanent), letters.count(Reason::RetriesExhausted)), (2, 2));
    let mut found: Vec<_> = letters
        .page(None, 10)
        .into_iter()
        .map(|letter| {
            let order = letter.message::<Order>().expect("an order").0;
            assert_eq!((&*letter.handler, letter.message_type), ("billing", "test.order"));
            assert!(letter.message::<Step>().is_none());
            assert_eq!(letters.of_message(letter.metadata.id).len(), 1);
            (order, letter.reason, letter.attempts, letter.cause.expect("it was called").to_string())
        })
        .collect();
    found.sort();
    let text = |text: &str| text.to_owned();
    let expected = [
        (0, Reason::RetriesExhausted, 3, text("later")),
        (1, Reason::Permanent, 1, text("never")),
        (2, Reason::Permanent, 1, text("panicked: a fault")),
        (3, Reason::RetriesExhausted, 3, text("took longer than its subscription allows")),
    ];
    assert_eq!(found, expected);
    let stats = subscription.unsubscribe().await.expect("a queue");
    assert_eq!((stats.delivered, stats.dead_lettered), (1, 4));
    balanced(stats, 5);
}

#[tokio::test]
async fn without_dead_letters_what_failed_is_counted_as_dropped() {
    let bus = Bus::new();
    let handler = |_: Delivery<Order>| async { Err(OutOf("luck")) };
    let subscription = bus.subscription().queue(16).dead_letter(false).run(handler).expect("valid");
    for number in 0..5 {
        bus.publish(Order(number)).await.expect("room");
    }
    until(|| subscription.stats().expect("a queue").dropped == 5).await;
    assert!(bus.dead_letters().is_empty());
    balanced(subscription.unsubscribe().await.expect("a queue"), 5);
}

/// A handler, its future, the message and the retry policy may all panic: the worker goes on.
#[tokio::test]
async fn no_panic_ends_a_worker() {
    struct Bomb(u64);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert_ne!(self.0, 4, "in the message's destructor");
        }
    }
    message_bus::event!(Bomb);
    struct Broken;
    impl RetryPolicy for Broken {
        fn delay(&self, _: u32, _: &Cause) -> Option<Duration> {
            panic!("in the policy")
        }
    }
    struct OnDrop;
    impl Drop for OnDrop {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "in the future's destructor");
        }
    }
    let bus = Bus::builder().dead_letters(1).build().expect("valid");
    let handler = |bomb: Delivery<Bomb>| {
        assert_ne!(bomb.0, 0, "before the future");
        async move {
            assert_ne!(bomb.0, 1, "in the future");
            if bomb.0 == 2 {
                let _guard = OnDrop;
                std::future::pending::<()>().await;
            }
            if bomb.0 == 3 { Err(OutOf("luck")) } else { Ok(()) }
        }
    };
    let queue = bus.subscription().queue(16).retry(Broken).timeout(Duration::from_millis(5));
    let subscription = queue.run(handler).expect("valid");
    for number in 0..8 {
        bus.publish(Bomb(number)).await.expect("room");
    }
    until(|| subscription.stats().expect("a queue").delivered == 4).await;
    let stats = subscription.unsubscribe().await.expect("a queue");
    assert_eq!((stats.delivered, stats.dead_lettered), (4, 4));
    balanced(stats, 8);
}

#[tokio::test]
async fn dead_letters_are_bounded_paged_replayed_and_purged() {
    let bus = Bus::builder().dead_letters(10).build().expect("valid");
    let healed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let handler = {
        let healed = Arc::clone(&healed);
        move |order: Delivery<Order>| {
            let result = if healed.load(std::sync::atomic::Ordering::SeqCst) && order.0 != 9 {
                Ok(())
            } else {
                Err(HandlerError::permanent("broken"))
            };
            std::future::ready(result)
        }
    };
    let subscription = bus.subscription().queue(16).run(handler).expect("valid");
    for number in 0..15 {
        bus.publish(Order(number)).await.expect("room");
    }
    until(|| subscription.stats().expect("a queue").dead_lettered == 15).await;
    let letters = bus.dead_letters();
    assert_eq!((letters.len(), letters.evicted()), (10, 5));
    let order = |letter: &message_bus::DeadLetter| letter.message::<Order>().expect("an order").0;
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = letters.page(after, 4);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().map(order));
    }
    assert_eq!(seen, (5..15).collect::<Vec<_>>(), "oldest first, the first five were evicted");
    healed.store(true, std::sync::atomic::Ordering::SeqCst);
    let page = letters.page(None, 10);
    letters.replay(page[0].id).await.expect("healed");
    assert!(matches!(letters.replay(page[0].id).await, Err(ReplayError::NotFound(id)) if id == page[0].id));
    assert!(
        matches!(letters.replay(page[4].id).await, Err(ReplayError::Failed(failure)) if failure.to_string().contains("broken"))
    );
    let again = letters.get(page[4].id).expect("it stays");
    assert_eq!((order(&again), again.attempts, again.reason), (9, 2, Reason::Permanent));
    assert_eq!((letters.len(), letters.count(Reason::Permanent)), (9, 9));
    assert_eq!(letters.purge(|letter| order(letter) % 2 == 0), 5);
    assert_eq!(letters.page(None, 10).iter().map(order).collect::<Vec<_>>(), [7, 9, 11, 13]);
    assert_eq!(letters.count(Reason::Permanent), 4);
    balanced(subscription.unsubscribe().await.expect("a queue"), 15);
}

#[tokio::test]
async fn a_replay_that_is_dropped_leaves_the_letter() {
    let bus = Bus::new();
    let handler = |order: Delivery<Order>| async move {
        if order.attempt() == 1 { Err(HandlerError::permanent("broken")) } else { std::future::pending().await }
    };
    let _subscription = bus.subscription().queue(16).run(handler).expect("valid");
    bus.publish(Order(1)).await.expect("room");
    let letters = bus.dead_letters();
    until(|| letters.len() == 1).await;
    let id = letters.page(None, 1)[0].id;
    let mut replay = Box::pin(letters.replay(id));
    assert!(replay.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
    assert_eq!(letters.len(), 0, "nobody else replays it meanwhile");
    drop(replay);
    let letter = letters.get(id).expect("it is back");
    assert_eq!((letters.len(), letters.of_message(letter.metadata.id).len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn too_many_waiting_retries_become_dead_letters_unless_keys_keep_their_order() {
    let bus = Bus::new();
    let queue = bus.subscription().queue(64).retry(FixedDelay::new(1, Duration::from_secs(1))).waiting(3);
    let calls = Calls::default();
    let subscription = queue.run(failing(&calls, 1)).expect("valid");
    for number in 0..10 {
        bus.publish(Order(number)).await.expect("room");
    }
    until(|| subscription.stats().expect("a queue").delivered == 3).await;
    assert_eq!(bus.dead_letters().count(Reason::TooManyRetries), 7);
    balanced(subscription.unsubscribe().await.expect("a queue"), 10);
}

/// Each key's messages are handled in order although any of them may fail, the order of calls within a key is
/// 1, 1, 1, 2, 2, …, and a key that waits holds no other up.
#[tokio::test(start_paused = true)]
async fn order_per_key_holds_across_retries() {
    for (concurrency, waiting) in [(1, 1_000), (3, 1_000), (1, 2), (3, 2)] {
        let bus = Bus::new();
        let calls: Calls<(u64, u64, u32)> = Calls::default();
        let handler = {
            let calls = calls.clone();
            move |step: Delivery<Step>| {
                calls.add((step.customer, step.number, step.attempt()));
                // Fails 0 to 3 times: more than 2 retries are not made.
                let failures = (step.customer * 7 + step.number * 5) % 4;
                std::future::ready(if u64::from(step.attempt()) <= failures { Err(OutOf("luck")) } else { Ok(()) })
            }
        };
        let queue = bus.subscription().queue(64).concurrency(concurrency).waiting(waiting).ordered_by_key();
        let queue = queue
            .retry(ExponentialBackoff::new(2, Duration::from_millis(20), 2.0, Duration::from_secs(1)).expect("valid"));
        let subscription = queue.run(handler).expect("valid");
        for number in 0..30 {
            for customer in 0..5 {
                bus.publish(Step { customer, number }).await.expect("room");
            }
        }
        until(|| {
            let stats = subscription.stats().expect("a queue");
            stats.delivered + stats.dead_lettered == 150
        })
        .await;
        let mut by_customer: HashMap<u64, Vec<(u64, u32)>> = HashMap::new();
        for (customer, number, attempt) in calls.all() {
            by_customer.entry(customer).or_default().push((number, attempt));
        }
        for (customer, calls) in by_customer {
            let expected: Vec<(u64, u32)> = (0..30)
                .flat_map(|number| {
                    let failures = (customer * 7 + number * 5) % 4;
                    (1..=failures.min(2) as u32 + 1).map(move |attempt| (number, attempt))
                })
                .collect();
            assert_eq!(calls, expected, "customer {customer}, {concurrency} workers");
        }
        let dead = (0..5).flat_map(|c| (0..30).map(move |n| (c * 7 + n * 5) % 4)).filter(|f| *f == 3).count();
        assert_eq!(bus.dead_letters().len(), dead);
        balanced(subscription.unsubscribe().await.expect("a queue"), 150);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_works_off_the_queues_and_retries_nothing() {
    let bus = Bus::new();
    let calls = Calls::default();
    let policy = FixedDelay::new(3, Duration::from_secs(3600));
    let handler = {
        let calls = calls.clone();
        move |step: Delivery<Step>| {
            calls.add((step.customer, step.number, step.attempt()));
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                if step.number == 0 { Err(OutOf("luck")) } else { Ok(()) }
            }
        }
    };
    let subscription =
        bus.subscription().name("s").queue(64).ordered_by_key().retry(policy).run(handler).expect("valid");
    for number in 0..3 {
        for customer in 0..2 {
            bus.publish(Step { customer, number }).await.expect("room");
        }
    }
    bus.publish(Step { customer: 7, number: 1 }).await.expect("room");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let report = bus.shutdown(Duration::from_secs(10)).await;
    let stats = subscription.stats().expect("a queue");
    balanced(stats, 7);
    assert_eq!((stats.abandoned, stats.retried), (0, 0));
    assert!(calls.all().iter().all(|call| call.2 == 1), "no retry after the shutdown began");
    assert_eq!(bus.dead_letters().count(Reason::Shutdown) as u64, stats.dead_lettered);
    assert_eq!((report.drained, report.dead_lettered), (stats.delivered, stats.dead_lettered), "nothing came before");
    assert_eq!(report.queues, [("s".into(), stats)]);
    assert!(stats.delivered >= 1 && stats.dead_lettered >= 2, "{stats:?}");
}

#[tokio::test]
async fn a_shutdown_keeps_its_deadline_and_its_report_adds_up() {
    for stuck in [false, true] {
        let bus = Bus::new();
        let handler = move |order: Delivery<Order>| async move {
            if stuck && order.0 == 2 {
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
        };
        let subscription = bus.subscription().queue(64).run(handler).expect("valid");
        for number in 0..50 {
            bus.publish(Order(number)).await.expect("room");
        }
        let (limit, began) = (Duration::from_millis(50), std::time::Instant::now());
        let report = bus.shutdown(limit).await;
        assert!(began.elapsed() < limit + Duration::from_millis(40), "{:?}", began.elapsed());
        let (drained, abandoned) = if stuck { (2, 48) } else { (50, 0) };
        assert_eq!((report.drained, report.abandoned), (drained, abandoned));
        balanced(subscription.stats().expect("a queue"), 50);
        let again = bus.shutdown(limit).await;
        assert_eq!(
            (again.drained, again.abandoned, again.queues),
            (0, 0, report.queues),
            "the second finds nothing to do"
        );
    }
}
