//! Nothing spins: what the processor spends while nothing happens, for the process as a whole, hence in a binary of its own.

#![cfg(target_os = "linux")]

mod support;

use std::time::{Duration, Instant};

use support::{AtOnce, End, Gated, Running, answer};
use swarm_batcher::{BatchHandler, Batcher, BatcherBuilder, Policy};
use tokio::runtime::Runtime;

/// How long nothing happens.
const WINDOW: Duration = Duration::from_secs(1);
/// Far less than a task that spins, and far more than a process that sleeps.
const MOST: Duration = Duration::from_millis(100);
/// Long enough for batches to form, short enough to have passed many times.
const LINGER: Duration = Duration::from_micros(200);

/// What this process has used of all processors, by the clock of the kernel's accounts.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    // The name, in parentheses, may hold anything; the times are the 14th and 15th field, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(10 * ticks)
}

fn spent_while(nothing: impl FnOnce()) -> Duration {
    let before = processor_time();
    nothing();
    processor_time() - before
}

fn sleeps() -> Duration {
    spent_while(|| std::thread::sleep(WINDOW))
}

/// Of the policies, the one that sets the alarm for each batch.
fn build<H: BatchHandler<u64, Output = u64, Error = String>>(handler: H) -> Batcher<u64, u64, String> {
    let builder: BatcherBuilder<u64, u64, String> = Batcher::builder(handler);
    builder.policy(Policy::Linger(LINGER)).max_batch_items(8).max_in_flight(2).build().expect("valid")
}

fn multi_thread() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn an_idle_batcher(runtime: &Runtime) -> Duration {
    let batcher = build(AtOnce::default());
    runtime.block_on(async {
        for round in 0..100 {
            let told = batcher.call_all(round..round + 20).await;
            assert!((round..).zip(told).all(|(item, told)| told == Ok(answer(item))));
        }
    });
    sleeps()
}

fn a_batch_in_a_handler_that_stalls(runtime: &Runtime) -> Duration {
    let gated = Gated::default();
    let batcher = build(gated.clone());
    let receipt = batcher.submit(1).expect("room");
    // One more that lingers behind it when it is over, and one that waits for a permit.
    let running: Running = wait_for(|| gated.take().pop());
    let waiting = batcher.submit(2).expect("room");
    let second: Running = wait_for(|| gated.take().pop());
    let queued = batcher.submit(3).expect("room");
    std::thread::sleep(10 * LINGER);
    let spent = sleeps();
    for running in [running, second] {
        running.end(End::well());
    }
    wait_for(|| gated.take().pop()).end(End::well());
    for (receipt, item) in [(receipt, 1), (waiting, 2), (queued, 3)] {
        assert_eq!(runtime.block_on(receipt), Ok(answer(item)));
    }
    spent
}

fn wait_for<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(ready) = ready() {
            return ready;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "nothing hangs");
        std::thread::sleep(LINGER);
    }
}

#[test]
fn nothing_spins_while_nothing_happens() {
    let runtime = multi_thread();
    let _inside = runtime.enter();
    for (what, spent) in [
        ("an idle batcher", an_idle_batcher(&runtime)),
        ("a batch in a handler that stalls", a_batch_in_a_handler_that_stalls(&runtime)),
    ] {
        assert!(spent <= MOST, "{what} took {spent:?} of a processor in {WINDOW:?}");
    }
    // What the test would see if something did spin.
    let began = Instant::now();
    let spins = || {
        while began.elapsed() < WINDOW {
            std::hint::spin_loop();
        }
    };
    assert!(spent_while(spins) > MOST, "a thread that spins is seen");
}
