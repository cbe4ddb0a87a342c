//! A handler that stalls delays nobody who gives items, until the bound is reached. `STALL_SECONDS` says for how long it stalls (1 by
//! default, 10 is the full length).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarm_batcher::{Batch, BatchHandler, Batcher, Reason};
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

#[test]
fn a_stalled_handler_delays_no_push_until_the_bound() {
    const BOUND: usize = 1 << 21;
    let stall = std::env::var("STALL_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
    let stall = Duration::from_secs(stall);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // The machine itself stalls for milliseconds, now and then: it must not do so three times in one of the two loops alone.
    let mut seen = Vec::new();
    for _ in 0..3 {
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
            ours.time(|| batcher.try_push(item).expect("the bound is not reached"));
            bare.time(|| kept.push(item));
            let spread = Instant::now();
            while spread.elapsed() < Duration::from_micros(5) {
                std::hint::spin_loop();
            }
        }
        assert_eq!(batcher.stats().queued + batcher.stats().in_flight, item + 1, "nothing has ended yet");
        for item in item + 1..BOUND as u64 {
            batcher.try_push(item).expect("the bound is not reached");
        }
        assert_eq!(batcher.try_push(1).unwrap_err().reason, Reason::Full);
        go_on.notify_one();
        runtime.block_on(batcher.flush()).unwrap();
        assert_eq!(batcher.stats().succeeded, BOUND as u64);
        let found = (ours.at(0.999), ours.at(1.0), bare.at(1.0));
        let (most, longest, bare) = found;
        if most <= Duration::from_millis(1) && longest <= 2 * bare.max(Duration::from_millis(1)) {
            return;
        }
        seen.push(found);
    }
    panic!("p99.9, maximum, maximum of a bare vector: {seen:?}");
}
