//! What the original gets wrong, each as a test of what is right instead.
#![cfg(feature = "http")]

#[path = "../benches/local_server/mod.rs"]
mod local_server;
#[path = "support/requests.rs"]
mod requests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use local_server::{Answer, LocalServer};
use requests::{GRACE, requests_to, started, until};
use serde::Serialize;
use swarm_batcher::telemetry::{AddError, EncodedItem, RequestBatcher, RequestBatcherBuilder, encode_item};
use swarm_batcher::{Batch, BatchError, BatchHandler, Batcher, BreakerPolicy, Policy, Reason};
use tokio::time::{sleep, timeout};

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[derive(Serialize)]
struct Reading {
    id: u64,
    cpu: f64,
}

fn reading(id: u64) -> Reading {
    Reading { id, cpu: id as f64 / 8.0 }
}

async fn add_all(batcher: &RequestBatcher, ids: std::ops::Range<u64>) {
    for id in ids {
        batcher.add(&reading(id)).await.expect("room");
    }
}

/// The ids that arrived, in order of their numbers: an item that arrived twice is there twice.
fn arrived(server: &LocalServer) -> Vec<u64> {
    let seen = server.seen();
    assert_eq!(seen.malformed, [""; 0]);
    let mut ids = seen.ids;
    ids.sort_unstable();
    ids
}

fn all(count: u64) -> Vec<u64> {
    (0..count).collect()
}

/// Items of dead letters, in the order in which they came.
#[derive(Clone, Default)]
struct Letters(Arc<Mutex<Vec<EncodedItem>>>);

impl Letters {
    fn sink(&self, builder: RequestBatcherBuilder) -> RequestBatcherBuilder {
        let letters = self.clone();
        builder.dead_letter(move |letter| letters.0.lock().expect("no panic").extend(letter.item))
    }

    fn take(&self) -> Vec<EncodedItem> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

fn encoded(ids: std::ops::Range<u64>) -> Vec<EncodedItem> {
    ids.map(|id| encode_item(&reading(id)).expect("encodes")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defect_01_a_stalled_post_holds_up_no_producer() {
    const STALL: Duration = millis(1500);
    let server = LocalServer::start();
    server.script([Answer::AcceptAfter(STALL)]);
    let batcher = started(requests_to(&server.endpoint()));
    add_all(&batcher, 0..20).await;
    until("the POST is under way", || server.seen().requests == 1).await;
    let producers = (0..2).map(|producer| {
        let batcher = batcher.clone();
        tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            for id in 0..1_000 {
                let began = Instant::now();
                batcher.add(&reading(20 + producer * 1_000 + id)).await.expect("room");
                longest = longest.max(began.elapsed());
            }
            longest
        })
    });
    for longest in futures::future::join_all(producers).await {
        let longest = longest.expect("no panic");
        assert!(longest < STALL / 4, "an add took {longest:?}");
    }
    assert_eq!(batcher.stats().delivered, 0, "the POST was under way all the time");
    assert_eq!(batcher.flush().await.failed, 0);
    assert_eq!(arrived(&server), all(2_020));
}

#[tokio::test]
async fn defect_02_an_item_added_during_a_flush_arrives_exactly_once() {
    let server = LocalServer::start();
    server.script([Answer::AcceptAfter(millis(200))]);
    let batcher = started(requests_to(&server.endpoint()));
    add_all(&batcher, 0..10).await;
    let flush = {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.flush().await })
    };
    until("the POST is under way", || server.seen().requests == 1).await;
    add_all(&batcher, 10..15).await;
    assert_eq!(batcher.stats().delivered, 0, "added while the flush was in flight");
    let report = flush.await.expect("no panic");
    assert_eq!((report.items, report.failed), (10, 0));
    assert_eq!(batcher.flush().await.items, 5);
    assert_eq!(arrived(&server), all(15));
}

#[tokio::test]
async fn defect_02_an_item_added_during_a_stop_is_sent_or_refused() {
    let server = LocalServer::start();
    server.script([Answer::AcceptAfter(millis(200))]);
    let batcher = started(requests_to(&server.endpoint()));
    add_all(&batcher, 0..10).await;
    let stop = {
        let batcher = batcher.clone();
        tokio::spawn(async move { batcher.stop(GRACE).await })
    };
    until("the POST is under way", || server.seen().requests == 1).await;
    assert!(matches!(batcher.add(&reading(10)).await, Err(AddError::Stopped)));
    assert!(stop.await.expect("no panic").drained);
    assert_eq!(arrived(&server), all(10));
}

#[tokio::test]
async fn defect_03_a_failed_batch_is_kept_until_it_is_taken() {
    let server = LocalServer::start();
    server.script([Answer::status(503), Answer::Close, Answer::status(429)]);
    let batcher = started(requests_to(&server.endpoint()));
    add_all(&batcher, 0..20).await;
    let report = batcher.flush().await;
    assert_eq!((report.items, report.failed), (20, 0));
    assert_eq!((server.seen().requests, batcher.stats().items.reruns), (4, 60));
    assert_eq!(arrived(&server), all(20));
}

#[tokio::test]
async fn defect_03_a_failure_is_told_to_the_flush_the_counts_and_the_sink() {
    let server = LocalServer::start();
    server.script([Answer::status(503)]);
    let letters = Letters::default();
    let batcher = started(letters.sink(requests_to(&server.endpoint())));
    add_all(&batcher, 0..10).await;
    let report = batcher.flush().await;
    assert_eq!((report.items, report.failed), (10, 10));
    let stats = batcher.stats();
    assert_eq!((stats.items.failed, stats.items.dead_lettered, stats.delivered), (10, 10, 0));
    assert!(letters.take() == encoded(0..10));
}

#[tokio::test]
async fn defect_04_time_flushes_go_on_after_failures() {
    let server = LocalServer::start();
    let letters = Letters::default();
    let batcher = started(letters.sink(requests_to(&server.endpoint())).max_wait(millis(5)));
    let answers = [Answer::status(500), Answer::Accept, Answer::Close, Answer::status(400), Answer::Accept];
    let mut lost = 0;
    for (id, answer) in (0..).zip(answers) {
        lost += usize::from(!matches!(answer, Answer::Accept));
        server.script([answer]);
        batcher.add(&reading(id)).await.expect("room");
        until("the time flush", || {
            server.seen().items as usize + letters.0.lock().expect("no panic").len() > id as usize
        })
        .await;
    }
    assert_eq!(letters.take().len(), lost);
    assert_eq!(arrived(&server), [1, 4]);
}

/// Panics with every batch that holds an odd number.
#[derive(Clone, Default)]
struct OddPanics(Arc<AtomicU64>);

impl BatchHandler<u64> for OddPanics {
    type Output = ();
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, (), String>) {
        tokio::task::yield_now().await;
        if batch.items().any(|item| item % 2 == 1) {
            std::panic::resume_unwind(Box::new("odd"));
        }
        batch.iter_mut().for_each(|slot| slot.reply(Ok(())));
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn defect_04_time_flushes_go_on_after_panics() {
    let handler = OddPanics::default();
    let batcher: Batcher<u64, (), String> =
        Batcher::builder(handler.clone()).policy(Policy::Linger(millis(2))).build().expect("a batcher");
    for item in 0..10 {
        batcher.try_push(item).expect("room");
        until("the time flush", || batcher.stats().batches == item + 1).await;
    }
    assert_eq!(handler.0.load(Ordering::Relaxed), 5);
    assert_eq!((batcher.stats().succeeded, batcher.stats().failed), (5, 5));
}

/// How long the oldest item of each batch has waited.
#[derive(Clone, Default)]
struct Waits(Arc<Mutex<Vec<Duration>>>);

impl BatchHandler<Instant> for Waits {
    type Output = ();
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, Instant, (), String>) {
        let oldest = batch.items().map(Instant::elapsed).max().expect("a batch has items");
        self.0.lock().expect("no panic").push(oldest);
        batch.iter_mut().for_each(|slot| slot.reply(Ok(())));
    }
}

#[tokio::test]
async fn defect_05_an_item_waits_for_max_wait_whatever_the_cadence() {
    const MAX_WAIT: Duration = millis(200);
    let waits = Waits::default();
    let batcher: Batcher<Instant, (), String> =
        Batcher::builder(waits.clone()).policy(Policy::Linger(MAX_WAIT)).build().expect("a batcher");
    // On a cadence, the item after a flush would wait twice as long; with a wait that begins anew at each item, the first would never leave.
    for _ in 0..8 {
        batcher.try_push(Instant::now()).expect("room");
        sleep(MAX_WAIT * 9 / 10).await;
    }
    let waits = waits.0.lock().expect("no panic").clone();
    assert!(waits.len() >= 3, "{waits:?}");
    for wait in waits {
        assert!(wait >= MAX_WAIT && wait < MAX_WAIT * 3 / 2, "waited for {wait:?}");
    }
}

#[tokio::test]
async fn defect_06_it_starts_again_after_a_stop() {
    let server = LocalServer::start();
    let batcher = requests_to(&server.endpoint()).max_wait(millis(5)).build().expect("an endpoint");
    for round in 0..3 {
        batcher.start();
        batcher.add(&reading(round)).await.expect("room");
        until("a time flush", || server.seen().items == round + 1).await;
        assert!(batcher.stop(GRACE).await.drained);
        assert!(matches!(batcher.try_add(&reading(9)), Err(AddError::Stopped)));
    }
    assert_eq!(arrived(&server), all(3));
}

#[tokio::test]
async fn defect_07_the_breaker_opens_after_five_failed_posts_and_lets_one_probe() {
    const RESET: Duration = millis(600);
    let server = LocalServer::start();
    // Five failures, and a probe that fails; the next probe succeeds.
    server.script((0..6).map(|_| Answer::status(500)));
    let letters = Letters::default();
    let breaker = BreakerPolicy { failures: 5, reset: RESET };
    let batcher = started(letters.sink(requests_to(&server.endpoint())).batch_size(1).breaker(breaker));
    add_all(&batcher, 0..8).await;
    until("five failures", || batcher.stats().items.failed == 5).await;
    let opened = Instant::now();
    sleep(RESET / 3).await;
    assert_eq!((server.seen().requests, batcher.stats().items.queued), (5, 3), "open: items wait");
    until("a probe", || batcher.stats().items.failed == 6).await;
    assert!(opened.elapsed() > RESET / 2, "the probe waited for {:?}", opened.elapsed());
    sleep(RESET / 3).await;
    assert_eq!((server.seen().requests, batcher.stats().items.queued), (6, 2), "the probe failed: open again");
    batcher.flush().await;
    assert_eq!(arrived(&server), [6, 7]);
    assert!(letters.take() == encoded(0..6));
}

#[tokio::test]
async fn defect_08_busy_answers_are_tried_again_and_given_up_with_their_items() {
    let server = LocalServer::start();
    let letters = Letters::default();
    let patient = |builder: RequestBatcherBuilder| builder.sink(|sink| sink.max_attempts(3));
    let batcher = started(patient(letters.sink(requests_to(&server.endpoint()))));
    server.script([Answer::retry_after(429, "1"), Answer::status(503)]);
    add_all(&batcher, 0..5).await;
    let began = Instant::now();
    assert_eq!(batcher.flush().await.failed, 0);
    assert!(began.elapsed() >= Duration::from_secs(1), "the server asked for a second");
    assert_eq!((server.seen().requests, arrived(&server)), (3, all(5)));

    server.script([Answer::status(503), Answer::status(500), Answer::retry_after(429, "0")]);
    add_all(&batcher, 5..10).await;
    assert_eq!(batcher.flush().await.failed, 5);
    assert_eq!((server.seen().requests, arrived(&server)), (6, all(5)));
    assert!(letters.take() == encoded(5..10));
}

#[tokio::test]
async fn defect_09_items_are_bounded_and_who_waits_gets_room_in_turn() {
    let server = LocalServer::start();
    server.script([Answer::AcceptAfter(millis(300))]);
    let batcher = started(requests_to(&server.endpoint()).batch_size(10).max_queue_items(10));
    add_all(&batcher, 0..10).await;
    assert!(matches!(batcher.try_add(&reading(99)), Err(AddError::Rejected(Reason::Full))));
    let given_up = timeout(millis(20), batcher.add(&reading(98))).await;
    assert!(given_up.is_err(), "there is no room while the POST is under way");
    batcher.add(&reading(10)).await.expect("room, in time");
    assert_eq!(batcher.stats().delivered, 1, "it was the POST that made room");
    batcher.flush().await;
    assert_eq!(arrived(&server), all(11));
}

#[tokio::test]
async fn defect_09_bytes_are_bounded() {
    let server = LocalServer::start();
    let size = encoded(0..1)[0].as_bytes().len() as u64;
    let batcher = started(requests_to(&server.endpoint()).max_queue_bytes(3 * size + 1));
    for id in 0..3 {
        batcher.try_add(&reading(id)).expect("room");
    }
    assert!(matches!(batcher.try_add(&reading(3)), Err(AddError::Rejected(Reason::Full))));
    batcher.flush().await;
    batcher.try_add(&reading(3)).expect("room again");
    batcher.flush().await;
    assert_eq!(arrived(&server), all(4));
}

/// Refuses odd numbers.
struct EvenOnly;

impl BatchHandler<u64> for EvenOnly {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        for slot in batch.iter_mut() {
            let item = *slot.item();
            slot.reply(if item % 2 == 0 { Ok(item + 100) } else { Err(format!("{item} is odd")) });
        }
    }
}

#[tokio::test]
async fn defect_09_each_caller_gets_its_own_result() {
    let batcher: Batcher<u64, u64, String> = Batcher::builder(EvenOnly).build().expect("a batcher");
    let replies = batcher.call_all(0..4).await;
    let odd = |item| Err(BatchError::Handler(format!("{item} is odd")));
    assert_eq!(replies, [Ok(100), odd(1), Ok(102), odd(3)]);
}

#[tokio::test]
async fn defect_10_a_flush_that_is_dropped_in_flight_sends_nothing_twice() {
    let server = LocalServer::start();
    server.script([Answer::AcceptAfter(millis(200))]);
    let batcher = started(requests_to(&server.endpoint()));
    add_all(&batcher, 0..10).await;
    assert!(timeout(millis(50), batcher.flush()).await.is_err(), "dropped in flight");
    until("the POST is under way", || server.seen().requests == 1).await;
    assert_eq!(batcher.stats().delivered, 0);
    assert_eq!(batcher.flush().await.items, 10);
    assert!(batcher.stop(GRACE).await.drained);
    assert_eq!((server.seen().requests, arrived(&server)), (1, all(10)));
}

#[tokio::test]
async fn defect_10_a_stop_in_flight_sends_nothing_twice() {
    for cancelled in [false, true] {
        let server = LocalServer::start();
        server.script([Answer::AcceptAfter(millis(200))]);
        let batcher = started(requests_to(&server.endpoint()));
        add_all(&batcher, 0..20).await;
        until("the POST is under way", || server.seen().requests == 1).await;
        if cancelled {
            assert!(timeout(millis(10), batcher.stop(GRACE)).await.is_err(), "dropped in flight");
        } else {
            let report = batcher.stop(Duration::ZERO).await;
            assert_eq!((report.drained, report.stats.in_flight), (false, 20));
        }
        batcher.start();
        add_all(&batcher, 20..30).await;
        batcher.flush().await;
        until("all items", || server.seen().items == 30).await;
        assert!(batcher.stop(GRACE).await.drained);
        assert_eq!((server.seen().requests, arrived(&server)), (2, all(30)), "cancelled: {cancelled}");
    }
}
