//! Tower layers around publishing and around handlers.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use message_bus::{Bus, Delivery, FixedDelay, HandlerError, Metadata, PublishError, RawMessage, Reason, layered};
use support::{Calls, Order, OutOf, balanced, until};
use tokio::task::yield_now;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt as _};

/// Counts calls on their way in, for any service.
#[derive(Clone)]
struct Counting<S> {
    inner: S,
    count: Arc<AtomicUsize>,
}

impl<S: Service<R>, R> Service<R> for Counting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.inner.call(request)
    }
}

#[derive(Clone, Default)]
struct CountingLayer(Arc<AtomicUsize>);

impl<S> Layer<S> for CountingLayer {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting { inner, count: Arc::clone(&self.0) }
    }
}

#[tokio::test]
async fn layers_go_around_a_publisher() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let _orders = bus.subscribe_sync(move |order: &Order| recorder.add(order.0)).expect("open");
    let counting = CountingLayer::default();
    let mut publisher = ServiceBuilder::new()
        .layer(counting.clone())
        .map_request(Order)
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .service(bus.publisher::<Order>());
    // The outer layer sees numbers, the bus gets orders.
    for number in 1..=3_u64 {
        let report = publisher.ready().await.expect("always").call(number).await.expect("succeeds");
        assert_eq!(report.called, 1);
    }
    assert_eq!((calls.all(), counting.0.load(Ordering::Relaxed)), (vec![1, 2, 3], 3));
    bus.shutdown(Duration::ZERO).await;
    let open = Bus::new();
    let _raw = open.subscribe_subject(">", |_: Delivery<RawMessage>| async {}).expect("open");
    let mut subjects = ServiceBuilder::new().layer(counting.clone()).service(open.clone());
    let message = RawMessage::new("a".parse().expect("a subject"), "");
    assert_eq!(subjects.ready().await.expect("always").call(message).await.expect("succeeds").called, 1);
    assert_eq!(counting.0.load(Ordering::Relaxed), 4);
    let refused = bus.publisher::<Order>().oneshot(Order(4)).await;
    assert!(matches!(refused, Err(PublishError::Closed(Order(4)))));
}

#[tokio::test]
async fn layers_go_around_a_handler_inline_and_queued() {
    let bus = Bus::new();
    let calls = Calls::default();
    let counting = CountingLayer::default();
    let handler = || {
        let calls = calls.clone();
        move |order: Delivery<Order>| {
            let calls = calls.clone();
            async move {
                yield_now().await;
                calls.add((order.0, Metadata::current().expect("in a handler").id == order.metadata().id));
            }
        }
    };
    let _inline = bus.subscribe(layered(counting.clone(), handler())).expect("open");
    let queue = bus.subscription().queue(8).run(layered(counting.clone(), handler())).expect("open");
    bus.publish(Order(1)).await.expect("succeeds");
    until(|| calls.len() == 2).await;
    assert_eq!((calls.all(), counting.0.load(Ordering::Relaxed)), (vec![(1, true); 2], 2));
    let raw = layered(counting.clone(), |_: Delivery<RawMessage>| async {});
    let _subject = bus.subscribe_subject(">", raw).expect("open");
    bus.publish_subject(RawMessage::new("a".parse().expect("a subject"), "")).await.expect("succeeds");
    assert_eq!(counting.0.load(Ordering::Relaxed), 3);
    balanced(queue.unsubscribe().await.expect("a queue"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_layers_own_error_is_transient_and_retried() {
    let bus = Bus::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let handler = move |_: Delivery<Order>| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
        }
    };
    let layer = ServiceBuilder::new().layer(TimeoutLayer::new(Duration::from_millis(10)));
    let retry = FixedDelay::new(3, Duration::from_millis(1));
    let queue = bus.subscription().queue(8).retry(retry).run(layered(layer, handler)).expect("open");
    bus.publish(Order(1)).await.expect("room");
    until(|| queue.stats().expect("a queue").delivered == 1).await;
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    balanced(queue.unsubscribe().await.expect("a queue"), 1);
}

#[tokio::test]
async fn a_handlers_error_passes_through_layers_that_box_it_as_what_it_was() {
    let bus = Bus::new();
    let layer = || TimeoutLayer::new(Duration::from_secs(10));
    let permanent = |_: Delivery<Order>| async { Err::<(), _>(HandlerError::permanent(OutOf("ink"))) };
    let retry = FixedDelay::new(3, Duration::from_millis(1));
    let queue = bus.subscription().queue(8).retry(retry).run(layered(layer(), permanent)).expect("open");
    bus.publish(Order(1)).await.expect("room");
    until(|| bus.dead_letters().count(Reason::Permanent) == 1).await;
    let letter = bus.dead_letters().page(None, 1).remove(0);
    assert_eq!((letter.attempts, letter.cause.expect("a cause").to_string()), (1, "out of ink".to_owned()));
    balanced(queue.unsubscribe().await.expect("a queue"), 1);
}

#[tokio::test]
async fn a_limit_is_shared_by_all_deliveries() {
    let bus = Bus::new();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |_: Delivery<Order>| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                yield_now().await;
                now.fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
    let limited = layered(ConcurrencyLimitLayer::new(2), handler);
    let queue = bus.subscription().queue(64).concurrency(8).run(limited).expect("open");
    for number in 0..50 {
        bus.publish(Order(number)).await.expect("room");
    }
    until(|| queue.stats().expect("a queue").delivered == 50).await;
    assert_eq!(most.load(Ordering::Relaxed), 2);
    balanced(queue.unsubscribe().await.expect("a queue"), 50);
}

#[tokio::test]
async fn a_panic_within_layers_stays_a_failure_of_the_handler() {
    let bus = Bus::new();
    let panicking = async |order: Delivery<Order>| assert_eq!(order.0, 0, "within");
    let _panicking = bus.subscribe(layered(TimeoutLayer::new(Duration::from_secs(10)), panicking)).expect("open");
    let error = bus.publish(Order(1)).await.expect_err("it panics");
    assert!(error.to_string().contains("panicked: assertion") && error.to_string().contains("within"), "{error}");
}
