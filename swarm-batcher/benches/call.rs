//! What a call costs, alone and among a thousand. Every caller checks its reply, and their sum is the proof.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Bench, BenchError, Suite};
use tokio::runtime::Runtime;
use tokio::sync::{Barrier, Notify};
use tokio::task::JoinSet;

use floors::{Calls, RecvMany};
use work::{AtOnce, Work, Yields, answer, ours};

mod floors;
mod work;

/// Calls of a group: what one reading of the clock is shared by.
const GROUP: u64 = 64;
/// Groups of a round.
const GROUPS: u64 = 64;
const TASKS: u64 = 1_000;
/// Calls of each task in a round.
const CALLS: u64 = 100;

fn main() -> ExitCode {
    Suite::new()
        .bench("swarm-batcher/idle/call", idle)
        .bench("swarm-batcher/idle/call-beside-the-handler", idle_beside_the_handler)
        .bench("swarm-batcher/idle/call-beside-a-wake", idle_beside_a_wake)
        .bench("swarm-batcher/call/1000-tasks", |bench: &mut Bench| tasks::<AtOnce>(bench, "recv-many-1000-tasks"))
        .bench("swarm-batcher/call/1000-tasks-that-yield", |bench: &mut Bench| {
            tasks::<Yields>(bench, "recv-many-1000-tasks-that-yield")
        })
        .run()
}

/// One caller on one thread, beside the same with the batcher that one writes by hand.
fn idle(bench: &mut Bench) -> Result<(), BenchError> {
    beside(bench, "recv-many-idle", |_| {
        let floor = RecvMany::spawn(AtOnce);
        async move |item| floor.call_it(item).await
    })
}

/// The same handler, given a batch by nobody: what a call would cost if a batcher cost nothing. A handler takes its batch from a batcher
/// alone, so this is its body.
fn idle_beside_the_handler(bench: &mut Bench) -> Result<(), BenchError> {
    beside(bench, "direct-handler-call", |_| {
        async |item| {
            AtOnce.wait().await;
            answer(item)
        }
    })
}

/// Two tasks that wake each other, with nothing to do: what a call costs at least if another task has to run it.
fn idle_beside_a_wake(bench: &mut Bench) -> Result<(), BenchError> {
    beside(bench, "wake-ping-pong", |runtime| {
        let (ping, pong) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (other_ping, other_pong) = (Arc::clone(&ping), Arc::clone(&pong));
        runtime.spawn(async move {
            loop {
                other_ping.notified().await;
                other_pong.notify_one();
            }
        });
        async move |item| {
            ping.notify_one();
            pong.notified().await;
            answer(item)
        }
    })
}

/// A lone caller's call beside a floor, which has the same answers.
fn beside<F>(bench: &mut Bench, floor_name: &str, make_floor: impl FnOnce(&Runtime) -> F) -> Result<(), BenchError>
where
    F: AsyncFn(u64) -> u64,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let (ours, floor) = (ours::<AtOnce>(), make_floor(&runtime));
    let (mut sum, mut their_sum) = (0, 0);
    let rounds = bench.against(
        &format!("swarm-batcher/floor/{floor_name}"),
        || one_after_the_other(&runtime, &mut sum, async |item| ours.call_it(item).await),
        || one_after_the_other(&runtime, &mut their_sum, &floor),
    )?;
    bench.proof(2 * rounds * sum_of(GROUP * GROUPS), sum + their_sum);
    Ok(())
}

fn one_after_the_other(runtime: &Runtime, sum: &mut u64, call: impl AsyncFn(u64) -> u64) -> (Duration, u64) {
    let elapsed = runtime.block_on(async {
        let start = Instant::now();
        for item in 0..GROUP * GROUPS {
            *sum += call(black_box(item)).await;
        }
        start.elapsed()
    });
    (elapsed, GROUP * GROUPS)
}

fn sum_of(calls: u64) -> u64 {
    (0..calls).map(answer).sum()
}

/// A thousand tasks on two workers, each of which calls again when it has its reply.
fn tasks<W: Work>(bench: &mut Bench, floor_name: &str) -> Result<(), BenchError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let (ours, floor) = (ours::<W>(), RecvMany::spawn(W::default()));
    let (mut sum, mut their_sum) = (0, 0);
    let rounds = bench.against(
        &format!("swarm-batcher/floor/{floor_name}"),
        || {
            let round = round(&runtime, &ours);
            sum += round.1;
            (round.0, TASKS * CALLS)
        },
        || {
            let round = round(&runtime, &floor);
            their_sum += round.1;
            (round.0, TASKS * CALLS)
        },
    )?;
    bench.proof(2 * rounds * TASKS * sum_of(CALLS), sum + their_sum);
    Ok(())
}

/// The tasks are there before the clock starts.
fn round(runtime: &Runtime, batcher: &impl Calls) -> (Duration, u64) {
    runtime.block_on(async {
        let start = Arc::new(Barrier::new(TASKS as usize + 1));
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let (batcher, start) = (batcher.clone(), Arc::clone(&start));
            tasks.spawn(async move {
                start.wait().await;
                let mut sum = 0;
                for item in 0..CALLS {
                    let reply = batcher.call_it(item).await;
                    assert_eq!(reply, answer(item), "one's own reply");
                    sum += reply;
                }
                sum
            });
        }
        start.wait().await;
        let began = Instant::now();
        let sum = tasks.join_all().await.into_iter().sum();
        (began.elapsed(), sum)
    })
}
