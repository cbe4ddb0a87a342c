//! Wakers are other people's code: whatever they do when they are cloned, woken or dropped, the store goes on.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use event_store::{Append, Delivery, EventStore, MemoryStore, Subscribe, SubscribeError, Subscription};
use futures::{FutureExt as _, StreamExt as _};
use support::{event, events, head, position};

/// Counts how often it was woken.
#[derive(Default)]
struct Counting(AtomicU64);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("a waker panics");
    }
}

/// Appends when it is dropped.
struct Appending(Arc<MemoryStore>);

impl Wake for Appending {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Appending {
    fn drop(&mut self) {
        self.0.append_now(Append::events([event(1_000 + head(&self.0))])).expect("nothing is expected");
    }
}

/// Polls until the subscription sleeps with `waker`.
fn sleep_with(subscription: &mut Subscription, waker: &Waker) {
    let mut context = Context::from_waker(waker);
    while let Poll::Ready(delivery) = subscription.poll_next_unpin(&mut context) {
        assert!(matches!(delivery, Some(Ok(_))), "{delivery:?}");
    }
}

#[test]
fn one_waker_that_panics_keeps_nobody_asleep_and_refuses_nothing() {
    let store = MemoryStore::new();
    let counting = Arc::new(Counting::default());
    let mut subscriptions: Vec<Subscription> = (0..9).map(|_| store.subscribe(Subscribe::from_start())).collect();
    for (number, subscription) in subscriptions.iter_mut().enumerate() {
        let waker = if number == 4 { Arc::new(Panicking).into() } else { Arc::clone(&counting).into() };
        sleep_with(subscription, &waker);
    }
    let appended = store.append_now(Append::events([event(0)])).expect("the append stands");
    assert_eq!(appended.positions, Some((position(1), position(1))));
    assert_eq!(counting.0.load(Ordering::Relaxed), 8);
    for subscription in &mut subscriptions {
        assert!(matches!(subscription.next().now_or_never(), Some(Some(Ok(Delivery::Event(_))))));
    }
    store.append_now(Append::events([event(1)])).expect("the store is as it was");
}

#[test]
fn a_waker_that_appends_when_it_is_dropped_does_not_meet_a_lock() {
    let store = Arc::new(MemoryStore::new());
    let mut subscription = store.subscribe(Subscribe::from_start());
    for _ in 0..3 {
        // Each takes the place of the last one, which is dropped.
        sleep_with(&mut subscription, &Arc::new(Appending(Arc::clone(&store))).into());
    }
    drop(subscription);
    let held_back = store.subscribe(Subscribe::from_start().window(std::num::NonZeroU32::MIN));
    let mut held_back = held_back;
    for _ in 0..3 {
        sleep_with(&mut held_back, &Arc::new(Appending(Arc::clone(&store))).into());
    }
    held_back.acknowledge(position(1)).expect("it was delivered");
    drop(held_back);
    assert!(head(&store) >= 5, "{}", head(&store));
}

#[test]
fn a_subscription_that_is_dropped_is_not_woken() {
    let store = MemoryStore::new();
    let counting = Arc::new(Counting::default());
    let waker = Arc::clone(&counting).into();
    let mut kept = store.subscribe(Subscribe::tail());
    sleep_with(&mut kept, &waker);
    for _ in 0..100 {
        sleep_with(&mut store.subscribe(Subscribe::tail()), &waker);
    }
    assert_eq!(Arc::strong_count(&counting), 3, "ours and that of the one that still sleeps");
    store.append_now(Append::events([event(0)])).expect("nothing is expected");
    assert_eq!(counting.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_cursor_is_judged_by_the_head_at_the_call() {
    let store = MemoryStore::new();
    store.append_now(Append::events(events(0..3))).expect("nothing is expected");
    let mut early = store.subscribe(Subscribe::after(position(5)));
    store.append_now(Append::events(events(3..9))).expect("nothing is expected");
    // The store has passed the cursor by now, with events that the subscriber does not know.
    let refusal = SubscribeError::BeyondHead { cursor: position(5), head: Some(position(3)) };
    assert_eq!(early.next().now_or_never(), Some(Some(Err(refusal))));
    assert_eq!(early.next().now_or_never(), Some(None));
    let mut late = store.subscribe(Subscribe::after(position(5)));
    assert!(matches!(late.next().now_or_never(), Some(Some(Ok(Delivery::Event(_))))));
}
