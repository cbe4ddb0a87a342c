//! A goal for latency in place of knobs: open-loop load of Poisson arrivals on a handler that costs `a + b n`, served by fixed lingers and by
//! the adaptive policy. Prints a table, and the chart of it. `SECONDS_A_POINT` says how long each point is measured (0.3 by default).
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::error::Error;
use std::time::{Duration, Instant};

use swarm_batcher::{Batch, BatchHandler, Batcher, Policy};
use tokio::sync::mpsc::unbounded_channel;

/// What a batch costs, and what each of its items adds, at a machine that serves one batch at a time.
const BATCH_COST: Duration = Duration::from_micros(2_000);
const ITEM_COST: Duration = Duration::from_micros(20);
const LARGEST: usize = 64;
const GOAL: Duration = Duration::from_millis(20);

struct Served;

impl BatchHandler<u64> for Served {
    type Output = u64;
    type Error = Infallible;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, Infallible>) {
        tokio::time::sleep(BATCH_COST + ITEM_COST * batch.len() as u32).await;
        for slot in batch.iter_mut() {
            let reply = slot.item() + 1;
            slot.reply(Ok(reply));
        }
    }
}

/// The 99th percentile under `load`, as a share of what the handler can serve in full batches. Latency counts from when a call was due.
async fn p99(policy: Policy, load: f64, time: Duration) -> Result<Duration, Box<dyn Error>> {
    let capacity = LARGEST as f64 / (BATCH_COST + ITEM_COST * LARGEST as u32).as_secs_f64();
    let rate = load * capacity;
    let batcher = Batcher::builder(Served).max_batch_items(LARGEST).policy(policy).max_in_flight(1).build()?;
    let (sender, mut latencies) = unbounded_channel();
    let mut rng = fastrand::Rng::with_seed(1);
    let (start, mut due, mut calls) = (Instant::now(), Duration::ZERO, 0);
    while due < time {
        due += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / rate);
        let wait = due.saturating_sub(start.elapsed());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let (batcher, sender) = (batcher.clone(), sender.clone());
        calls += 1;
        tokio::spawn(async move {
            let reply = batcher.call(7).await;
            assert_eq!(reply, Ok(8));
            let _receiver_is_there = sender.send(start.elapsed() - due);
        });
    }
    drop(sender);
    let mut sorted = Vec::with_capacity(calls);
    while let Some(latency) = latencies.recv().await {
        sorted.push(latency);
    }
    assert_eq!(sorted.len(), calls, "every call is answered");
    sorted.sort_unstable();
    Ok(sorted[(calls - 1) * 99 / 100])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::var("SECONDS_A_POINT").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.3);
    let time = Duration::from_secs_f64(seconds);
    let policies = [
        ("natural", Policy::Natural),
        ("linger 1 ms", Policy::Linger(Duration::from_millis(1))),
        ("linger 5 ms", Policy::Linger(Duration::from_millis(5))),
        ("linger 15 ms", Policy::Linger(Duration::from_millis(15))),
        ("goal 20 ms", Policy::Adaptive { target_p99: GOAL }),
    ];
    println!("p99 in milliseconds, by the share of what full batches could serve");
    println!("{:<14}{:>8}{:>8}{:>8}{:>8}{:>8}", "policy", "5 %", "25 %", "50 %", "75 %", "90 %");
    let mut chart = String::new();
    for (name, policy) in policies {
        let mut row = format!("{name:<14}");
        for load in [0.05, 0.25, 0.5, 0.75, 0.9] {
            let p99 = p99(policy.clone(), load, time).await?.as_secs_f64() * 1e3;
            row += &format!("{p99:>8.1}");
            chart +=
                &format!("{name:<14}{:>4.0} % {}\n", load * 100.0, "#".repeat((p99 * 2.0).round().min(80.0) as usize));
        }
        println!("{row}");
    }
    println!("\n{chart}");
    Ok(())
}
