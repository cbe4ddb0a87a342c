//! What it costs to give an item to be forgotten, while batches of them leave: every item that was given is counted by the handler.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::{Bench, BenchError, Suite};
use swarm_batcher::{Batch, BatchHandler, Batcher, Policy, Reason};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Items of a round.
const ROUND: u64 = 100_000;
/// As many items leave together, as in the benchmark of the original.
const BATCH: usize = 1_000;
/// The original's linger: nothing leaves by time within a round.
const LINGER: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    Suite::new()
        .bench("swarm-batcher/add/single", single)
        .bench("swarm-batcher/add/beside-a-channel", beside_a_channel)
        .bench("swarm-batcher/add/two-producers", two_producers)
        .run()
}

/// The items that came, and their sum.
#[derive(Clone, Default)]
struct Sum(Arc<AtomicU64>);

impl Sum {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl BatchHandler<u64> for Sum {
    type Output = ();
    type Error = std::convert::Infallible;

    async fn handle(&self, mut batch: Batch<'_, u64, (), Self::Error>) {
        self.0.fetch_add(batch.items().sum::<u64>(), Ordering::Relaxed);
        batch.iter_mut().for_each(|slot| slot.reply(Ok(())));
    }
}

type Ours = Batcher<u64, (), std::convert::Infallible>;

fn ours(sum: &Sum) -> Ours {
    let builder = Batcher::builder(sum.clone()).max_batch_items(BATCH).policy(Policy::Linger(LINGER));
    builder.max_queue_items(1 << 20).build().expect("valid")
}

/// One worker runs the batches, the producer is a thread of its own.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// A batcher under load, in its runtime.
struct Loaded {
    batcher: Ours,
    sum: Sum,
    runtime: Runtime,
}

impl Loaded {
    fn new() -> Self {
        let (runtime, sum) = (runtime(), Sum::default());
        let batcher = {
            let _inside = runtime.enter();
            ours(&sum)
        };
        Self { batcher, sum, runtime }
    }

    /// How long a producer takes for its items.
    fn push_all(&self) -> Duration {
        let start = Instant::now();
        for _ in 0..ROUND {
            if let Err(rejected) = self.batcher.try_push(black_box(1)) {
                assert_eq!(rejected.reason, Reason::Full, "there is room for ten rounds");
            }
        }
        start.elapsed()
    }

    /// Has everything handled before the next round.
    fn end_round(&self) {
        self.runtime.block_on(self.batcher.flush()).expect("outside of the handler");
    }

    fn round(&self) -> (Duration, u64) {
        let elapsed = self.push_all();
        self.end_round();
        (elapsed, ROUND)
    }
}

/// Beside a vector that grows: the least that keeping an item costs.
fn single(bench: &mut Bench) -> Result<(), BenchError> {
    let loaded = Loaded::new();
    let mut kept = 0;
    let rounds = bench.against(
        "swarm-batcher/floor/vec-push",
        || loaded.round(),
        || {
            let mut items = Vec::new();
            let start = Instant::now();
            for _ in 0..ROUND {
                items.push(black_box(1));
            }
            let elapsed = start.elapsed();
            kept += items.iter().sum::<u64>();
            (elapsed, ROUND)
        },
    )?;
    bench.proof(2 * rounds * ROUND, loaded.sum.get() + kept);
    Ok(())
}

/// Beside a bounded channel whose receiver takes as many at a time.
fn beside_a_channel(bench: &mut Bench) -> Result<(), BenchError> {
    let (loaded, received) = (Loaded::new(), Arc::new(AtomicU64::new(0)));
    let (sender, mut receiver) = mpsc::channel::<u64>(1 << 20);
    let receiving = Arc::clone(&received);
    loaded.runtime.spawn(async move {
        let mut batch = Vec::with_capacity(BATCH);
        while receiver.recv_many(&mut batch, BATCH).await > 0 {
            receiving.fetch_add(batch.drain(..).sum::<u64>(), Ordering::Release);
        }
    });
    let mut sent = 0;
    let rounds = bench.against(
        "swarm-batcher/floor/mpsc-recv-many",
        || loaded.round(),
        || {
            let start = Instant::now();
            for _ in 0..ROUND {
                sender.try_send(black_box(1)).expect("there is room for ten rounds");
            }
            let elapsed = start.elapsed();
            sent += ROUND;
            while received.load(Ordering::Acquire) < sent {
                std::thread::yield_now();
            }
            (elapsed, ROUND)
        },
    )?;
    bench.proof(2 * rounds * ROUND, loaded.sum.get() + received.load(Ordering::Acquire));
    Ok(())
}

/// Two threads give items to one batcher.
fn two_producers(bench: &mut Bench) -> Result<(), BenchError> {
    let loaded = Loaded::new();
    let rounds = bench.rounds(|| {
        let elapsed = harness::together(2, |_| (), |()| loaded.push_all()).0;
        loaded.end_round();
        (elapsed, 2 * ROUND)
    })?;
    bench.proof(rounds * 2 * ROUND, loaded.sum.get());
    Ok(())
}
