//! Ends: of a batcher, of its handles, and of runtimes.

mod support;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::{AtOnce, End, Gated, answer, settle};
use swarm_batcher::{BatchError, Batcher, OnFull, Policy, Reason};
use tokio::runtime::{Builder, Runtime};

type Ours = Batcher<u64, u64, String>;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[tokio::test]
async fn a_shutdown_lets_everything_end_and_takes_nothing_more() {
    let hour = Policy::Linger(Duration::from_secs(3600));
    let at_once = AtOnce::default();
    let batcher: Ours = Batcher::builder(at_once.clone()).policy(hour).build().unwrap();
    let receipts: Vec<_> = (0..30).map(|item| batcher.submit(item).unwrap()).collect();
    let report = batcher.shutdown(Duration::from_secs(5)).await;
    assert!(report.drained && report.stats.is_balanced());
    assert_eq!((report.stats.succeeded, report.stats.queued, report.stats.in_flight), (30, 0, 0));
    for (item, receipt) in (0..).zip(receipts) {
        assert_eq!(receipt.await, Ok(answer(item)));
    }
    assert_eq!(batcher.call(1).await, Err(BatchError::Rejected(Reason::Closed)));
    assert_eq!(batcher.try_push(1).unwrap_err().reason, Reason::Closed);
    assert_eq!(batcher.push(1).await.unwrap_err().reason, Reason::Closed);
    assert!(!batcher.is_open());
    let again = batcher.shutdown(Duration::ZERO).await;
    assert!(again.drained);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_answered() {
    let gated = Gated::default();
    let letters = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&letters);
    let batcher: Ours = Batcher::builder(gated.clone())
        .max_queue_items(3)
        .dead_letter(move |letter| sink.lock().unwrap().push((letter.item, letter.error)))
        .build()
        .unwrap();
    let running = batcher.submit(0).unwrap();
    settle().await;
    let waiting = batcher.submit(1).unwrap();
    batcher.try_push(2).unwrap();
    let clone = batcher.clone();
    let push = tokio::spawn(async move { clone.push(3).await });
    settle().await;
    let report = batcher.shutdown(Duration::from_millis(10)).await;
    assert!(!report.drained && report.stats.is_balanced(), "{report:?}");
    assert_eq!((report.stats.closed, report.stats.in_flight, report.stats.queued), (3, 1, 0));
    assert_eq!(running.await, Err(BatchError::Closed { started: true }));
    assert_eq!(waiting.await, Err(BatchError::Closed { started: false }));
    let pushed = push.await.unwrap().unwrap_err();
    assert_eq!((pushed.item, pushed.reason), (3, Reason::Closed), "the item comes back");
    assert_eq!(*letters.lock().unwrap(), [(Some(2), BatchError::Closed { started: false })]);
    // The handler runs on, and is heard of in the counts.
    gated.take().remove(0).end(End::well());
    settle().await;
    let stats = batcher.stats();
    assert!(stats.is_balanced() && stats.succeeded == 1 && stats.in_flight == 0, "{stats:?}");
}

#[tokio::test]
async fn the_last_handle_lets_everything_run_and_the_tasks_end() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let alone = metrics.num_alive_tasks();
    let at_once = AtOnce::default();
    let hour = Policy::Linger(Duration::from_secs(3600));
    let batcher: Ours = Batcher::builder(at_once.clone()).policy(hour).build().unwrap();
    for item in 0..10 {
        batcher.try_push(item).unwrap();
    }
    let receipt = batcher.submit(10).unwrap();
    settle().await;
    assert_eq!(at_once.batches.load(Ordering::Relaxed), 0);
    drop(batcher);
    assert_eq!(receipt.await, Ok(answer(10)));
    settle().await;
    assert_eq!(metrics.num_alive_tasks(), alone);
    assert_eq!(Arc::strong_count(&at_once.batches), 1, "the handler is gone with the batcher");
}

#[test]
fn a_runtime_that_is_dropped_leaves_no_caller_waiting() {
    let gated = Gated::default();
    let batcher: Ours = {
        let runtime = runtime();
        let _inside = runtime.enter();
        Batcher::builder(gated.clone()).on_full(OnFull::Wait).build().unwrap()
    };
    let (here, other) = (runtime(), runtime());
    let (running, waiting) = other.block_on(async {
        let running = batcher.submit(0).unwrap();
        settle().await;
        (running, batcher.submit(1).unwrap())
    });
    batcher.try_push(2).unwrap();
    drop(other);
    here.block_on(async {
        assert_eq!(running.await, Err(BatchError::Closed { started: true }));
        assert_eq!(waiting.await, Err(BatchError::Closed { started: false }));
        let stats = batcher.stats();
        assert!(stats.is_balanced() && stats.unclaimed == 1 && stats.queued + stats.in_flight == 0, "{stats:?}");
        // A later caller brings a runtime of its own.
        drop(gated.take());
        let next = batcher.submit(3).unwrap();
        settle().await;
        gated.take().remove(0).end(End::well());
        assert_eq!(next.await, Ok(answer(3)));
    });
}

#[test]
fn a_thread_without_a_runtime_uses_the_batchers_own() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let at_once = AtOnce::default();
    let batcher: Ours = {
        let _inside = runtime.enter();
        Batcher::builder(at_once).build().unwrap()
    };
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let batcher = &batcher;
            scope.spawn(move || (0..1_000).for_each(|item| batcher.try_push(thread * 1_000 + item).unwrap()));
        }
    });
    runtime.block_on(batcher.flush()).unwrap();
    assert_eq!(batcher.stats().succeeded, 2_000);
}

#[test]
fn without_any_runtime_what_needs_a_task_is_refused_and_the_rest_works() {
    let batcher: Ours = Batcher::builder(AtOnce::default()).build().unwrap();
    let rejected = batcher.try_push(1).unwrap_err();
    assert_eq!((rejected.item, rejected.reason), (1, Reason::NoRuntime));
    assert_eq!(futures::executor::block_on(batcher.call(1)), Ok(answer(1)));
    let waits: Ours = Batcher::builder(Gated::default()).build().unwrap();
    assert_eq!(futures::executor::block_on(waits.call(1)), Err(BatchError::Closed { started: true }));
    assert!(waits.stats().is_balanced());
}

#[test]
fn a_linger_ends_in_a_runtime_without_io_too() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let linger = Duration::from_micros(500);
        let batcher: Ours = Batcher::builder(AtOnce::default()).policy(Policy::Linger(linger)).build().unwrap();
        for item in 0..5 {
            let start = Instant::now();
            assert_eq!(batcher.call(item).await, Ok(answer(item)));
            assert!(start.elapsed() >= linger && start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        }
    });
}

#[test]
fn a_thread_without_a_runtime_leaves_its_item_to_a_runner_that_is_there() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).max_in_flight(2).build().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        batcher.try_push(1).unwrap();
        settle().await;
    });
    batcher.try_push(2).unwrap();
    runtime.block_on(async {
        gated.take().remove(0).end(End::well());
        settle().await;
        gated.take().remove(0).end(End::well());
        batcher.flush().await.unwrap();
    });
    assert_eq!(batcher.stats().succeeded, 2);
}

#[test]
fn a_runtime_that_is_dropped_after_a_shutdown_that_was_cut_off_ends_what_runs() {
    let gated = Gated::default();
    let linger = Policy::Linger(Duration::from_secs(600));
    let batcher: Ours = Batcher::builder(gated.clone()).policy(linger).max_batch_items(2).build().unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        for item in 0..3 {
            batcher.try_push(item).unwrap();
        }
        settle().await;
        assert!(!batcher.shutdown(Duration::from_millis(1)).await.drained);
    });
    drop(runtime);
    let stats = batcher.stats();
    assert!(stats.is_balanced());
    assert_eq!((stats.failed, stats.closed), (2, 1));
}
