//! Subscriptions with a queue.

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use message_bus::ring::CapacityError;
use message_bus::{BuildError, Bus, Delivery, Metadata, Overflow, PublishError, SubscribeError, WeakBus, event};
use support::{Calls, Order, OutOf, Step, balanced, until};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

/// A handler that notes each order, after the gate has let it through.
fn gated(
    calls: &Calls<u64>,
    gate: &Arc<Semaphore>,
) -> impl Fn(Delivery<Order>) -> futures::future::BoxFuture<'static, ()> + use<> {
    let (calls, gate) = (calls.clone(), Arc::clone(gate));
    move |order: Delivery<Order>| {
        let (calls, gate) = (calls.clone(), Arc::clone(&gate));
        Box::pin(async move {
            gate.acquire().await.expect("never closed").forget();
            calls.add(order.0);
        })
    }
}

fn gate(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits))
}

#[tokio::test]
async fn a_publish_does_not_wait_for_a_queued_handler() {
    let bus = Bus::new();
    let (calls, gate) = (Calls::default(), gate(0));
    let subscription = bus.subscription().queue(16).run(gated(&calls, &gate)).expect("valid");
    let publisher = bus.publisher();
    for number in 0..10 {
        let report = publisher.publish(Order(number)).await.expect("room");
        assert_eq!((report.called, report.queued), (0, 1));
    }
    assert_eq!(calls.len(), 0);
    gate.add_permits(100);
    until(|| calls.len() == 10).await;
    assert_eq!(calls.all(), (0..10).collect::<Vec<_>>(), "in the order of publication");
    balanced(subscription.unsubscribe().await.expect("a queue"), 10);
}

#[tokio::test]
async fn every_queue_gets_every_message_and_members_of_a_group_share_them() {
    let bus = Bus::new();
    let alone = Calls::default();
    let members = [Calls::default(), Calls::default()];
    let gate = gate(10_000);
    let subscription = bus.subscription().queue(64).run(gated(&alone, &gate)).expect("valid");
    let group: Vec<_> = members
        .iter()
        .map(|calls| bus.subscription().queue(64).group("billing").run(gated(calls, &gate)).expect("valid"))
        .collect();
    for number in 0..500 {
        assert_eq!(bus.publish(Order(number)).await.expect("room").queued, 2, "a group counts once");
        yield_now().await;
    }
    let report = bus.shutdown(Duration::from_secs(5)).await;
    assert_eq!((report.abandoned, report.dropped, report.dead_lettered), (0, 0, 0));
    assert_eq!(alone.all(), (0..500).collect::<Vec<_>>());
    let mut shared: Vec<u64> = members.iter().flat_map(Calls::all).collect();
    shared.sort_unstable();
    assert_eq!(shared, (0..500).collect::<Vec<_>>(), "each to one of them");
    balanced(subscription.stats().expect("a queue"), 500);
    let shared: u64 = group.iter().map(|member| member.stats().expect("a queue").total()).sum();
    assert_eq!(shared, 500);
}

#[tokio::test]
async fn a_member_that_leaves_its_group_takes_nothing_along() {
    let bus = Bus::new();
    let calls = [Calls::default(), Calls::default()];
    let (stuck, free) = (gate(0), gate(1_000));
    let leaver = bus.subscription().queue(64).group("g").run(gated(&calls[0], &stuck)).expect("valid");
    bus.publish(Order(0)).await.expect("room");
    until(|| stuck.available_permits() == 0).await;
    yield_now().await;
    let stayer = bus.subscription().queue(64).group("g").run(gated(&calls[1], &free)).expect("valid");
    for number in 1..20 {
        bus.publish(Order(number)).await.expect("room");
    }
    until(|| calls[1].len() == 19).await;
    let leaving = tokio::spawn(leaver.unsubscribe());
    stuck.add_permits(1);
    balanced(leaving.await.expect("no panic").expect("a queue"), 1);
    bus.publish(Order(20)).await.expect("room");
    until(|| calls[1].len() == 20).await;
    balanced(stayer.unsubscribe().await.expect("a queue"), 20);
    assert_eq!(bus.publish(Order(21)).await.expect("nobody is needed").queued, 0);
}

#[tokio::test]
async fn what_a_group_loses_or_leaves_is_in_the_accounts_of_its_members() {
    for overflow in [Overflow::Block, Overflow::DropOldest] {
        let bus = Bus::new();
        let (calls, gate) = (Calls::default(), gate(0));
        let member = || {
            let queue = bus.subscription().queue(16).overflow(overflow).group("g").concurrency(2);
            queue.run(gated(&calls, &gate)).expect("valid")
        };
        let members = [member(), member()];
        let published = if overflow == Overflow::Block { 16 } else { 500 };
        for number in 0..published {
            bus.publish(Order(number)).await.expect("room");
        }
        for _ in 0..10 {
            yield_now().await;
        }
        gate.add_permits(6);
        until(|| calls.len() == 6).await;
        let mut total = message_bus::QueueStats::default();
        let ending: Vec<_> = members.map(|member| tokio::spawn(member.unsubscribe())).into();
        yield_now().await;
        gate.add_permits(4);
        for ending in ending {
            let stats = ending.await.expect("no panic").expect("a queue");
            total.delivered += stats.delivered;
            total.dropped += stats.dropped;
            total.abandoned += stats.abandoned;
        }
        balanced(total, published);
        assert_eq!(total.delivered, 10, "{overflow:?}");
    }
}

#[tokio::test]
async fn a_full_queue_says_full_waits_or_loses_as_its_overflow_policy_says() {
    for overflow in [Overflow::Error, Overflow::BlockTimeout(Duration::from_millis(5)), Overflow::Block] {
        let bus = Bus::new();
        let (calls, gate) = (Calls::default(), gate(0));
        let subscription = bus.subscription().queue(2).overflow(overflow).run(gated(&calls, &gate)).expect("valid");
        let publisher = bus.publisher();
        publisher.publish(Order(0)).await.expect("room");
        // The worker holds the first, the queue the next two.
        until(|| publisher.try_publish(Order(1)).is_ok()).await;
        yield_now().await;
        until(|| matches!(publisher.try_publish(Order(1)), Err(PublishError::Full(Order(1))))).await;
        let accepted = 3;
        let mut publish = Box::pin(publisher.publish(Order(9)));
        match overflow {
            Overflow::Error => assert!(matches!(publish.await, Err(PublishError::Full(Order(9))))),
            Overflow::BlockTimeout(_) => assert!(matches!(publish.await, Err(PublishError::Timeout(Order(9))))),
            _ => {
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                assert!(publish.as_mut().poll(&mut context).is_pending());
                drop(publish);
            }
        }
        gate.add_permits(100);
        until(|| calls.len() == accepted).await;
        balanced(subscription.unsubscribe().await.expect("a queue"), accepted as u64);
    }
}

#[tokio::test]
async fn lossy_queues_count_what_they_lose_and_publishers_never_wait() {
    const PUBLISHED: u64 = 5_000;
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Conflate, Overflow::Disconnect] {
        let bus = Bus::builder().ring_capacity(16).build().expect("valid");
        let (calls, gate) = (Calls::default(), gate(0));
        let subscription = bus.subscription().queue(4).overflow(overflow).run(gated(&calls, &gate)).expect("valid");
        let publisher = bus.publisher();
        for number in 0..PUBLISHED {
            publisher.try_publish(Order(number)).expect("nobody waits");
            if number == 0 {
                until(|| gate.available_permits() == 0).await;
                yield_now().await;
            }
        }
        gate.add_permits(10_000);
        bus.shutdown(Duration::from_secs(5)).await;
        let stats = subscription.stats().expect("a queue");
        assert_eq!(stats.delivered, 1 + 4, "{overflow:?}: one at work, four in the queue");
        assert_eq!(calls.len(), 5);
        assert_eq!(stats.abandoned, 0);
        if overflow != Overflow::Disconnect {
            balanced(stats, PUBLISHED);
        }
    }
}

#[tokio::test]
async fn conflation_keeps_the_latest_of_each_key() {
    let bus = Bus::new();
    let calls: Calls<(u64, u64)> = Calls::default();
    let gate = gate(0);
    let handler = {
        let (calls, gate) = (calls.clone(), Arc::clone(&gate));
        move |step: Delivery<Step>| {
            let (calls, gate) = (calls.clone(), Arc::clone(&gate));
            async move {
                gate.acquire().await.expect("never closed").forget();
                calls.add((step.customer, step.number));
            }
        }
    };
    let subscription = bus.subscription().queue(16).overflow(Overflow::Conflate).run(handler).expect("valid");
    bus.publish(Step { customer: 9, number: 0 }).await.expect("room");
    yield_now().await;
    for number in 0..100 {
        bus.publish(Step { customer: number % 3, number }).await.expect("room");
    }
    gate.add_permits(100);
    until(|| calls.len() == 4).await;
    assert_eq!(calls.all(), [(9, 0), (0, 99), (1, 97), (2, 98)]);
    balanced(subscription.unsubscribe().await.expect("a queue"), 101);
}

#[tokio::test]
async fn inline_handlers_run_only_when_every_queue_has_room() {
    let bus = Bus::new();
    let (inline, queued, gate) = (Calls::default(), Calls::default(), gate(0));
    let recorder = inline.clone();
    let _inline = bus
        .subscribe(move |order: Delivery<Order>| {
            let calls = recorder.clone();
            async move {
                yield_now().await;
                calls.add(order.0);
                if order.0 == 1 { Err(OutOf("paper")) } else { Ok(()) }
            }
        })
        .expect("open");
    let recorder = inline.clone();
    let _sync = bus.subscribe_sync(move |order: &Order| recorder.add(order.0 + 100)).expect("open");
    let subscription = bus.subscription().queue(1).overflow(Overflow::Error).run(gated(&queued, &gate)).expect("valid");
    let report = bus.publish(Order(0)).await.expect("room");
    assert_eq!((report.called, report.queued), (2, 1));
    until(|| gate.available_permits() == 0).await;
    yield_now().await;
    let report = bus.publish(Order(1)).await.expect("one of two failed");
    assert_eq!((report.failures.len(), report.queued), (1, 1), "the queue gets what inline handlers failed with");
    assert!(matches!(bus.publish(Order(2)).await, Err(PublishError::Full(Order(2)))));
    assert_eq!(inline.all(), [100, 0, 101, 1], "all or nothing");
    gate.add_permits(10);
    until(|| queued.len() == 2).await;
    assert_eq!(queued.all(), [0, 1]);
    balanced(subscription.unsubscribe().await.expect("a queue"), 2);
}

#[tokio::test]
async fn a_publish_dropped_in_an_inline_handler_gives_the_queue_its_room_back() {
    let bus = Bus::new();
    let (calls, open) = (Calls::default(), gate(100));
    let _inline = bus
        .subscribe(|order: Delivery<Order>| async move {
            if order.0 == 0 {
                std::future::pending::<()>().await;
            }
        })
        .expect("open");
    let subscription = bus.subscription().queue(1).overflow(Overflow::Error).run(gated(&calls, &open)).expect("valid");
    for _ in 0..5 {
        let mut publish = Box::pin(bus.publish(Order(0)));
        assert!(publish.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
        drop(publish);
    }
    bus.publish(Order(1)).await.expect("the room is back");
    until(|| calls.len() == 1).await;
    balanced(subscription.unsubscribe().await.expect("a queue"), 1);
}

#[tokio::test]
async fn a_handler_that_fills_its_own_queue_is_told_instead_of_waiting_for_itself() {
    let bus = Bus::new();
    let outcomes = Calls::default();
    let handler = {
        let (publisher, outcomes) = (bus.publisher::<Order>(), outcomes.clone());
        move |order: Delivery<Order>| {
            let (publisher, outcomes) = (publisher.clone(), outcomes.clone());
            async move {
                for number in 0..4 {
                    if order.0 == 0 {
                        let published = publisher.publish(Order(number + 1)).await;
                        outcomes.add(match published {
                            Ok(_) => "accepted",
                            Err(PublishError::WouldDeadlock(_)) => "refused",
                            Err(_) => "other",
                        });
                    }
                }
            }
        }
    };
    let subscription = bus.subscription().queue(2).run(handler).expect("valid");
    bus.publish(Order(0)).await.expect("room");
    until(|| outcomes.len() == 4).await;
    assert_eq!(outcomes.all(), ["accepted", "accepted", "refused", "refused"]);
    until(|| subscription.stats().expect("a queue").delivered == 3).await;
    balanced(subscription.unsubscribe().await.expect("a queue"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_order_by_key_each_key_is_handled_in_order_and_keys_at_once() {
    const KEYS: u64 = 20;
    const EACH: u64 = 50;
    let bus = Bus::new();
    let (calls, most) = (Calls::default(), Arc::new(std::sync::Mutex::new((0, 0))));
    let handler = {
        let (calls, most) = (calls.clone(), Arc::clone(&most));
        move |step: Delivery<Step>| {
            let (calls, most) = (calls.clone(), Arc::clone(&most));
            async move {
                {
                    let mut most = most.lock().expect("no panic");
                    most.0 += 1;
                    most.1 = most.0.max(most.1);
                }
                tokio::time::sleep(Duration::from_micros(step.number % 7 * 100)).await;
                calls.add((step.customer, step.number));
                most.lock().expect("no panic").0 -= 1;
            }
        }
    };
    let subscription = bus.subscription().queue(64).concurrency(8).ordered_by_key().run(handler).expect("valid");
    for number in 0..EACH {
        for customer in 0..KEYS {
            bus.publish(Step { customer, number }).await.expect("room");
        }
    }
    bus.shutdown(Duration::from_secs(20)).await;
    let calls = calls.all();
    assert_eq!(calls.len() as u64, KEYS * EACH);
    for customer in 0..KEYS {
        let numbers: Vec<u64> = calls.iter().filter(|call| call.0 == customer).map(|call| call.1).collect();
        assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "customer {customer}");
    }
    let most = most.lock().expect("no panic").1;
    assert!((2..=8).contains(&most), "{most} at once");
    balanced(subscription.stats().expect("a queue"), KEYS * EACH);
}

#[tokio::test]
async fn messages_without_a_key_go_to_all_lanes() {
    let bus = Bus::new();
    let (calls, gate) = (Calls::default(), gate(0));
    let subscription =
        bus.subscription().queue(64).concurrency(4).ordered_by_key().run(gated(&calls, &gate)).expect("valid");
    for number in 0..40 {
        bus.publish(Order(number)).await.expect("room");
    }
    gate.add_permits(100);
    until(|| calls.len() == 40).await;
    assert_eq!(calls.all().into_iter().collect::<HashSet<_>>().len(), 40, "each once");
    balanced(subscription.unsubscribe().await.expect("a queue"), 40);
}

#[tokio::test]
async fn what_is_in_a_dropped_queue_is_counted_as_abandoned() {
    for ordered in [false, true] {
        let bus = Bus::new();
        let (calls, gate) = (Calls::default(), gate(0));
        let mut queue = bus.subscription().queue(64).concurrency(2);
        if ordered {
            queue = queue.ordered_by_key();
        }
        let subscription = queue.run(gated(&calls, &gate)).expect("valid");
        for number in 0..30 {
            bus.publish(Order(number)).await.expect("room");
        }
        for _ in 0..10 {
            yield_now().await;
        }
        let ending = tokio::spawn(subscription.unsubscribe());
        yield_now().await;
        gate.add_permits(2);
        let stats = ending.await.expect("no panic").expect("a queue");
        assert_eq!((stats.delivered, stats.abandoned), (2, 28), "ordered: {ordered}");
        assert_eq!(bus.publish(Order(0)).await.expect("nobody is needed").queued, 0);
    }
}

#[tokio::test]
async fn options_out_of_range_are_refused() {
    let bus = Bus::builder().ring_capacity(8).build().expect("valid");
    let run = |queue: message_bus::QueueBuilder<Order>| queue.run(|_: Delivery<Order>| async {}).err();
    let queue = |capacity| bus.subscription::<Order>().queue(capacity);
    let capacity = |asked| Some(SubscribeError::Capacity(CapacityError::Subscriber { asked, ring: 8 }));
    assert_eq!(run(queue(0)), capacity(0));
    assert_eq!(run(queue(9)), capacity(9));
    assert_eq!(run(queue(8).concurrency(0)), Some(SubscribeError::Concurrency(0)));
    assert_eq!(run(queue(8).concurrency(1025)), Some(SubscribeError::Concurrency(1025)));
    assert_eq!(run(queue(8).waiting(0)), Some(SubscribeError::Waiting));
    let member = queue(8).group("g").run(|_: Delivery<Order>| async {}).expect("the first");
    let group = Some(SubscribeError::Group("g".into()));
    assert_eq!(run(queue(4).group("g")), group);
    assert_eq!(run(queue(8).group("g").overflow(Overflow::Error)), group);
    assert_eq!(run(queue(8).group("g").ordered_by_key()), group);
    assert_eq!(run(queue(8).group("g")), None);
    drop(member);
    assert!(matches!(Bus::builder().ring_capacity(0).build(), Err(BuildError::Ring(0))));
    assert!(matches!(Bus::builder().dead_letters(0).build(), Err(BuildError::DeadLetters)));
    bus.shutdown(Duration::ZERO).await;
    assert_eq!(run(queue(8)), Some(SubscribeError::Closed));
    assert_eq!(bus.subscribe(|_: Delivery<Order>| async {}).err(), Some(SubscribeError::Closed));
    let elsewhere = std::thread::spawn(|| {
        let bus = Bus::new();
        bus.subscription::<Order>().queue(8).run(|_: Delivery<Order>| async {}).err()
    });
    assert_eq!(elsewhere.join().expect("no panic"), Some(SubscribeError::NoRuntime));
}

struct Probe(#[expect(dead_code, reason = "it is held")] Arc<()>);
event!(Probe);

#[tokio::test]
async fn a_message_is_let_go_when_all_have_handled_it() {
    let bus = Bus::new();
    let handled = Calls::default();
    let subscriptions: Vec<_> = (0..3)
        .map(|_| {
            let handled = handled.clone();
            let handler = move |_: Delivery<Probe>| {
                handled.add(Metadata::current().is_some());
                async {}
            };
            bus.subscription().queue(16).run(handler).expect("valid")
        })
        .collect();
    let payload = Arc::new(());
    for round in 1..=3 {
        bus.publish(Probe(Arc::clone(&payload))).await.expect("room");
        until(|| handled.len() == 3 * round).await;
        until(|| Arc::strong_count(&payload) == 1).await;
    }
    for subscription in subscriptions {
        balanced(subscription.unsubscribe().await.expect("a queue"), 3);
    }
}

#[tokio::test]
async fn a_bus_that_is_dropped_works_off_its_queues() {
    let (calls, gate) = (Calls::default(), gate(0));
    let (publisher, subscription) = {
        let bus = Bus::new();
        let subscription = bus.subscription().queue(16).run(gated(&calls, &gate)).expect("valid");
        for number in 0..5 {
            bus.publish(Order(number)).await.expect("room");
        }
        (bus.publisher(), subscription)
    };
    assert!(matches!(publisher.publish(Order(9)).await, Err(PublishError::Closed(Order(9)))));
    gate.add_permits(10);
    until(|| calls.len() == 5).await;
    balanced(subscription.unsubscribe().await.expect("a queue"), 5);
}

#[tokio::test]
async fn an_inline_handler_that_publishes_into_room_that_its_own_publish_holds_is_told() {
    let bus = Bus::new();
    let (weak, calls) = (bus.downgrade(), Calls::default());
    let recorder = calls.clone();
    let _inline = bus.subscribe(move |order: Delivery<Order>| {
        let (bus, calls) = (weak.upgrade().expect("alive"), recorder.clone());
        async move {
            if order.0 == 0 {
                let refused = bus.publish(Order(1)).await.err();
                calls.add(refused.is_some_and(|error| matches!(error, PublishError::WouldDeadlock(Order(1)))));
            }
        }
    });
    let queue = bus.subscription().queue(1).run(|_: Delivery<Order>| async {}).expect("open");
    let published = tokio::time::timeout(Duration::from_secs(20), bus.publish(Order(0))).await;
    assert_eq!(published.expect("nobody waits for itself").expect("succeeds").queued, 1);
    assert_eq!(calls.all(), [true]);
    until(|| queue.stats().expect("a queue").delivered == 1).await;
    balanced(queue.unsubscribe().await.expect("a queue"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_unsubscribes_under_load_has_every_message_in_the_account() {
    for overflow in [Overflow::Block, Overflow::DropOldest, Overflow::DropNewest] {
        for _ in 0..50 {
            let bus = Bus::builder().ring_capacity(8).build().expect("valid");
            let queue = bus.subscription().queue(4).overflow(overflow).run(|_: Delivery<Order>| async {});
            let queue = queue.expect("open");
            let publisher = bus.publisher();
            let publishing = tokio::spawn(async move {
                let mut accepted = 0;
                for number in 0..2_000 {
                    let report = publisher.publish(Order(number)).await.expect("room comes");
                    accepted += report.queued as u64;
                    if report.queued == 0 {
                        break;
                    }
                }
                accepted
            });
            yield_now().await;
            let stats = queue.unsubscribe().await.expect("a queue");
            let accepted = publishing.await.expect("no panic");
            // A publish that began before the end may have found the queue gone.
            assert!(stats.total() <= accepted && accepted <= stats.total() + 1, "{stats:?}, accepted {accepted}");
        }
    }
}

#[tokio::test]
async fn limits_of_time_beyond_the_clock_are_none() {
    let bus = Bus::builder().ring_capacity(1).build().expect("valid");
    let queue = bus.subscription().queue(1).overflow(Overflow::BlockTimeout(Duration::MAX));
    let retry = message_bus::FixedDelay::new(1, Duration::MAX);
    let handler = |order: Delivery<Order>| async move { if order.0 == 0 { Err(OutOf("luck")) } else { Ok(()) } };
    let queue = queue.retry(retry).run(handler).expect("open");
    for number in 0..20 {
        bus.publish(Order(number)).await.expect("room comes");
    }
    until(|| queue.stats().expect("a queue").delivered == 19).await;
    let report = bus.shutdown(Duration::MAX).await;
    assert_eq!((report.dead_lettered, report.unfinished), (1, 0), "the one that waits for its retry");
    balanced(queue.stats().expect("a queue"), 20);
}

/// Publishes when it is dropped, or panics.
struct Lingering(Option<WeakBus>);
event!(Lingering);

impl Drop for Lingering {
    fn drop(&mut self) {
        match self.0.take() {
            Some(bus) => {
                if let Some(bus) = bus.upgrade() {
                    drop(bus.publisher().try_publish(Lingering(None)));
                }
            }
            None => std::panic::resume_unwind(Box::new("as the test wants")),
        }
    }
}

#[tokio::test]
async fn destructors_of_lost_messages_run_outside_of_the_locks_and_harm_nobody() {
    for overflow in [Overflow::DropOldest, Overflow::DropNewest, Overflow::Conflate] {
        let bus = Bus::builder().ring_capacity(4).build().expect("valid");
        let gate = Arc::new(Semaphore::new(0));
        let behind = Arc::clone(&gate);
        let handler = move |_: Delivery<Lingering>| {
            let gate = Arc::clone(&behind);
            async move { gate.acquire().await.expect("open").forget() }
        };
        let queue = bus.subscription().queue(2).overflow(overflow).run(handler).expect("open");
        let publisher = bus.publisher();
        for number in 0..50 {
            let message = Lingering((number % 2 == 0).then(|| bus.downgrade()));
            let published = tokio::time::timeout(Duration::from_secs(20), publisher.publish(message)).await;
            published.expect("no lock is held").expect("it never waits");
            yield_now().await;
        }
        gate.add_permits(1_000);
        bus.shutdown(Duration::from_secs(20)).await;
        let stats = queue.stats().expect("a queue");
        assert!(stats.total() >= 50 && stats.delivered > 0 && stats.dropped > 0, "{stats:?}");
    }
}
