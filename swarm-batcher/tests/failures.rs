//! Handlers that fail: what each caller is told, what runs again, and where the rest goes.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use support::{AtOnce, End, Gated, answer, settle};
use swarm_batcher::{
    Batch, BatchError, BatchHandler, Batcher, BreakerPolicy, Outcome, Policy, Reason, RetryPolicy, from_fn,
};

type Ours = Batcher<u64, u64, String>;

#[tokio::test]
async fn a_handler_that_fails_succeeds_panics_and_succeeds_is_called_each_time() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).build().unwrap();
    let ends = [
        (End::Answers { errors: vec![1] }, Err(BatchError::Handler("not 1".to_owned()))),
        (End::well(), Ok(answer(1))),
        (End::Panics(0), Err(BatchError::Panicked)),
        (End::Leaves(0), Err(BatchError::NoReply)),
        (End::well(), Ok(answer(1))),
    ];
    for (end, told) in ends {
        let receipt = batcher.submit(1).unwrap();
        settle().await;
        gated.take().remove(0).end(end);
        assert_eq!(receipt.await, told);
    }
    assert_eq!(batcher.stats().batches, 5);
}

#[tokio::test]
async fn a_panic_keeps_the_replies_that_were_given_before() {
    let gated = Gated::default();
    let batcher: Ours = Batcher::builder(gated.clone()).build().unwrap();
    let receipts: Vec<_> = (0..3).map(|item| batcher.submit(item).unwrap()).collect();
    settle().await;
    gated.take().remove(0).end(End::Panics(2));
    let told = futures::future::join_all(receipts).await;
    assert_eq!(told, [Ok(answer(0)), Ok(answer(1)), Err(BatchError::Panicked)]);
}

struct PanicsBeforeItWaits;

impl BatchHandler<u64> for PanicsBeforeItWaits {
    type Output = u64;
    type Error = String;

    fn handle(&self, batch: Batch<'_, u64, u64, String>) -> impl Future<Output = ()> + Send {
        if batch.items().any(|&item| item == 13) {
            std::panic::resume_unwind(Box::new(PanicsWhenDropped));
        }
        async move { batch.reply_all(vec![]) }
    }
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("again"));
    }
}

#[tokio::test]
async fn a_panic_outside_of_the_future_and_one_in_what_it_carries_are_errors_of_the_caller() {
    let batcher: Ours = Batcher::builder(PanicsBeforeItWaits).build().unwrap();
    assert_eq!(batcher.call(13).await, Err(BatchError::Panicked));
    assert_eq!(batcher.call(1).await, Err(BatchError::WrongLength { items: 1, results: 0 }));
    assert_eq!(batcher.call(13).await, Err(BatchError::Panicked));
    assert!(batcher.stats().is_balanced());
}

/// Its future panics when it is dropped.
struct PanicsAtTheEnd;

impl BatchHandler<u64> for PanicsAtTheEnd {
    type Output = u64;
    type Error = String;

    async fn handle(&self, batch: Batch<'_, u64, u64, String>) {
        let _guard = PanicsWhenDropped;
        tokio::task::yield_now().await;
        batch.reply_all([Ok(1)]);
    }
}

#[tokio::test]
async fn a_destructor_that_panics_ends_its_batch_alone() {
    let batcher: Ours = Batcher::builder(PanicsAtTheEnd).build().unwrap();
    for _ in 0..3 {
        assert_eq!(batcher.call(1).await, Ok(1), "answered before");
    }
    assert!(batcher.stats().is_balanced());
}

#[tokio::test]
async fn another_number_of_results_is_an_error_of_every_caller() {
    for results in [0, 2, 4] {
        let handler = from_fn(move |items: Vec<u64>| async move {
            Ok::<_, String>(items.iter().chain(&[1, 2]).copied().take(results as usize).collect::<Vec<u64>>())
        });
        let batcher: Ours = Batcher::builder(handler).build().unwrap();
        let told = batcher.call_all([1, 2, 3]).await;
        assert_eq!(told, vec![Err(BatchError::WrongLength { items: 3, results }); 3]);
    }
    let handler = from_fn(|items: Vec<u64>| async move { Err::<Vec<u64>, _>(format!("none of {}", items.len())) });
    let batcher: Ours = Batcher::builder(handler).build().unwrap();
    assert_eq!(batcher.call_all([1, 2]).await, vec![Err(BatchError::Handler("none of 2".to_owned())); 2]);
}

/// Answers in reverse order.
struct Backwards;

impl BatchHandler<u64> for Backwards {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        let slots: Vec<_> = batch.iter_mut().collect();
        for slot in slots.into_iter().rev() {
            let reply = answer(*slot.item());
            slot.reply(Ok(reply));
        }
    }
}

#[tokio::test]
async fn replies_in_any_order_reach_their_own_callers() {
    let batcher: Ours = Batcher::builder(Backwards).build().unwrap();
    let told = batcher.call_all(0..50).await;
    assert_eq!(told, (0..50).map(|item| Ok(answer(item))).collect::<Vec<_>>());
}

#[test]
fn outcomes_say_whether_the_handler_saw_the_item() {
    use BatchError::{Closed, Deadline, Handler, NoReply, Panicked, Rejected, WrongLength};
    for error in [Rejected(Reason::Full), Deadline { started: false }, Closed { started: false }] {
        assert_eq!(BatchError::<String>::outcome(&error), Outcome::NotApplied);
    }
    let wrong = WrongLength { items: 1, results: 2 };
    for error in
        [Handler("no".to_owned()), NoReply, Panicked, wrong, Deadline { started: true }, Closed { started: true }]
    {
        assert_eq!(error.outcome(), Outcome::Unknown);
    }
}

/// Counts runs of each item, and refuses those below 100 so many times.
#[derive(Clone)]
struct Refuses {
    times: u64,
    runs: Arc<[AtomicU64; 200]>,
    sizes: Arc<Mutex<Vec<usize>>>,
}

impl Refuses {
    fn new(times: u64) -> Self {
        let runs = Arc::new([const { AtomicU64::new(0) }; 200]);
        Self { times, runs, sizes: Arc::default() }
    }

    fn runs(&self, item: u64) -> u64 {
        self.runs[item as usize].load(Ordering::Relaxed)
    }
}

impl BatchHandler<u64> for Refuses {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        self.sizes.lock().unwrap().push(batch.len());
        for slot in batch.iter_mut() {
            let item = *slot.item();
            let run = self.runs[item as usize].fetch_add(1, Ordering::Relaxed);
            match item {
                0..100 if run < self.times => slot.reply(Err("later".to_owned())),
                150.. => slot.reply(Err("never".to_owned())),
                _ => slot.reply(Ok(answer(item))),
            }
        }
    }
}

fn retrying(handler: Refuses, retries: u32) -> Ours {
    let retry = RetryPolicy::new(retries, |error: &String| error == "later")
        .backoff(Duration::from_micros(50), Duration::from_micros(200))
        .budget(10.0);
    Batcher::builder(handler).retry(retry).build().unwrap()
}

#[tokio::test]
async fn three_retries_are_at_most_four_runs_of_the_items_that_failed_alone() {
    let handler = Refuses::new(3);
    let batcher = retrying(handler.clone(), 3);
    let told = batcher.call_all([1, 120, 160]).await;
    assert_eq!(told, [Ok(answer(1)), Ok(answer(120)), Err(BatchError::Handler("never".to_owned()))]);
    assert_eq!((handler.runs(1), handler.runs(120), handler.runs(160)), (4, 1, 1));

    let handler = Refuses::new(4);
    let batcher = retrying(handler.clone(), 3);
    assert_eq!(batcher.call(1).await, Err(BatchError::Handler("later".to_owned())));
    assert_eq!(handler.runs(1), 4);
    assert!(batcher.stats().is_balanced());
    assert_eq!(batcher.stats().reruns, 3);
}

#[tokio::test]
async fn others_run_while_a_failed_batch_waits() {
    let handler = Refuses::new(1);
    let retry = RetryPolicy::new(1, |_: &String| true).backoff(Duration::from_secs(3600), Duration::from_secs(3600));
    let batcher: Ours = Batcher::builder(handler).retry(retry).build().unwrap();
    let waits = batcher.submit(1).unwrap();
    settle().await;
    for item in 100..110 {
        assert_eq!(batcher.call(item).await, Ok(answer(item)));
    }
    assert_eq!(batcher.stats().queued, 1);
    drop(waits);
    let report = batcher.shutdown(Duration::from_secs(1)).await;
    assert!(report.drained && report.stats.is_balanced(), "{report:?}");
    assert_eq!(report.stats.cancelled, 1, "its caller had left");
}

/// Refuses the first batch, each item with the milliseconds that it is as the error.
#[derive(Default)]
struct BusyOnce(AtomicBool);

impl BatchHandler<u64> for BusyOnce {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        let answers = self.0.swap(true, Ordering::Relaxed);
        for slot in batch.iter_mut() {
            let item = *slot.item();
            slot.reply(if answers { Ok(answer(item)) } else { Err(item.to_string()) });
        }
    }
}

/// Retries at once, but for errors that are milliseconds to wait.
fn asking() -> RetryPolicy<String> {
    let asked = |error: &String| error.parse().ok().map(Duration::from_millis);
    RetryPolicy::new(1, |_: &String| true).backoff(Duration::ZERO, Duration::ZERO).wait_at_least(asked)
}

fn busy_once() -> Ours {
    Batcher::builder(BusyOnce::default()).retry(asking()).build().unwrap()
}

#[tokio::test]
async fn a_retry_waits_for_as_long_as_the_error_asks_that_asks_for_most() {
    let (batcher, begun) = (busy_once(), Instant::now());
    assert_eq!(batcher.call_all([50, 200, 100]).await, [50, 200, 100].map(|item| Ok(answer(item))));
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    assert_eq!(batcher.stats().batches, 2, "together");
}

#[tokio::test]
async fn a_question_that_panics_asks_for_nothing() {
    let retry = asking().wait_at_least(|_| std::panic::resume_unwind(Box::new("no answer")));
    let batcher: Ours = Batcher::builder(Refuses::new(1)).retry(retry).build().unwrap();
    assert_eq!(batcher.call(1).await, Ok(answer(1)));
}

#[tokio::test]
async fn a_shutdown_keeps_to_what_an_error_asks_within_its_grace() {
    let (batcher, begun) = (busy_once(), Instant::now());
    batcher.try_push(200).unwrap();
    while batcher.stats().reruns == 0 {
        settle().await;
    }
    let report = batcher.shutdown(Duration::from_secs(20)).await;
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
    assert_eq!((report.drained, report.stats.succeeded), (true, 1));

    let retry = asking().wait_at_least(|_| Some(Duration::MAX));
    let batcher: Ours = Batcher::builder(Refuses::new(1)).retry(retry).build().unwrap();
    let waits = batcher.submit(1).unwrap();
    while batcher.stats().reruns == 0 {
        settle().await;
    }
    let report = batcher.shutdown(Duration::from_millis(20)).await;
    assert_eq!((report.drained, report.stats.closed), (false, 1));
    assert_eq!(waits.await, Err(BatchError::Closed { started: true }));
}

#[tokio::test]
async fn retries_keep_to_their_budget() {
    let handler = Refuses::new(u64::MAX);
    let retry = RetryPolicy::new(100, |_: &String| true).backoff(Duration::ZERO, Duration::ZERO).budget(0.0);
    let batcher: Ours = Batcher::builder(handler.clone()).retry(retry).build().unwrap();
    assert!(batcher.call(1).await.is_err());
    assert_eq!(handler.runs(1), 11, "ten are free");
    assert!(batcher.call(2).await.is_err());
    assert_eq!(handler.runs(2), 1, "and no more");
}

#[tokio::test]
async fn panics_are_retried_only_if_that_was_said() {
    for (also_faults, runs) in [(false, 1), (true, 3)] {
        let gated = Gated::default();
        let retry = RetryPolicy::new(2, |_: &String| true).backoff(Duration::ZERO, Duration::ZERO);
        let retry = if also_faults { retry.also_faults() } else { retry };
        let batcher: Ours = Batcher::builder(gated.clone()).retry(retry).build().unwrap();
        let receipt = batcher.submit(1).unwrap();
        for _ in 0..runs {
            settle().await;
            gated.take().remove(0).end(End::Panics(0));
        }
        assert_eq!(receipt.await, Err(BatchError::Panicked));
    }
}

#[tokio::test]
async fn halving_finds_the_items_that_spoil_a_batch() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let handler = from_fn(move |items: Vec<u64>| {
        seen.lock().unwrap().push(items.len());
        async move {
            match items.iter().find(|&&item| item == 5 || item == 11) {
                Some(item) => Err(format!("not {item}")),
                None => Ok(items.into_iter().map(answer).collect::<Vec<u64>>()),
            }
        }
    });
    let batcher: Ours = Batcher::builder(handler.cloning()).bisect(true).build().unwrap();
    let told = batcher.call_all(0..16).await;
    for (item, told) in (0..).zip(told) {
        let expected =
            if item == 5 || item == 11 { Err(BatchError::Handler(format!("not {item}"))) } else { Ok(answer(item)) };
        assert_eq!(told, expected);
    }
    let sizes = sizes.lock().unwrap().clone();
    assert_eq!(sizes.iter().filter(|&&size| size == 16).count(), 1);
    assert!(sizes.len() <= 15, "two of sixteen: at most 2 log2 16 halvings, {sizes:?}");
    assert!(batcher.stats().is_balanced());
}

#[tokio::test]
async fn a_handler_that_took_its_items_cannot_run_them_again() {
    let calls = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&calls);
    let handler = from_fn(move |_: Vec<u64>| {
        seen.fetch_add(1, Ordering::Relaxed);
        async { Err::<Vec<u64>, _>("later".to_owned()) }
    });
    let retry = RetryPolicy::new(5, |_: &String| true).backoff(Duration::ZERO, Duration::ZERO);
    let batcher: Ours = Batcher::builder(handler).retry(retry).bisect(true).build().unwrap();
    assert!(batcher.call_all([1, 2]).await.iter().all(Result::is_err));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_open_breaker_turns_callers_away_keeps_what_is_pushed_and_lets_one_batch_try() {
    let handler = Refuses::new(3);
    let reset = Duration::from_millis(30);
    let batcher: Ours =
        Batcher::builder(handler.clone()).breaker(BreakerPolicy { failures: 3, reset }).build().unwrap();
    for _ in 0..2 {
        assert_eq!(batcher.call(1).await, Err(BatchError::Handler("later".to_owned())));
    }
    assert_eq!(batcher.call(100).await, Ok(answer(100)), "failures in a row count");
    for item in [1, 2, 2] {
        assert_eq!(batcher.call(item).await, Err(BatchError::Handler("later".to_owned())));
    }
    let opened = Instant::now();
    assert_eq!(batcher.call(100).await, Err(BatchError::Rejected(Reason::BreakerOpen)));
    assert_eq!(batcher.submit(100).map(drop).map_err(|rejected| rejected.reason), Err(Reason::BreakerOpen));
    // Waits for the probe, which it is: it fails.
    batcher.try_push(3).unwrap();
    batcher.flush().await.unwrap();
    assert!(opened.elapsed() >= reset - Duration::from_millis(1), "{:?}", opened.elapsed());
    assert_eq!(handler.runs(3), 1);
    assert_eq!(batcher.call(100).await, Err(BatchError::Rejected(Reason::BreakerOpen)), "open again");
    batcher.try_push(101).unwrap();
    batcher.flush().await.unwrap();
    assert!(opened.elapsed() >= 2 * reset - Duration::from_millis(1));
    assert_eq!(batcher.call(100).await, Ok(answer(100)), "closed");
    assert!(batcher.stats().is_balanced());
}

/// Answers items with themselves as the error, but for 7, over which it panics, and 9, which it answers well.
struct Echoes;

impl BatchHandler<u64> for Echoes {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        for slot in batch.iter_mut() {
            match *slot.item() {
                7 => std::panic::resume_unwind(Box::new("seven")),
                9 => slot.reply(Ok(answer(9))),
                item => slot.reply(Err(item.to_string())),
            }
        }
    }
}

/// Two failures open its breaker for long; errors `1` do not count, and `5` makes the question panic.
fn opens_at_two() -> Ours {
    let counts = |error: &String| match error.as_str() {
        "5" => std::panic::resume_unwind(Box::new("no answer")),
        error => error != "1",
    };
    let breaker = BreakerPolicy { failures: 2, reset: Duration::from_secs(3600) };
    Batcher::builder(Echoes).breaker(breaker).breaker_counts(counts).build().unwrap()
}

async fn is_open_after(batches: &[&[u64]]) -> bool {
    let batcher = opens_at_two();
    for &batch in batches {
        batcher.call_all(batch.iter().copied()).await;
    }
    batcher.call(9).await == Err(BatchError::Rejected(Reason::BreakerOpen))
}

#[tokio::test]
async fn a_breaker_counts_the_errors_that_it_is_told_to() {
    assert!(!is_open_after(&[&[1], &[1], &[1, 1]]).await, "none counts");
    assert!(is_open_after(&[&[2], &[3]]).await, "others do");
    assert!(!is_open_after(&[&[2], &[1], &[2]]).await, "one that does not count is an answer: the row begins anew");
    assert!(!is_open_after(&[&[2, 1], &[1, 2]]).await, "so it is among others");
    assert!(is_open_after(&[&[7], &[7]]).await, "panics always count");
    assert!(is_open_after(&[&[5], &[5]]).await, "without an answer they count");
}

#[tokio::test]
async fn what_nobody_waits_for_and_cannot_be_handled_goes_to_the_sink() {
    let letters = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&letters);
    let batcher: Ours = Batcher::builder(Refuses::new(0))
        .dead_letter(move |letter| {
            assert_ne!(letter.item, Some(199), "the sink panics");
            sink.lock().unwrap().push((letter.item, letter.error));
        })
        .build()
        .unwrap();
    for item in [1, 150, 2, 199] {
        batcher.try_push(item).unwrap();
    }
    batcher.flush().await.unwrap();
    assert_eq!(*letters.lock().unwrap(), [(Some(150), BatchError::Handler("never".to_owned()))]);
    let stats = batcher.stats();
    assert_eq!((stats.succeeded, stats.failed, stats.dead_lettered, stats.unclaimed), (2, 2, 1, 1));

    let batcher: Ours = Batcher::builder(Refuses::new(0)).build().unwrap();
    batcher.try_push(150).unwrap();
    batcher.flush().await.unwrap();
    assert_eq!(batcher.stats().unclaimed, 1, "without a sink it is counted");
}

/// An item that says when it is dropped, and may panic then.
struct Dropped(u64, Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
        if self.0 == 13 {
            std::panic::resume_unwind(Box::new("an item that panics"));
        }
    }
}

struct Ids;

impl BatchHandler<Dropped> for Ids {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, Dropped, u64, String>) {
        for slot in batch.iter_mut() {
            let id = slot.item().0;
            slot.reply(Ok(id));
        }
    }
}

#[tokio::test]
async fn items_are_dropped_once_and_one_that_panics_then_harms_nobody() {
    let drops = Arc::new(AtomicUsize::new(0));
    let batcher: Batcher<Dropped, u64, String> = Batcher::builder(Ids).build().unwrap();
    let told = batcher.call_all((0..20).map(|id| Dropped(id, Arc::clone(&drops)))).await;
    assert_eq!(told, (0..20).map(Ok).collect::<Vec<_>>());
    assert_eq!(drops.load(Ordering::Relaxed), 20);
    assert!(batcher.stats().is_balanced());
}

#[test]
fn bad_values_are_errors_when_built() {
    type Change =
        fn(swarm_batcher::BatcherBuilder<u64, u64, String>) -> swarm_batcher::BatcherBuilder<u64, u64, String>;
    let bad: [Change; 16] = [
        |builder| builder.max_batch_items(0),
        |builder| builder.max_batch_items(usize::MAX),
        |builder| builder.max_batch_weight(0, |_| 1),
        |builder| builder.max_queue_items(0),
        |builder| builder.max_queue_bytes(0, |_| 1),
        |builder| builder.priority_levels(0),
        |builder| builder.priority_levels(17),
        |builder| builder.max_in_flight(0),
        |builder| builder.policy(Policy::Linger(Duration::ZERO)),
        |builder| builder.policy(Policy::preferred(&[], Duration::ZERO)),
        |builder| builder.policy(Policy::preferred(&[4, 2], Duration::ZERO)),
        |builder| builder.policy(Policy::preferred(&[1, 101], Duration::ZERO)),
        |builder| builder.policy(Policy::Adaptive { target_p99: Duration::ZERO }),
        |builder| builder.default_deadline(Duration::ZERO),
        |builder| builder.breaker(BreakerPolicy { failures: 0, reset: Duration::from_secs(1) }),
        |builder| builder.retry(RetryPolicy::new(1, |_| true).budget(f64::NAN)),
    ];
    for (number, change) in bad.into_iter().enumerate() {
        let built = change(Batcher::builder(AtOnce::default())).build();
        assert!(built.is_err(), "number {number}");
    }
    let built: Result<Ours, _> = Batcher::builder(AtOnce::default()).build();
    assert!(built.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_ends_when_the_sink_has_what_failed() {
    let letters = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&letters);
    let handler = from_fn(|_: Vec<u64>| async {
        tokio::task::yield_now().await;
        Err::<Vec<u64>, _>("no".to_owned())
    });
    let batcher: Batcher<u64, u64, String> = Batcher::builder(handler.cloning())
        .dead_letter(move |letter| {
            std::thread::sleep(Duration::from_millis(5));
            sink.lock().unwrap().push(letter.item);
        })
        .build()
        .unwrap();
    for round in 1..=10 {
        batcher.try_push(round).unwrap();
        let flushed = batcher.flush().await.unwrap();
        if flushed.items > 0 {
            assert_eq!(letters.lock().unwrap().len() as u64, round);
            assert_eq!(batcher.stats().dead_lettered, round);
        }
    }
    assert!(!letters.lock().unwrap().is_empty());
}
