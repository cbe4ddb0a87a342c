//! When batches leave, how large they are, and who comes first.

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::{AtOnce, End, Gated, Watched, answer, settle};
use swarm_batcher::{Batch, BatchError, BatchHandler, Batcher, CallOptions, OnFull, Policy, Reason};

type Ours = Batcher<u64, u64, String>;

/// What the machine may add to a wait before a test calls it late.
const LATE: Duration = Duration::from_millis(500);

/// Writes down what it got, and when.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Note>>>);

/// When a batch came, and its items.
type Note = (Instant, Vec<u64>);

impl Notes {
    fn batches(&self) -> Vec<Vec<u64>> {
        self.0.lock().unwrap().iter().map(|(_, items)| items.clone()).collect()
    }
}

impl BatchHandler<u64> for Notes {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        self.0.lock().unwrap().push((Instant::now(), batch.items().copied().collect()));
        for slot in batch.iter_mut() {
            let reply = answer(*slot.item());
            slot.reply(Ok(reply));
        }
    }
}

#[tokio::test]
async fn batches_form_by_themselves_while_another_one_runs() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).max_batch_items(4).build().unwrap();
    for item in 0..7 {
        batcher.try_push(item).unwrap();
        settle().await;
    }
    for expected in [vec![0], vec![1, 2, 3, 4], vec![5, 6]] {
        let running = gated.take().remove(0);
        assert_eq!(running.items, expected);
        running.end(End::well());
        settle().await;
    }
}

#[tokio::test]
async fn batches_overlap_up_to_the_limit() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).max_in_flight(2).build().unwrap();
    for item in 0..3 {
        batcher.try_push(item).unwrap();
        settle().await;
    }
    let mut running = gated.take();
    assert_eq!(running.len(), 2, "the third waits for a permit");
    assert_eq!(batcher.stats().in_flight, 2);
    running.remove(1).end(End::well());
    settle().await;
    assert_eq!(gated.take().remove(0).items, [2]);
}

#[tokio::test]
async fn a_linger_of_less_than_a_millisecond_counts_from_the_oldest_item() {
    for linger in [Duration::from_micros(100), Duration::from_micros(700), Duration::from_millis(20)] {
        let notes = Notes::default();
        let batcher: Ours = Batcher::builder(notes.clone()).policy(Policy::Linger(linger)).build().unwrap();
        let start = Instant::now();
        batcher.try_push(0).unwrap();
        let mut last = 0;
        // A drip of items does not put the batch off.
        while notes.batches().is_empty() {
            last += 1;
            batcher.try_push(last).unwrap();
            tokio::task::yield_now().await;
            assert!(start.elapsed() < linger + LATE, "the oldest item waits for ever");
        }
        let (left, items) = notes.0.lock().unwrap()[0].clone();
        if items.len() < 100 {
            assert!(left - start >= linger, "{:?} is too early for {linger:?}", left - start);
        }
        assert_eq!(items[0], 0);
    }
}

#[tokio::test]
async fn a_full_batch_does_not_linger() {
    let notes = Notes::default();
    let hour = Policy::Linger(Duration::from_secs(3600));
    let batcher: Ours = Batcher::builder(notes.clone()).policy(hour).max_batch_items(3).build().unwrap();
    let told = batcher.call_all(0..6).await;
    assert!(told.iter().all(Result::is_ok));
    assert_eq!(notes.batches(), [[0, 1, 2], [3, 4, 5]]);
    // Fewer leave when a flush asks.
    batcher.try_push(6).unwrap();
    let report = batcher.flush().await.unwrap();
    assert_eq!((report.items, report.failed), (1, 0));
    assert_eq!(notes.batches().last().unwrap(), &[6]);
}

#[tokio::test]
async fn a_batch_is_full_by_weight_too() {
    let notes = Notes::default();
    let hour = Policy::Linger(Duration::from_secs(3600));
    let batcher: Ours =
        Batcher::builder(notes.clone()).policy(hour).max_batch_weight(10, |&item| item as u32).build().unwrap();
    let rejected = batcher.try_push(11).unwrap_err();
    assert_eq!((rejected.item, rejected.reason), (11, Reason::TooHeavy));
    assert_eq!(batcher.call(11).await, Err(BatchError::Rejected(Reason::TooHeavy)));
    for item in [4, 4, 4, 10, 1] {
        batcher.try_push(item).unwrap();
        settle().await;
    }
    batcher.flush().await.unwrap();
    assert_eq!(notes.batches().concat(), [4, 4, 4, 10, 1]);
    assert!(notes.batches().iter().all(|batch| batch.iter().sum::<u64>() <= 10), "{:?}", notes.batches());
}

#[tokio::test]
async fn preferred_sizes_are_kept_to_and_the_rest_lingers() {
    let notes = Notes::default();
    let policy = Policy::preferred(&[4, 8], Duration::from_millis(5));
    let batcher: Ours = Batcher::builder(notes.clone()).policy(policy).max_batch_items(8).build().unwrap();
    let start = Instant::now();
    assert!(batcher.call_all(0..15).await.iter().all(Result::is_ok));
    let sizes: Vec<_> = notes.batches().iter().map(Vec::len).collect();
    assert_eq!(sizes, [8, 4, 3]);
    assert!(start.elapsed() >= Duration::from_millis(5));
}

#[tokio::test]
async fn higher_levels_start_first() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).priority_levels(3).max_batch_items(2).build().unwrap();
    batcher.try_push(0).unwrap();
    settle().await;
    for (item, level) in [(1, 0), (2, 1), (3, 2), (4, 1), (5, 2), (6, 0)] {
        batcher.with(CallOptions::new().level(level)).try_push(item).unwrap();
    }
    for expected in [vec![0], vec![3, 5], vec![2, 4], vec![1, 6]] {
        let running = gated.take().remove(0);
        assert_eq!(running.items, expected);
        running.end(End::well());
        settle().await;
    }
    let rejected = batcher.with(CallOptions::new().level(3)).try_push(7).unwrap_err();
    assert_eq!(rejected.reason, Reason::NoSuchLevel);
}

#[tokio::test]
async fn a_batch_holds_items_of_one_key_and_keys_take_turns() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).key_by(|item| item % 3).max_batch_items(2).build().unwrap();
    for item in [0, 3, 6, 9, 1, 4, 2] {
        batcher.try_push(item).unwrap();
    }
    settle().await;
    for expected in [vec![0, 3], vec![1, 4], vec![2], vec![6, 9]] {
        let running = gated.take().remove(0);
        assert_eq!(running.items, expected);
        running.end(End::well());
        settle().await;
    }
    assert!(batcher.stats().is_balanced());
}

/// A key that counts how many of it there are.
#[derive(PartialEq, Eq, Hash)]
struct Counted(u64, Count);

#[derive(Clone)]
struct Count(#[expect(dead_code, reason = "what counts is that it is there")] Arc<()>);

impl PartialEq for Count {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Count {}

impl std::hash::Hash for Count {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self(self.0, self.1.clone())
    }
}

#[tokio::test]
async fn a_key_is_cloned_once_a_lane_and_gone_when_it_is_idle() {
    let count = Arc::new(());
    let key = Count(Arc::clone(&count));
    let gated = Gated::default();
    let batcher: Ours =
        Batcher::builder(gated.clone()).key_by(move |&item| Counted(item / 10, key.clone())).build().unwrap();
    let alone = Arc::strong_count(&count);
    batcher.try_push(99).unwrap();
    settle().await;
    let receipts: Vec<_> = (0..50).map(|item| batcher.submit(item).unwrap()).collect();
    assert_eq!(Arc::strong_count(&count) - alone, 5, "five keys wait; that of the running item is gone");
    drop(receipts);
    gated.take().remove(0).end(End::well());
    settle().await;
    assert_eq!(Arc::strong_count(&count), alone);
    assert_eq!(batcher.stats().cancelled, 50);
}

#[tokio::test]
async fn equal_calls_share_one_run_and_each_gets_the_reply() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).coalesce_by(|&item| item).max_batch_items(2).build().unwrap();
    let first = batcher.submit(1).unwrap();
    settle().await;
    let receipts: Vec<_> = [1, 2, 1, 2, 2, 3].map(|item| (item, batcher.submit(item).unwrap())).into();
    batcher.try_push(2).unwrap();
    settle().await;
    let started = gated.take().remove(0);
    assert_eq!(started.items, [1]);
    started.end(End::well());
    settle().await;
    let running = gated.take().remove(0);
    assert_eq!(running.items, [1, 2], "what runs already is not shared");
    running.end(End::Answers { errors: vec![2] });
    settle().await;
    let running = gated.take().remove(0);
    assert_eq!(running.items, [3, 2], "what was pushed is not shared");
    running.end(End::well());
    assert_eq!(first.await, Ok(answer(1)));
    for (item, receipt) in receipts {
        let expected = if item == 2 { Err(BatchError::Handler("not 2".to_owned())) } else { Ok(answer(item)) };
        assert_eq!(receipt.await, expected);
    }
    let stats = batcher.stats();
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.coalesced, stats.accepted, stats.failed), (3, 8, 3));
}

#[tokio::test]
async fn a_shared_item_runs_while_one_caller_wants_it() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).coalesce_by(|&item| item).build().unwrap();
    batcher.try_push(0).unwrap();
    settle().await;
    let (one, two, three) = (batcher.submit(1).unwrap(), batcher.submit(1).unwrap(), batcher.submit(2).unwrap());
    drop(one);
    drop(three);
    gated.take().remove(0).end(End::well());
    settle().await;
    let running = gated.take().remove(0);
    assert_eq!(running.items, [1], "nobody wants 2");
    let late = batcher.submit(1).unwrap();
    running.end(End::well());
    assert_eq!(two.await, Ok(answer(1)));
    drop(late);
    batcher.flush().await.unwrap();
    assert!(batcher.stats().is_balanced() && batcher.stats().cancelled == 3, "{:?}", batcher.stats());
}

#[tokio::test]
async fn a_deadline_is_kept_whether_or_not_the_item_runs() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).default_deadline(Duration::from_millis(20)).build().unwrap();
    let start = Instant::now();
    let running = batcher.submit(0).unwrap();
    settle().await;
    let waiting = batcher.submit(1).unwrap();
    let patient = batcher.with(CallOptions::new().deadline(Duration::from_secs(60))).submit(2).unwrap();
    batcher.try_push(3).unwrap();
    assert_eq!(waiting.await, Err(BatchError::Deadline { started: false }));
    assert_eq!(running.await, Err(BatchError::Deadline { started: true }));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(20) && took < LATE, "{took:?}");
    gated.take().remove(0).end(End::well());
    settle().await;
    let next = gated.take().remove(0);
    assert_eq!(next.items, [2], "what is too late never runs");
    next.end(End::well());
    assert_eq!(patient.await, Ok(answer(2)));
    let stats = batcher.stats();
    assert!(stats.is_balanced());
    assert_eq!((stats.expired, stats.unclaimed, stats.succeeded), (2, 1, 2));
}

#[tokio::test]
async fn a_push_waits_for_room_no_longer_than_its_deadline() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).max_queue_items(1).max_batch_items(1).build().unwrap();
    batcher.try_push(0).unwrap();
    settle().await;
    let hasty = batcher.with(CallOptions::new().deadline(Duration::from_millis(5)));
    let rejected = tokio::time::timeout(LATE, hasty.push(1)).await.expect("in time").unwrap_err();
    assert_eq!((rejected.item, rejected.reason), (1, Reason::Full));
    gated.take().remove(0).end(End::well());
    batcher.flush().await.unwrap();
    let stats = batcher.stats();
    assert!(stats.is_balanced() && stats.expired == 1 && stats.succeeded == 1, "{stats:?}");
}

#[tokio::test]
async fn an_item_with_a_deadline_lingers_for_half_of_its_time_at_most() {
    let notes = Notes::default();
    let hour = Policy::Linger(Duration::from_secs(3600));
    let batcher: Ours = Batcher::builder(notes.clone()).policy(hour).build().unwrap();
    let patient = batcher.submit(0).unwrap();
    let start = Instant::now();
    let hasty = batcher.with(CallOptions::new().deadline(Duration::from_millis(600)));
    assert_eq!(hasty.call(1).await, Ok(answer(1)));
    assert!(start.elapsed() >= Duration::from_millis(299), "{:?}", start.elapsed());
    assert_eq!(patient.await, Ok(answer(0)), "both left together");
}

#[tokio::test]
async fn a_bound_of_bytes_holds() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone())
        .max_queue_bytes(100, |&item| item as u32)
        .on_full(OnFull::Reject)
        .build()
        .unwrap();
    batcher.try_push(60).unwrap();
    batcher.try_push(40).unwrap();
    let rejected = batcher.try_push(1).unwrap_err();
    assert_eq!((rejected.item, rejected.reason), (1, Reason::Full));
    settle().await;
    gated.take().remove(0).end(End::well());
    batcher.flush().await.unwrap();
    batcher.try_push(5_000).expect("a larger item is taken when nothing else is there");
    assert_eq!(batcher.try_push(1).unwrap_err().reason, Reason::Full);
}

#[tokio::test]
async fn who_waits_for_room_is_not_overtaken() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).max_queue_items(2).max_batch_items(1).build().unwrap();
    batcher.try_push(0).unwrap();
    settle().await;
    batcher.try_push(1).unwrap();
    let clone = batcher.clone();
    let mut waiting = Watched::new(async move { clone.push(2).await });
    assert!(waiting.poll().is_none());
    gated.take().remove(0).end(End::well());
    settle().await;
    assert_eq!(waiting.poll(), Some(Ok(())));
    assert_eq!(batcher.try_push(3).unwrap_err().reason, Reason::Full);
    for expected in 1..=2 {
        let running = gated.take().remove(0);
        assert_eq!(running.items, [expected]);
        running.end(End::well());
        settle().await;
    }
}

#[tokio::test]
async fn a_lone_caller_pays_no_linger_under_a_goal_and_every_reply_is_right() {
    let policy = Policy::Adaptive { target_p99: Duration::from_millis(50) };
    let batcher: Ours = Batcher::builder(AtOnce::default()).policy(policy).build().unwrap();
    let start = Instant::now();
    for item in 0..1_000 {
        assert_eq!(batcher.call(item).await, Ok(answer(item)));
    }
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
}
