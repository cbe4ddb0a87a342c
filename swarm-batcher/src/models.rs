//! Models of what callers, runners and handles do to each other: every order of their steps with few preemptions under loom, random ones
//! under shuttle. What can go wrong is a wake that is missed, an item that is left, a seat that two callers have, or a runner that never ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use crate::runner::Runner;
use crate::shared::Shared;
use crate::{Batch, BatchHandler, Batcher, BatcherBuilder};

#[cfg(swarm_batcher_loom)]
use loom::{future::block_on, thread};
#[cfg(all(swarm_batcher_shuttle, not(swarm_batcher_loom)))]
use shuttle::{future::block_on, thread};

type Ours = Batcher<u64, u64, Infallible>;

/// A runner is a thread of the model.
fn spawn(_: Option<Handle>, shared: Arc<Shared<u64, u64, Infallible>>, id: u64) {
    thread::spawn(move || block_on(Runner::new(shared, id)));
}

/// Answers when it was polled so many times.
struct Turns {
    turns: u64,
    handled: Arc<AtomicU64>,
}

struct Turn(bool);

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl BatchHandler<u64> for Turns {
    type Output = u64;
    type Error = Infallible;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, Infallible>) {
        for _ in 0..self.turns {
            Turn(false).await;
        }
        for slot in batch.iter_mut() {
            let item = *slot.item();
            self.handled.fetch_add(1, Ordering::Relaxed);
            slot.reply(Ok(item + 100));
        }
    }
}

fn build(
    turns: u64,
    with: impl FnOnce(BatcherBuilder<u64, u64, Infallible>) -> BatcherBuilder<u64, u64, Infallible>,
) -> (Ours, Arc<AtomicU64>) {
    let handled = Arc::new(AtomicU64::new(0));
    let builder = with(Batcher::builder(Turns { turns, handled: Arc::clone(&handled) }));
    (builder.build_on(spawn).expect("valid"), handled)
}

/// Two callers at once, one of whom may lead and the other find the lane taken.
fn two_callers(turns: u64) {
    let (batcher, handled) = build(turns, |builder| builder);
    let other = batcher.clone();
    let thread = thread::spawn(move || assert_eq!(block_on(other.call(1)), Ok(101)));
    assert_eq!(block_on(batcher.call(2)), Ok(102));
    thread.join().unwrap();
    assert_eq!(handled.load(Ordering::Relaxed), 2);
    assert!(batcher.stats().is_balanced());
}

/// A leader leaves when its batch is under way; the other caller gets its reply all the same.
fn a_leader_that_leaves() {
    let (batcher, handled) = build(1, |builder| builder);
    let other = batcher.clone();
    let thread = thread::spawn(move || assert_eq!(block_on(other.call(1)), Ok(101)));
    {
        let mut call = Box::pin(batcher.call(2));
        block_on(std::future::poll_fn(|context| {
            let _either = call.as_mut().poll(context);
            Poll::Ready(())
        }));
    }
    thread.join().unwrap();
    let stats = batcher.stats();
    assert!(stats.is_balanced() && stats.accepted == 2);
    assert!(handled.load(Ordering::Relaxed) >= 1);
}

/// A receipt is dropped while a runner may be taking its item.
fn a_receipt_that_is_dropped() {
    let (batcher, handled) = build(0, |builder| builder.max_batch_items(1));
    let first = batcher.submit(1).expect("room");
    let second = batcher.submit(2).expect("room");
    let thread = thread::spawn(move || drop(second));
    assert_eq!(block_on(first), Ok(101));
    thread.join().unwrap();
    block_on(batcher.flush()).expect("outside of the handler");
    let stats = batcher.stats();
    assert!(stats.is_balanced() && stats.queued + stats.in_flight == 0);
    assert_eq!(stats.cancelled + handled.load(Ordering::Relaxed), 2);
}

/// What was pushed runs although every handle goes, and the runners end.
fn the_last_handles_go() {
    let (batcher, handled) = build(0, |builder| builder.max_in_flight(1));
    let other = batcher.clone();
    let thread = thread::spawn(move || other.try_push(1).expect("room"));
    batcher.try_push(2).expect("room");
    let receipt = batcher.submit(3).expect("room");
    drop(batcher);
    thread.join().unwrap();
    assert_eq!(block_on(receipt), Ok(103));
    assert!((1..=3).contains(&handled.load(Ordering::Relaxed)));
}

/// A push waits for room that a batch makes, and a flush for both.
fn room_and_a_barrier() {
    let (batcher, handled) = build(0, |builder| builder.max_queue_items(1));
    let other = batcher.clone();
    let thread = thread::spawn(move || block_on(other.push(1)).expect("room comes"));
    block_on(batcher.push(2)).expect("room comes");
    block_on(batcher.flush()).expect("outside of the handler");
    assert!(handled.load(Ordering::Relaxed) >= 1);
    thread.join().unwrap();
    block_on(batcher.flush()).expect("outside of the handler");
    assert_eq!(handled.load(Ordering::Relaxed), 2);
}

/// The batcher closes while a batch may be running: its caller has its own reply, or hears that there will be none.
fn a_close_beside_a_batch(turns: u64) {
    let (batcher, handled) = build(turns, |builder| builder);
    let other = batcher.clone();
    let thread = thread::spawn(move || {
        other.shared().drain();
        other.shared().close();
    });
    match block_on(batcher.call(1)) {
        Ok(reply) => assert_eq!(reply, 101),
        Err(crate::BatchError::Closed { .. } | crate::BatchError::Rejected(crate::Reason::Closed)) => {}
        Err(error) => panic!("{error}"),
    }
    thread.join().unwrap();
    assert!(handled.load(Ordering::Relaxed) <= 1);
    assert!(batcher.stats().is_balanced());
}

/// Callers who call again and again, some of whom leave: items are put down while others run, and seats change hands.
#[cfg(all(swarm_batcher_shuttle, not(swarm_batcher_loom)))]
fn callers_in_a_row(turns: u64) {
    let (batcher, _) = build(turns, |builder| builder.max_batch_items(3));
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let batcher = batcher.clone();
            thread::spawn(move || {
                for call in 0..4 {
                    let item = 10 * thread + call;
                    if call == 2 {
                        let mut left = Box::pin(batcher.call(item));
                        block_on(std::future::poll_fn(|context| {
                            let _either = left.as_mut().poll(context);
                            Poll::Ready(())
                        }));
                    } else {
                        assert_eq!(block_on(batcher.call(item)), Ok(item + 100));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    block_on(batcher.flush()).expect("outside of the handler");
    let stats = batcher.stats();
    assert!(stats.is_balanced() && stats.accepted == 12 && stats.queued + stats.in_flight == 0);
}

/// A runner's runtime goes while a caller waits: it is answered, one way or the other.
fn a_runner_that_is_dropped() {
    fn polled_once(_: Option<Handle>, shared: Arc<Shared<u64, u64, Infallible>>, id: u64) {
        thread::spawn(move || {
            let mut runner = Box::pin(Runner::new(shared, id));
            block_on(std::future::poll_fn(|context| {
                let _either = runner.as_mut().poll(context);
                Poll::Ready(())
            }));
        });
    }
    let handled = Arc::new(AtomicU64::new(0));
    let builder = Batcher::builder(Turns { turns: 1, handled });
    let batcher: Ours = builder.build_on(polled_once).expect("valid");
    let receipt = batcher.submit(1).expect("room");
    match block_on(receipt) {
        Ok(reply) => assert_eq!(reply, 101),
        Err(error) => assert!(matches!(error, crate::BatchError::Closed { .. })),
    }
    assert!(batcher.stats().is_balanced());
}

#[cfg(swarm_batcher_loom)]
mod every_order {
    use super::*;

    /// Every order with so many switches away from a thread that could go on; few are left out by that, and they are many.
    fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(run);
    }

    #[test]
    fn loom_two_callers_of_a_handler_that_is_done_at_once() {
        model(3, || two_callers(0));
    }

    #[test]
    fn loom_two_callers_of_a_handler_that_waits() {
        model(2, || two_callers(1));
    }

    #[test]
    fn loom_a_leader_that_leaves() {
        model(2, a_leader_that_leaves);
    }

    #[test]
    fn loom_a_receipt_that_is_dropped() {
        model(2, a_receipt_that_is_dropped);
    }

    #[test]
    fn loom_the_last_handles_go() {
        model(2, the_last_handles_go);
    }

    #[test]
    fn loom_room_and_a_barrier() {
        model(2, room_and_a_barrier);
    }

    #[test]
    fn loom_a_close_beside_a_batch() {
        model(2, || a_close_beside_a_batch(1));
    }

    #[test]
    fn loom_a_runner_that_is_dropped() {
        model(3, a_runner_that_is_dropped);
    }
}

#[cfg(all(swarm_batcher_shuttle, not(swarm_batcher_loom)))]
mod random_orders {
    use super::*;

    fn schedules() -> usize {
        std::env::var("SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000)
    }

    #[test]
    fn shuttle_everything() {
        for run in [
            || two_callers(0),
            || two_callers(2),
            a_leader_that_leaves,
            a_receipt_that_is_dropped,
            the_last_handles_go,
            room_and_a_barrier,
            a_runner_that_is_dropped,
            || a_close_beside_a_batch(0),
            || a_close_beside_a_batch(1),
            || callers_in_a_row(0),
            || callers_in_a_row(1),
        ] {
            shuttle::check_random(run, schedules());
        }
    }
}
