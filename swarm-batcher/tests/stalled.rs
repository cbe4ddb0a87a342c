//! A handler that stalls delays nobody who gives items, until the bound is reached. `STALL_SECONDS` says for how long it stalls (1 by
//! default, 10 is the full length).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarm_batcher::{Batch, BatchHandler, Batcher, Reason};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Stalls until it is told to go on.
struct Stalls(Arc<Notify>);

impl BatchHandler<u64> for Stalls {
    type Output = ();
    type Error = Infallible;

    async fn handle(&self, mut batch: Batch<'_, u64, (), Infallible>) {
        if batch.items().any(|&item| item == 0) {
            self.0.notified().await;
        }
        batch.iter_mut().for_each(|slot| slot.reply(Ok(())));
    }
}

/// How long single operations took.
#[derive(Default)]
struct Latencies(Vec<Duration>);

impl Latencies {
    fn time(&mut self, operation: impl FnOnce()) {
        let start = Instant::now();
        operation();
        self.0.push(start.elapsed());
    }

    fn at(&mut self, share: f64) -> Duration {
        self.0.sort_unstable();
        self.0[((self.0.len() - 1) as f64 * share) as usize]
    }
}

/// As much again as the longest push to a vector may a push to a batcher take, and as this, if that is more: what is measured below it is
/// the machine's own stalls, which strike one of two loops of a few seconds as well as the other.
const GRAIN: Duration = Duration::from_micros(100);
/// The machine stalls whom it likes: what is the batcher's own is there in each of so many rounds.
const ROUNDS: u32 = 5;
const BOUND: usize = 1 << 21;

/// What one round has found.
#[derive(Debug)]
struct Round {
    most: Duration,
    longest: Duration,
    longest_of_a_vector: Duration,
}

impl Round {
    fn is_good(&self) -> bool {
        self.most <= Duration::from_millis(1) && self.longest <= 2 * self.longest_of_a_vector.max(GRAIN)
    }
}

/// Pushes while the handler stalls, to the batcher and to a vector in turn; each is the first of a pair as often as the other.
fn round(runtime: &Runtime, stall: Duration) -> Round {
    let go_on = Arc::new(Notify::new());
    let batcher: Batcher<u64, (), Infallible> = {
        let _inside = runtime.enter();
        Batcher::builder(Stalls(Arc::clone(&go_on))).max_queue_items(BOUND).build().unwrap()
    };
    batcher.try_push(0).unwrap();
    let (mut ours, mut bare, mut kept) = (Latencies::default(), Latencies::default(), Vec::new());
    let mut item = 0;
    let start = Instant::now();
    while start.elapsed() < stall && item < BOUND as u64 - 1 {
        item += 1;
        let mut push = || ours.time(|| batcher.try_push(item).expect("the bound is not reached"));
        let mut keep = || bare.time(|| kept.push(item));
        if item.is_multiple_of(2) {
            push();
            keep();
        } else {
            keep();
            push();
        }
        let spread = Instant::now();
        while spread.elapsed() < Duration::from_micros(5) {
            std::hint::spin_loop();
        }
    }
    let stats = batcher.stats();
    assert_eq!(stats.queued + stats.in_flight, item + 1, "nothing has ended yet");
    for item in item + 1..BOUND as u64 {
        batcher.try_push(item).expect("the bound is not reached");
    }
    assert_eq!(batcher.try_push(1).unwrap_err().reason, Reason::Full);
    go_on.notify_one();
    runtime.block_on(batcher.flush()).unwrap();
    assert_eq!(batcher.stats().succeeded, BOUND as u64);
    Round { most: ours.at(0.999), longest: ours.at(1.0), longest_of_a_vector: bare.at(1.0) }
}

#[test]
fn a_stalled_handler_delays_no_push_until_the_bound() {
    let stall = std::env::var("STALL_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        seen.push(round(&runtime, Duration::from_secs(stall)));
        if seen.last().is_some_and(Round::is_good) {
            return;
        }
    }
    panic!("in each round pushes took long: {seen:?}");
}
