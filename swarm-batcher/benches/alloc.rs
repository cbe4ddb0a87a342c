//! Allocations a call and memory a call in flight: counted, in a binary of its own.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::{Bench, BenchError, CountingAlloc, Suite, alloc_scope};
use swarm_batcher::{Batch, BatchHandler, Batcher, Policy, Receipt};
use tokio::runtime::Runtime;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use work::{Answers, AtOnce, Ours, Work, Yields, answer, ours};

mod work;

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::system();

const TASKS: u64 = 1_000;
/// Calls of each task, before the counting and within it.
const CALLS: u64 = 100;

fn main() -> ExitCode {
    Suite::new()
        .bench("swarm-batcher/allocs/call-idle", idle)
        .bench("swarm-batcher/allocs/call-1000-tasks", |bench: &mut Bench| tasks::<AtOnce>(bench))
        .bench("swarm-batcher/allocs/call-1000-tasks-that-yield", |bench: &mut Bench| tasks::<Yields>(bench))
        .bench("swarm-batcher/allocs/try-push", pushes)
        .bench("swarm-batcher/memory/call-in-flight", in_flight)
        .run()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn idle(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, mut sum) = (runtime(), 0);
    let batcher = ours::<AtOnce>();
    let mut call_all = || {
        runtime.block_on(async {
            for item in 0..CALLS {
                sum += batcher.call(item).await.expect("answered");
            }
        });
    };
    call_all();
    let ((), stats) = alloc_scope(&mut call_all);
    bench.allocations(CALLS, stats)?;
    bench.proof(2 * (0..CALLS).map(answer).sum::<u64>(), sum);
    Ok(())
}

/// What tasks and their start allocate is not counted: they are there, and have called, before.
fn tasks<W: Work>(bench: &mut Bench) -> Result<(), BenchError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let batcher = runtime.block_on(async { ours::<W>() });
    let barrier = || Arc::new(Barrier::new(TASKS as usize + 1));
    let (ready, start, end) = (barrier(), barrier(), barrier());
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (batcher, ready, start, end) = (batcher.clone(), Arc::clone(&ready), Arc::clone(&start), Arc::clone(&end));
        let task = async move {
            let before = calls(&batcher).await;
            ready.wait().await;
            start.wait().await;
            let counted = calls(&batcher).await;
            end.wait().await;
            before + counted
        };
        tasks.spawn_on(task, runtime.handle());
    }
    runtime.block_on(ready.wait());
    let ((), stats) = alloc_scope(|| {
        runtime.block_on(async {
            start.wait().await;
            end.wait().await;
        });
    });
    bench.allocations(TASKS * CALLS, stats)?;
    let sum: u64 = runtime.block_on(tasks.join_all()).into_iter().sum();
    bench.proof(2 * TASKS * (0..CALLS).map(answer).sum::<u64>(), sum);
    Ok(())
}

async fn calls(batcher: &Ours) -> u64 {
    let mut sum = 0;
    for item in 0..CALLS {
        sum += batcher.call(item).await.expect("answered");
    }
    sum
}

/// Items to be forgotten, in batches of a hundred.
fn pushes(bench: &mut Bench) -> Result<(), BenchError> {
    const PUSHES: u64 = 10_000;
    let (runtime, handled) = (runtime(), Arc::new(AtomicU64::new(0)));
    let hour = Policy::Linger(Duration::from_secs(3600));
    let batcher: Batcher<u64, (), Infallible> =
        runtime.block_on(async { Batcher::builder(Counts(Arc::clone(&handled))).policy(hour).build() }).expect("valid");
    let push_all = || {
        runtime.block_on(async {
            for item in 0..PUSHES {
                batcher.try_push(item).expect("room");
            }
            batcher.flush().await.expect("outside of the handler");
        });
    };
    push_all();
    let ((), stats) = alloc_scope(push_all);
    bench.allocations(PUSHES, stats)?;
    bench.proof(2 * PUSHES, handled.load(Ordering::Relaxed));
    Ok(())
}

struct Counts(Arc<AtomicU64>);

impl BatchHandler<u64> for Counts {
    type Output = ();
    type Error = Infallible;

    async fn handle(&self, mut batch: Batch<'_, u64, (), Infallible>) {
        self.0.fetch_add(batch.len() as u64, Ordering::Relaxed);
        batch.iter_mut().for_each(|slot| slot.reply(Ok(())));
    }
}

/// What the batcher keeps for each of many items whose callers wait, above the item and its output: the receipts are the callers' own.
fn in_flight(bench: &mut Bench) -> Result<(), BenchError> {
    const SIZES: [u64; 3] = [1 << 12, 1 << 14, 1 << 16];
    let build = |calls: u64| {
        let runtime = runtime();
        let hour = Policy::Linger(Duration::from_secs(3600));
        let batcher: Ours = runtime
            .block_on(async {
                let builder = Batcher::builder(Answers::<AtOnce>::default()).policy(hour);
                builder.max_batch_items(1 << 20).max_queue_items(1 << 20).build()
            })
            .expect("valid");
        let mut receipts: Vec<Receipt<u64, u64, Infallible>> = Vec::with_capacity(calls as usize);
        let _inside = runtime.enter();
        receipts.extend((0..calls).map(|item| batcher.submit(item).expect("room")));
        drop(_inside);
        (receipts, batcher, runtime)
    };
    let content = 2 * size_of::<u64>() + size_of::<Receipt<u64, u64, Infallible>>();
    bench.memory_per_item(&SIZES, content as u64, build, |built| built.0.len() as u64)?;
    bench.proof(SIZES.iter().sum::<u64>(), bench.observed());
    Ok(())
}
