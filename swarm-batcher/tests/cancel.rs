//! Callers that leave, are not polled, or wait for themselves.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use support::{AtOnce, End, Gated, Watched, answer, settle};
use swarm_batcher::{Batch, BatchError, BatchHandler, Batcher, OnFull, Reason};
use tokio::task::yield_now;

type Ours = Batcher<u64, u64, String>;

#[tokio::test]
async fn an_item_whose_caller_leaves_before_its_batch_starts_never_runs() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).build().unwrap();
    let first = batcher.submit(0).unwrap();
    settle().await;
    let receipts: Vec<_> = (1..=3).map(|item| batcher.submit(item).unwrap()).collect();
    let mut receipts = receipts.into_iter();
    let (second, third, fourth) = (receipts.next().unwrap(), receipts.next().unwrap(), receipts.next().unwrap());
    drop(third);
    gated.take().remove(0).end(End::well());
    assert_eq!(first.await, Ok(answer(0)));
    settle().await;
    let running = gated.take().remove(0);
    assert_eq!(running.items, [1, 3]);
    running.end(End::well());
    assert_eq!((second.await, fourth.await), (Ok(answer(1)), Ok(answer(3))));
    assert_eq!(batcher.stats().cancelled, 1);
    assert!(batcher.stats().is_balanced());
}

#[tokio::test]
async fn a_batch_that_runs_goes_on_without_its_caller() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).build().unwrap();
    let receipt = batcher.submit(1).unwrap();
    settle().await;
    drop(receipt);
    gated.take().remove(0).end(End::well());
    settle().await;
    let stats = batcher.stats();
    assert_eq!((stats.succeeded, stats.cancelled, stats.in_flight), (1, 0, 0));
}

/// Waits so many times before it answers.
struct Turns(u64, Arc<AtomicU64>);

impl BatchHandler<u64> for Turns {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        for _ in 0..self.0 {
            yield_now().await;
        }
        for slot in batch.iter_mut() {
            let reply = answer(*slot.item());
            slot.reply(Ok(reply));
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_leader_may_be_dropped_at_every_poll() {
    for polls in 0..12 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handled = Arc::new(AtomicU64::new(0));
        runtime.block_on(async {
            let batcher: Ours = Batcher::builder(Turns(8, Arc::clone(&handled))).build().unwrap();
            let others: Vec<_> = {
                let mut leader = Box::pin(batcher.call(0));
                let mut others = Vec::new();
                for poll in 0..polls {
                    if leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                        break;
                    }
                    if poll == 0 {
                        others = (1..=3).map(|item| batcher.submit(item).unwrap()).collect();
                    }
                    yield_now().await;
                }
                others
            };
            for (item, receipt) in (1..).zip(others) {
                let reply = tokio::time::timeout(Duration::from_secs(5), receipt).await.expect("nothing hangs");
                assert_eq!(reply, Ok(answer(item)), "{polls} polls of the leader");
            }
            batcher.flush().await.unwrap();
            assert!(batcher.stats().is_balanced());
            assert_eq!(handled.load(Ordering::Relaxed), if polls == 0 { 0 } else { 4 });
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_leader_that_is_not_polled() {
    let handled = Arc::new(AtomicU64::new(0));
    let batcher: Ours = Batcher::builder(Turns(3, handled)).build().unwrap();
    let other = batcher.clone();
    // Begun, then left alone.
    let mut leader = Box::pin(batcher.call(0));
    assert!(leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let start = Instant::now();
    for item in 1..=20 {
        assert_eq!(other.call(item).await, Ok(answer(item)));
    }
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(leader.await, Ok(answer(0)));
}

/// Calls its own batcher.
struct Nested(std::sync::OnceLock<Ours>);

/// Weak: the batcher holds its handler.
struct Handle(Weak<Nested>);

impl BatchHandler<u64> for Handle {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        let nested = self.0.upgrade().unwrap();
        let batcher = nested.0.get().unwrap();
        for slot in batch.iter_mut() {
            let item = *slot.item();
            let inner = match item {
                0 => Ok(1),
                1 => batcher.flush().await.map(|report| report.items).map_err(|reason| reason.to_string()),
                2 => batcher.push(0).await.map(|()| 1).map_err(|rejected| rejected.reason.to_string()),
                3 => match batcher.submit(0) {
                    Ok(receipt) => receipt.await.map_err(|error| error.to_string()),
                    Err(rejected) => Err(rejected.reason.to_string()),
                },
                4 => batcher.call_all([0, 0]).await.remove(0).map_err(|error| error.to_string()),
                item => batcher.call(item - 5).await.map_err(|error| error.to_string()),
            };
            slot.reply(inner);
        }
    }
}

#[test]
fn a_handler_that_waits_for_its_own_batcher_gets_an_error_and_hangs_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (in_flight, room) in [(1, 1), (1, 100), (2, 100)] {
            let nested = Arc::new(Nested(std::sync::OnceLock::new()));
            let batcher: Ours = Batcher::builder(Handle(Arc::downgrade(&nested)))
                .max_in_flight(in_flight)
                .max_queue_items(room)
                .build()
                .unwrap();
            nested.0.set(batcher.clone()).unwrap();
            for item in 1..=9 {
                let reply = tokio::time::timeout(Duration::from_secs(5), batcher.call(item)).await.expect("no hang");
                let own = BatchError::<String>::Rejected(Reason::Reentrant).to_string();
                match (item, in_flight, room) {
                    // There is a second permit: the inner batch starts at once.
                    (5.., 2, _) if item == 5 => assert_eq!(reply, Ok(1)),
                    (1, ..) => assert_eq!(reply, Err(BatchError::Handler(Reason::Reentrant.to_string()))),
                    (2, 1, 1) => assert_eq!(reply, Err(BatchError::Handler(Reason::Reentrant.to_string()))),
                    (2, ..) => assert_eq!(reply, Ok(1), "there is room, and a push does not wait for its batch"),
                    (3, 1, 1) => assert_eq!(reply, Err(BatchError::Handler(Reason::Full.to_string()))),
                    (_, 1, _) => assert_eq!(reply, Err(BatchError::Handler(own)), "item {item}"),
                    _ => assert!(reply.is_ok() || reply.is_err()),
                }
            }
            batcher.flush().await.unwrap();
            assert!(batcher.stats().is_balanced());
        }
    });
}

#[tokio::test]
async fn a_push_that_leaves_while_it_waits_for_room_takes_its_item_along() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).max_queue_items(1).on_full(OnFull::Wait).build().unwrap();
    batcher.try_push(0).unwrap();
    settle().await;
    let push = |item| {
        let batcher = batcher.clone();
        Watched::new(async move { batcher.push(item).await })
    };
    let (mut second, mut third) = (push(1), push(2));
    assert!(second.poll().is_none() && third.poll().is_none());
    drop(second);
    settle().await;
    gated.take().remove(0).end(End::well());
    settle().await;
    assert_eq!(third.poll(), Some(Ok(())));
    assert_eq!(gated.take().remove(0).items, [2]);
    assert_eq!(batcher.stats().cancelled, 1);
}

#[tokio::test]
async fn a_flush_that_is_dropped_changes_nothing() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).build().unwrap();
    let receipt = batcher.submit(1).unwrap();
    let clone = batcher.clone();
    let mut flush = Watched::new(async move { clone.flush().await });
    assert!(flush.poll().is_none());
    drop(flush);
    settle().await;
    gated.take().remove(0).end(End::well());
    assert_eq!(receipt.await, Ok(answer(1)));
    assert_eq!(batcher.flush().await.unwrap().items, 0);
}

#[tokio::test]
async fn a_lone_call_needs_no_task_of_the_batchers() {
    let at_once = AtOnce::default();
    let batcher: Ours = Batcher::builder(at_once.clone()).build().unwrap();
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for item in 0..100 {
        assert_eq!(batcher.call(item).await, Ok(answer(item)));
    }
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), before);
    assert_eq!(at_once.batches.load(Ordering::Relaxed), 100);
}
