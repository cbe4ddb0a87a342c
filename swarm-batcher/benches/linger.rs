//! How much longer than its linger the oldest item of a batch waits. The runtime's own timers count milliseconds.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError, Suite};
use swarm_batcher::{Batch, BatchHandler, Batcher, Policy};

fn main() -> ExitCode {
    [50, 200, 900]
        .into_iter()
        .fold(Suite::new(), |suite, micros| {
            let id = format!("swarm-batcher/linger/overshoot-{micros}-us");
            suite.bench(id, move |bench: &mut Bench| overshoot(bench, Duration::from_micros(micros)))
        })
        .run()
}

/// Writes down how late its batches are: items are the times at which they were given.
struct Late {
    linger: Duration,
    by: Arc<Mutex<Vec<Duration>>>,
}

impl BatchHandler<Instant> for Late {
    type Output = ();
    type Error = Infallible;

    async fn handle(&self, mut batch: Batch<'_, Instant, (), Infallible>) {
        let now = Instant::now();
        let oldest = *batch.items().next().expect("a batch has items");
        let waited = now - oldest;
        assert!(waited >= self.linger, "a batch of few items left after {waited:?}");
        self.by.lock().expect("no panic under it").push(waited - self.linger);
        batch.iter_mut().for_each(|slot| slot.reply(Ok(())));
    }
}

/// Pairs of items, the second one in the middle of the first one's wait, given by a thread to a runtime that sleeps.
fn overshoot(bench: &mut Bench, linger: Duration) -> Result<(), BenchError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let by = Arc::new(Mutex::new(Vec::new()));
    let late = Late { linger, by: Arc::clone(&by) };
    let batcher: Batcher<Instant, (), Infallible> =
        Batcher::builder(late).policy(Policy::Linger(linger)).build().expect("valid");
    let mut batches = 0;
    let mut run = |time: Duration| {
        let began = Instant::now();
        while batches == 0 || began.elapsed() < time {
            batcher.try_push(Instant::now()).expect("room");
            std::thread::sleep(linger / 2);
            batcher.try_push(Instant::now()).expect("room");
            std::thread::sleep(2 * linger + Duration::from_micros(300));
            batches += 1;
        }
    };
    run(bench.effort().warm_up);
    runtime.block_on(batcher.flush()).expect("outside of the handler");
    by.lock().expect("no panic under it").clear();
    run(bench.effort().measure);
    runtime.block_on(batcher.flush()).expect("outside of the handler");
    let mut by = std::mem::take(&mut *by.lock().expect("no panic under it"));
    by.sort_unstable();
    let samples = by.len();
    let at = |share: f64| by[((samples - 1) as f64 * share).round() as usize].as_nanos() as f64;
    for (metric, share) in [(Metric::LatencyP50, 0.5), (Metric::LatencyP99, 0.99), (Metric::LatencyMax, 1.0)] {
        bench.figure(Source::Op, Figure::exact(metric, at(share)), samples as u64);
    }
    let stats = batcher.stats();
    bench.proof(2 * batches, stats.succeeded);
    Ok(())
}
