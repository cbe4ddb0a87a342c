//! Handlers that a publish calls itself.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use message_bus::{
    Bus, Cause, Delivery, FailurePolicy, HandlerError, MessageId, Metadata, PublishError, PublishReport, Subscription,
    event,
};
use support::{Calls, Order, OutOf, Payment};
use tokio::task::yield_now;

fn bus(policy: FailurePolicy) -> Bus {
    Bus::builder().failure_policy(policy).build().expect("valid")
}

/// Nothing that was called is missing from the account.
fn balanced(report: &PublishReport, called: usize) {
    assert_eq!((report.called, report.succeeded() + report.failures.len()), (called, called));
}

#[tokio::test]
async fn synchronous_handlers_run_in_order_then_asynchronous_ones_at_once() {
    let bus = Bus::new();
    let calls = Calls::default();
    let mut subscriptions = Vec::new();
    for name in ["slow", "quick"] {
        let calls = calls.clone();
        let handler = move |order: Delivery<Order>| {
            let calls = calls.clone();
            async move {
                calls.add(format!("{name} begins with {}", order.0));
                if name == "slow" {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                calls.add(format!("{name} ends"));
            }
        };
        subscriptions.push(bus.subscribe(handler).expect("open"));
    }
    for name in ["first", "second"] {
        let calls = calls.clone();
        let handler = move |order: &Order| calls.add(format!("{name} gets {}", order.0));
        subscriptions.push(bus.subscribe_sync(handler).expect("open"));
    }
    let report = bus.publish(Order(7)).await.expect("all succeed");
    balanced(&report, 4);
    let expected =
        ["first gets 7", "second gets 7", "slow begins with 7", "quick begins with 7", "quick ends", "slow ends"];
    assert_eq!(calls.all(), expected);
}

#[tokio::test]
async fn a_publish_without_handlers_succeeds() {
    let bus = Bus::new();
    balanced(&bus.publish(Order(1)).await.expect("nobody is needed"), 0);
    balanced(&bus.publisher::<Order>().publish(Order(1)).await.expect("nobody is needed"), 0);
    balanced(&bus.publisher().try_publish(Payment(1)).expect("nobody is needed"), 0);
}

#[tokio::test]
async fn several_types_and_several_buses_do_not_hear_each_other() {
    let calls = Calls::default();
    let buses = [Bus::new(), Bus::new()];
    let mut subscriptions = Vec::new();
    for (number, bus) in buses.iter().enumerate() {
        let recorder = calls.clone();
        subscriptions
            .push(bus.subscribe_sync(move |order: &Order| recorder.add((number, "order", order.0))).expect("open"));
        let recorder = calls.clone();
        subscriptions.push(
            bus.subscribe_sync(move |payment: &Payment| recorder.add((number, "payment", payment.0))).expect("open"),
        );
    }
    let publisher = buses[1].publisher::<Payment>();
    for report in [
        buses[0].publish(Order(1)).await.expect("succeeds"),
        buses[1].publish(Order(2)).await.expect("succeeds"),
        buses[0].clone().publisher().publish(Order(3)).await.expect("succeeds"),
    ] {
        balanced(&report, 1);
    }
    publisher.clone().publish(Payment(4)).await.expect("succeeds");
    assert_eq!(calls.all(), [(0, "order", 1), (1, "order", 2), (0, "order", 3), (1, "payment", 4)]);
}

/// One handler of each kind that fails, panics or succeeds.
fn mixed(bus: &Bus, calls: &Calls<&'static str>) -> Vec<Subscription> {
    let recorder = calls.clone();
    let sync_fails = move |_: &Order| {
        recorder.add("sync");
        Err(OutOf("paper"))
    };
    let async_panics = |order: Delivery<Order>| async move {
        yield_now().await;
        assert_eq!(order.0, 0, "the number");
    };
    let recorder = calls.clone();
    let async_succeeds = move |_: Delivery<Order>| {
        let calls = recorder.clone();
        async move {
            yield_now().await;
            yield_now().await;
            calls.add("async");
        }
    };
    vec![
        bus.subscription().name("printer").run_sync(sync_fails).expect("open"),
        bus.subscription().name("counter").run(async_panics).expect("open"),
        bus.subscription().name("mailer").run(async_succeeds).expect("open"),
    ]
}

#[tokio::test]
async fn every_cause_is_kept_with_the_name_of_its_handler() {
    let bus = bus(FailurePolicy::AnyFailed);
    let calls = Calls::default();
    let _subscriptions = mixed(&bus, &calls);
    let Err(PublishError::HandlersFailed(report)) = bus.publish(Order(1)).await else { panic!("two fail") };
    balanced(&report, 3);
    let names: Vec<&str> = report.failures.iter().map(|failure| &*failure.handler).collect();
    assert_eq!(names, ["printer", "counter"]);
    assert!(matches!(&report.failures[0].cause, Cause::Error(error) if error.source().is::<OutOf>()));
    assert!(matches!(&report.failures[1].cause, Cause::Panicked(text) if text.contains("the number")));
    assert!(report.to_string().contains("handler `printer`: out of paper"), "{report}");
    assert_eq!(calls.all(), ["sync", "async"], "the others did their work");
}

#[tokio::test]
async fn the_policy_says_which_failures_are_errors() {
    for (policy, expected) in
        [(FailurePolicy::AllFailed, 0), (FailurePolicy::Collect, 0), (FailurePolicy::AnyFailed, 1)]
    {
        let bus = bus(policy);
        let calls = Calls::default();
        let _subscriptions = mixed(&bus, &calls);
        assert_eq!(usize::from(bus.publish(Order(1)).await.is_err()), expected, "{policy:?}");
        assert_eq!(calls.len(), 2, "{policy:?}");
    }
    for (policy, expected) in
        [(FailurePolicy::AllFailed, 1), (FailurePolicy::Collect, 0), (FailurePolicy::AnyFailed, 1)]
    {
        let bus = bus(policy);
        let _all = bus.subscribe_sync(|_: &Order| Err(OutOf("paper"))).expect("open");
        assert_eq!(usize::from(bus.publish(Order(1)).await.is_err()), expected, "{policy:?}");
    }
}

#[tokio::test]
async fn fail_fast_drops_who_has_not_finished_and_calls_nobody_else() {
    let bus = bus(FailurePolicy::FailFast);
    let calls = Calls::default();
    let subscriptions = mixed(&bus, &calls);
    let Err(PublishError::HandlersFailed(report)) = bus.publish(Order(1)).await else { panic!("the first fails") };
    balanced(&report, 1);
    assert_eq!(calls.all(), ["sync"]);
    let mut subscriptions = subscriptions.into_iter();
    drop(subscriptions.next());
    let Err(PublishError::HandlersFailed(report)) = bus.publish(Order(1)).await else { panic!("the second panics") };
    balanced(&report, 2);
    assert!(matches!(report.failures[1].cause, Cause::Cancelled), "{report:?}");
    assert_eq!(calls.all(), ["sync"], "the third was cut short");
    assert!(bus.publish(Order(0)).await.is_ok(), "and its memory can be used again");
    assert_eq!(calls.all(), ["sync", "async"]);
}

#[tokio::test]
async fn a_handler_that_panics_before_its_first_await_is_a_failure() {
    let bus = bus(FailurePolicy::Collect);
    let eager = |order: Delivery<Order>| {
        assert_eq!(order.0, 0, "eager");
        std::future::ready(())
    };
    let _one = bus.subscribe(eager).expect("open");
    let _other = bus.subscribe_sync(|_: &Order| -> () { panic!("sync") }).expect("open");
    for _ in 0..3 {
        let report = bus.publish(Order(1)).await.expect("collected");
        balanced(&report, 2);
        assert_eq!(report.failures.len(), 2, "{report}");
    }
    assert_eq!(bus.publish(Order(0)).await.expect("collected").succeeded(), 1);
}

#[tokio::test]
async fn a_publish_sees_the_handlers_of_one_moment() {
    let bus = Bus::new();
    let (calls, added) = (Calls::default(), Calls::default());
    let _subscription = bus
        .subscribe_sync({
            let (bus, calls, added) = (bus.clone(), calls.clone(), added);
            move |order: &Order| {
                calls.add(("old", order.0));
                if order.0 < 3 {
                    let calls = calls.clone();
                    let new = bus.subscribe_sync(move |order: &Order| calls.add(("new", order.0))).expect("open");
                    added.add(Arc::new(new));
                }
            }
        })
        .expect("open");
    for number in 1..=3 {
        balanced(&bus.publish(Order(number)).await.expect("succeeds"), number as usize);
    }
    assert_eq!(calls.all(), [("old", 1), ("old", 2), ("new", 2), ("old", 3), ("new", 3), ("new", 3)]);
    bus.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_dropped_subscription_gets_nothing_more_even_if_its_own_handler_drops_it() {
    let bus = Bus::new();
    let calls = Calls::default();
    let own: Arc<std::sync::Mutex<Option<Subscription>>> = Arc::default();
    let recorder = calls.clone();
    let handler = {
        let own = Arc::clone(&own);
        move |order: Delivery<Order>| {
            drop(own.lock().expect("no panic").take());
            let calls = recorder.clone();
            async move {
                yield_now().await;
                calls.add(order.0);
            }
        }
    };
    *own.lock().expect("no panic") = Some(bus.subscribe(handler).expect("open"));
    balanced(&bus.publish(Order(1)).await.expect("succeeds"), 1);
    balanced(&bus.publish(Order(2)).await.expect("succeeds"), 0);
    assert_eq!(calls.all(), [1]);
}

#[tokio::test]
async fn unsubscribe_waits_for_the_handler_that_is_at_work() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let slow = move |_: Delivery<Order>| {
        let calls = recorder.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            calls.add("handled");
        }
    };
    let subscription = bus.subscribe(slow).expect("open");
    let publish = tokio::spawn({
        let bus = bus.clone();
        async move { bus.publish(Order(1)).await.expect("succeeds") }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let unsubscribed = subscription.unsubscribe();
    calls.add("ends");
    assert_eq!(unsubscribed.await, None);
    assert_eq!(calls.all(), ["ends", "handled"]);
    balanced(&publish.await.expect("no panic"), 1);
    balanced(&bus.publish(Order(2)).await.expect("succeeds"), 0);
}

#[tokio::test]
async fn a_publish_that_is_dropped_drops_its_handlers_and_leaves_the_bus_whole() {
    struct Guard(Arc<AtomicUsize>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let bus = Bus::new();
    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dropped);
    let waits = move |order: Delivery<Order>| {
        let guard = Guard(Arc::clone(&counter));
        async move {
            if order.0 == 1 {
                std::future::pending::<()>().await;
            }
            drop(guard);
        }
    };
    let _subscription = bus.subscribe(waits).expect("open");
    for round in 1..=3 {
        let mut publish = Box::pin(bus.publish(Order(1)));
        assert!(publish.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(publish);
        assert_eq!(dropped.load(Ordering::SeqCst), 2 * round - 1, "dropped with the publish");
        balanced(&bus.publish(Order(2)).await.expect("succeeds"), 1);
    }
}

#[tokio::test]
async fn try_publish_waits_for_nobody() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let _sync = bus.subscribe_sync(move |order: &Order| recorder.add(order.0)).expect("open");
    let publisher = bus.publisher();
    balanced(&publisher.try_publish(Order(1)).expect("synchronous"), 1);
    let asynchronous = bus.subscribe(|_: Delivery<Order>| async {}).expect("open");
    let refused = publisher.try_publish(Order(2)).expect_err("it has to be awaited");
    assert!(matches!(&refused, PublishError::NeedsAwait(_)));
    assert_eq!(refused.into_message(), Some(Order(2)));
    drop(asynchronous);
    balanced(&publisher.try_publish(Order(3)).expect("synchronous"), 1);
    assert_eq!(calls.all(), [1, 3]);
}

#[test]
fn an_error_knows_its_source_and_whether_it_will_pass() {
    let transient: HandlerError = OutOf("paper").into();
    assert!(!transient.is_permanent() && transient.source().is::<OutOf>());
    let permanent = HandlerError::permanent("no such customer");
    assert!(permanent.is_permanent());
    assert_eq!(permanent.to_string(), "no such customer");
}

struct Child(Option<Metadata>);
event!(Child);

/// One conversation: an order, whose handler publishes a payment, whose handler publishes another.
#[tokio::test]
async fn correlation_and_causation_are_carried_on_by_themselves() {
    let bus = Bus::new();
    let ids: Calls<(&'static str, MessageId, MessageId, Option<MessageId>)> = Calls::default();
    let note = |ids: &Calls<_>, what| {
        let metadata = Metadata::current().expect("a handler is running");
        ids.add((what, metadata.id, metadata.correlation, metadata.causation));
    };
    let _order = bus
        .subscribe({
            let (bus, ids) = (bus.clone(), ids.clone());
            move |order: Delivery<Order>| {
                let (bus, ids) = (bus.clone(), ids.clone());
                async move {
                    yield_now().await;
                    note(&ids, "order");
                    assert_eq!(order.metadata(), &Metadata::current().expect("a handler is running"));
                    bus.publish(Payment(1)).await.expect("succeeds");
                    assert_eq!(order.metadata(), &Metadata::current().expect("the publish has put it back"));
                }
            }
        })
        .expect("open");
    let _payment = bus
        .subscribe_sync({
            let (publisher, ids) = (bus.publisher::<Child>(), ids.clone());
            move |_: &Payment| {
                note(&ids, "payment");
                publisher.try_publish(Child(Metadata::current())).expect("synchronous");
            }
        })
        .expect("open");
    let _child = bus
        .subscribe_sync({
            let ids = ids.clone();
            move |child: &Child| {
                note(&ids, "child");
                assert_eq!(Metadata::current().expect("mine").causation, child.0.as_ref().map(|parent| parent.id));
            }
        })
        .expect("open");
    assert_eq!(Metadata::current(), None);
    for round in 0..2 {
        bus.publish(Order(1)).await.expect("succeeds");
        let all = ids.all();
        let [order, payment, child] = all[round * 3..] else { panic!("three: {all:?}") };
        assert_eq!((order.0, order.2, order.3), ("order", order.1, None), "the first of the conversation");
        assert_eq!((payment.0, payment.2, payment.3), ("payment", order.1, Some(order.1)));
        assert_eq!((child.0, child.2, child.3), ("child", order.1, Some(payment.1)));
    }
    assert_ne!(ids.all()[0].1, ids.all()[3].1, "a carrier that is used again has another id");
    assert_eq!(Metadata::current(), None);
    bus.shutdown(Duration::ZERO).await;
}

#[test]
fn a_publish_of_synchronous_handlers_is_ready_at_once_on_any_executor() {
    let bus = Bus::new();
    let _subscription = bus.subscribe_sync(|_: &Order| {}).expect("open");
    let mut publish = Box::pin(bus.publish(Order(1)));
    assert!(matches!(publish.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(_))));
}
