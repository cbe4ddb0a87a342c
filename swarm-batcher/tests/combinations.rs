//! Options that meet: shared items, keys, lingers, deadlines, retries, bounds.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::time::Duration;

use support::{AtOnce, End, Gated, Watched, answer, settle};
use swarm_batcher::{
    Batch, BatchError, BatchHandler, Batcher, CallOptions, OnFull, Policy, Reason, RetryPolicy, from_fn,
};

type Ours = Batcher<u64, u64, String>;

const HOUR: Policy = Policy::Linger(Duration::from_secs(3600));

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), future).await.expect("nothing hangs")
}

#[tokio::test]
async fn shared_items_that_may_not_be_retried_are_answered() {
    for budget in [0.0, 0.1, 10.0] {
        let handler = from_fn(|_: Vec<u64>| async { Err::<Vec<u64>, _>("no".to_owned()) });
        let retry = RetryPolicy::new(1, |_: &String| true).backoff(Duration::ZERO, Duration::ZERO).budget(budget);
        let batcher: Ours = Batcher::builder(handler.cloning()).coalesce_by(|&item| item).retry(retry).build().unwrap();
        let told = in_time(batcher.call_all((0..15).chain(0..15))).await;
        assert_eq!(told, vec![Err(BatchError::Handler("no".to_owned())); 30]);
        in_time(batcher.flush()).await.unwrap();
        let stats = batcher.stats();
        assert!(stats.is_balanced() && stats.failed == 30 && stats.queued + stats.in_flight == 0, "{stats:?}");
    }
}

#[tokio::test]
async fn what_the_budget_does_not_allow_is_halved() {
    let handler = from_fn(|items: Vec<u64>| async move {
        if items.contains(&7) { Err("no".to_owned()) } else { Ok(items.into_iter().map(answer).collect::<Vec<u64>>()) }
    });
    let retry = RetryPolicy::new(1, |_: &String| true).backoff(Duration::ZERO, Duration::ZERO).budget(0.0);
    let batcher: Ours = Batcher::builder(handler.cloning()).retry(retry).bisect(true).build().unwrap();
    // The ten free retries are spent first.
    for _ in 0..10 {
        assert!(in_time(batcher.call(7)).await.is_err());
    }
    let told = in_time(batcher.call_all(0..32)).await;
    for (item, told) in (0..).zip(told) {
        assert_eq!(told.is_err(), item == 7, "{item}: {told:?}");
    }
}

#[tokio::test]
async fn shedding_the_last_item_of_a_lane_keeps_the_lane_for_the_next() {
    let at_once = AtOnce::default();
    let batcher: Ours = Batcher::builder(at_once)
        .policy(HOUR)
        .key_by(|item| item % 2)
        .on_full(OnFull::ShedOldest)
        .max_queue_items(1)
        .build()
        .unwrap();
    batcher.try_push(0).unwrap();
    batcher.try_push(2).unwrap();
    batcher.try_push(1).unwrap();
    let called = batcher.submit(3).unwrap();
    in_time(batcher.flush()).await.unwrap();
    assert_eq!(in_time(called).await, Ok(answer(3)));
    let stats = batcher.stats();
    assert!(stats.is_balanced() && stats.shed == 3 && stats.succeeded == 1, "{stats:?}");
}

#[tokio::test]
async fn nothing_is_shed_for_what_would_not_fit_anyway() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone())
        .max_batch_items(1)
        .max_queue_bytes(100, |&item| item as u32)
        .on_full(OnFull::ShedOldest)
        .build()
        .unwrap();
    batcher.try_push(10).unwrap();
    settle().await;
    for _ in 0..9 {
        batcher.try_push(10).unwrap();
    }
    assert_eq!(batcher.try_push(95).unwrap_err().reason, Reason::Full);
    assert_eq!(batcher.stats().shed, 0);
    batcher.try_push(20).unwrap();
    assert_eq!(batcher.stats().shed, 2);
}

#[tokio::test]
async fn a_lone_call_keeps_to_the_bound_of_bytes() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone())
        .max_in_flight(4)
        .max_queue_bytes(100, |&item| item as u32)
        .on_full(OnFull::Reject)
        .build()
        .unwrap();
    let call = |item| {
        let batcher = batcher.clone();
        Watched::new(async move { batcher.call(item).await })
    };
    let mut first = call(90);
    assert!(first.poll().is_none());
    assert_eq!(call(90).poll(), Some(Err(BatchError::Rejected(Reason::Full))));
}

#[tokio::test]
async fn a_shared_call_with_a_deadline_lingers_for_half_of_it() {
    let handler = AtOnce::default();
    let batcher: Ours = Batcher::builder(handler).policy(HOUR).coalesce_by(|&item| item).build().unwrap();
    let patient = batcher.submit(1).unwrap();
    let hasty = batcher.with(CallOptions::new().deadline(Duration::from_millis(500)));
    assert_eq!(in_time(hasty.call(1)).await, Ok(answer(1)));
    assert_eq!(in_time(hasty.call(2)).await, Ok(answer(2)));
    assert_eq!(in_time(patient).await, Ok(answer(1)));
}

/// Outputs whose destructors panic.
struct Fragile(Arc<AtomicUsize>);

impl Drop for Fragile {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::panic::resume_unwind(Box::new("an output that panics"));
    }
}

struct MakesFragile(Arc<AtomicUsize>);

impl BatchHandler<u64> for MakesFragile {
    type Output = Fragile;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, Fragile, String>) {
        batch.iter_mut().for_each(|slot| slot.reply(Ok(Fragile(Arc::clone(&self.0)))));
    }
}

#[tokio::test]
async fn outputs_that_panic_when_they_are_dropped_are_counted_once() {
    let drops = Arc::new(AtomicUsize::new(0));
    let batcher: Batcher<u64, Fragile, String> = Batcher::builder(MakesFragile(Arc::clone(&drops))).build().unwrap();
    for item in 0..10 {
        batcher.try_push(item).unwrap();
    }
    let left: Vec<_> = (0..5).map(|item| batcher.submit(item).unwrap()).collect();
    in_time(batcher.flush()).await.unwrap();
    drop(left.into_iter().map(|receipt| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(receipt)))));
    let stats = batcher.stats();
    assert!(stats.is_balanced() && stats.succeeded == 15 && stats.queued + stats.in_flight == 0, "{stats:?}");
    assert_eq!(drops.load(Ordering::Relaxed), 15);
}

/// Its destructor asks its own batcher.
struct Asks(Own);

type Own = Arc<OnceLock<Batcher<Asks, (), String>>>;

impl Drop for Asks {
    fn drop(&mut self) {
        assert!(self.0.get().is_some_and(|batcher| batcher.stats().accepted < 100));
    }
}

struct Takes;

impl BatchHandler<Asks> for Takes {
    type Output = ();
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, Asks, (), String>) {
        batch.iter_mut().for_each(|slot| slot.reply(Ok(())));
    }
}

#[test]
fn no_item_is_dropped_under_the_lock() {
    // In a thread of its own: what fails here never ends.
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let own = Own::default();
            let batcher: Batcher<Asks, (), String> = Batcher::builder(Takes).build().unwrap();
            own.set(batcher.clone()).unwrap();
            let items = || (0..3).map(|_| Asks(Arc::clone(&own)));
            assert!(batcher.call_all(items()).await.iter().all(Result::is_ok));
            drop(batcher.submit(Asks(Arc::clone(&own))));
            for item in items() {
                batcher.try_push(item).unwrap();
            }
            batcher.shutdown(Duration::from_secs(1)).await;
            assert!(batcher.call_all(items()).await.iter().all(Result::is_err));
            drop(batcher.submit(Asks(Arc::clone(&own))));
        });
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(10)).expect("no destructor waits for the lock");
}

#[tokio::test]
async fn who_waits_for_room_is_let_in_when_a_retry_is_no_longer_wanted() {
    let gated = Gated::default();
    let retry = RetryPolicy::new(3, |_: &String| true).backoff(Duration::from_millis(20), Duration::from_millis(20));
    let batcher: Ours = Batcher::builder(gated.clone()).policy(HOUR).max_queue_items(1).retry(retry).build().unwrap();
    let receipt = batcher.submit(1).unwrap();
    let clone = batcher.clone();
    let mut flush = Watched::new(async move { clone.flush().await });
    assert!(flush.poll().is_none());
    settle().await;
    gated.take().remove(0).end(End::Answers { errors: vec![1] });
    settle().await;
    drop(receipt);
    let pushing = batcher.clone();
    in_time(tokio::spawn(async move { pushing.push(2).await })).await.unwrap().unwrap();
    assert_eq!(flush.poll().map(|flushed| flushed.unwrap().items), Some(1));
}

#[tokio::test]
async fn what_a_flush_waits_for_does_not_linger_when_a_higher_level_overtakes_it() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone())
        .policy(HOUR)
        .priority_levels(2)
        .max_batch_weight(5, |&item| item as u32)
        .build()
        .unwrap();
    batcher.try_push(5).unwrap();
    settle().await;
    batcher.try_push(4).unwrap();
    let clone = batcher.clone();
    let mut flush = Watched::new(async move { clone.flush().await });
    assert!(flush.poll().is_none());
    batcher.with(CallOptions::new().level(1)).try_push(2).unwrap();
    for expected in [[5], [2], [4]] {
        settle().await;
        let running = gated.take().pop().expect("nothing lingers");
        assert_eq!(running.items, expected);
        running.end(End::well());
    }
    settle().await;
    assert!(flush.poll().is_some_and(|flushed| flushed.is_ok()));
}

#[tokio::test]
async fn a_shared_batch_that_its_callers_have_left_runs_to_its_end() {
    let gated = Gated::default();
    let at = Arc::clone(&gated.batches);
    let batcher: Ours = Batcher::builder(gated.clone()).coalesce_by(|&item| item).build().unwrap();
    let clone = batcher.clone();
    let mut call = Watched::new(async move { clone.call(1).await });
    assert!(call.poll().is_none());
    let report = batcher.shutdown(Duration::ZERO).await;
    assert!(report.stats.is_balanced());
    assert!(call.poll().is_some());
    settle().await;
    assert_eq!(at.load(Ordering::Relaxed), 1);
    gated.take().remove(0).end(End::well());
    settle().await;
    drop((batcher, call));
    settle().await;
    assert_eq!(Arc::strong_count(&at), 2, "the handler is gone; this and the test's own are left");
}

/// An item that looks at the batcher when it is dropped.
struct Nosy(Option<Batcher<Self, (), String>>);

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(batcher) = &self.0 {
            assert!(batcher.stats().accepted > 0);
        }
    }
}

/// Its own batcher, until the test is over.
struct Nests(Arc<Mutex<Option<Batcher<Nosy, (), String>>>>);

impl BatchHandler<Nosy> for Nests {
    type Output = ();
    type Error = String;

    async fn handle(&self, batch: Batch<'_, Nosy, (), String>) {
        let batcher = self.0.lock().unwrap().clone().expect("set before the first call");
        let refused = batcher.call(Nosy(Some(batcher.clone()))).await.unwrap_err();
        batch.fail_all(&refused.to_string());
    }
}

#[test]
fn an_item_that_is_refused_inside_of_the_handler_is_dropped_without_a_lock() {
    let (told, tell) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (batcher, own) = runtime.block_on(async {
            let own = Arc::new(Mutex::new(None));
            let batcher = Batcher::builder(Nests(Arc::clone(&own))).build().unwrap();
            *own.lock().unwrap() = Some(batcher.clone());
            (batcher, own)
        });
        let refused = runtime.block_on(batcher.call(Nosy(None)));
        *own.lock().unwrap() = None;
        told.send(refused).expect("the test waits");
    });
    let told = tell.recv_timeout(Duration::from_secs(10)).expect("it is not dropped under the lock");
    let refused = BatchError::<String>::Rejected(Reason::Reentrant).to_string();
    assert_eq!(told, Err(BatchError::Handler(refused)));
}

#[tokio::test]
async fn what_is_left_of_a_block_weighs_what_is_left() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone())
        .policy(Policy::Preferred { sizes: Arc::new([8]), linger: Duration::from_secs(3600) })
        .max_batch_items(16)
        .max_batch_weight(10, |_| 1)
        .build()
        .unwrap();
    let push = |items: std::ops::Range<u64>| items.for_each(|item| batcher.try_push(item).unwrap());
    push(0..8);
    settle().await;
    push(8..18);
    gated.take().remove(0).end(End::well());
    settle().await;
    push(18..24);
    let second = gated.take().remove(0);
    assert_eq!(second.items, (8..16).collect::<Vec<_>>());
    second.end(End::well());
    settle().await;
    let third = gated.take().remove(0);
    assert_eq!(third.items, (16..24).collect::<Vec<_>>());
    third.end(End::well());
    batcher.flush().await.unwrap();
}

struct Meets {
    started: Arc<Barrier>,
    resumed: Arc<Barrier>,
}

impl BatchHandler<u64> for Meets {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        if batch.items().any(|&item| item == 1) {
            self.started.wait();
            self.resumed.wait();
        }
        for slot in batch.iter_mut() {
            let reply = answer(*slot.item());
            slot.reply(Ok(reply));
        }
    }
}

#[test]
fn a_caller_without_a_runtime_ends_nothing_of_those_that_have_one() {
    let (started, resumed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let batcher: Ours =
        Batcher::builder(Meets { started: Arc::clone(&started), resumed: Arc::clone(&resumed) }).build().unwrap();
    let alone = batcher.clone();
    let alone = std::thread::spawn(move || futures::executor::block_on(alone.call(1)));
    started.wait();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let told = runtime.block_on(async {
        let mut call = Watched::new(async move { batcher.call(2).await });
        assert!(call.poll().is_none());
        resumed.wait();
        for _ in 0..500 {
            if let Some(told) = call.poll() {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it hangs");
    });
    assert_eq!(told, Ok(answer(2)));
    assert_eq!(alone.join().unwrap(), Ok(answer(1)));
}
