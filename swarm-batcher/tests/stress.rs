//! Everything at once, on several threads: every caller gets its own reply, and the counts add up. `ITEMS` says how many items (a million is
//! the full count).

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use support::answer;
use swarm_batcher::{Batch, BatchError, BatchHandler, Batcher, CallOptions, OnFull, Policy, RetryPolicy};
use tokio::task::{JoinSet, yield_now};

type Ours = Batcher<u64, u64, String>;

/// Waits now and then, fails now and then, and counts what it answered.
#[derive(Clone, Default)]
struct Moody {
    answered: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

impl BatchHandler<u64> for Moody {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match call % 16 {
            0 => tokio::time::sleep(Duration::from_micros(10)).await,
            1..6 => yield_now().await,
            6 => std::panic::resume_unwind(Box::new("moody")),
            7 => return,
            _ => {}
        }
        for slot in batch.iter_mut() {
            let item = *slot.item();
            if item % 64 == 1 {
                slot.reply(Err(format!("not {item}")));
            } else {
                self.answered.fetch_add(1, Ordering::Relaxed);
                slot.reply(Ok(answer(item)));
            }
        }
    }
}

fn items() -> u64 {
    std::env::var("ITEMS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

fn batchers() -> Vec<(&'static str, Moody, Ours)> {
    let kinds = ["natural", "in-flight", "linger", "keys", "shared", "shed", "retries", "adaptive", "all"];
    let build = |&kind: &&'static str| {
        let moody = Moody::default();
        let builder = Batcher::builder(moody.clone()).max_batch_items(16).max_queue_items(64);
        let retry = || {
            RetryPolicy::new(3, |_: &String| true)
                .backoff(Duration::from_micros(20), Duration::from_micros(100))
                .budget(5.0)
                .also_faults()
        };
        let linger = Policy::Linger(Duration::from_micros(100));
        let goal = Policy::Adaptive { target_p99: Duration::from_millis(2) };
        let builder = match kind {
            "natural" => builder,
            "in-flight" => builder.max_in_flight(4),
            "linger" => builder.policy(linger).max_in_flight(2),
            "keys" => builder.key_by(|item| item % 7).max_in_flight(2),
            "shared" => builder.coalesce_by(|item| item / 4 * 4 + item % 2).on_full(OnFull::Reject),
            "shed" => builder.on_full(OnFull::ShedOldest).priority_levels(2),
            "retries" => builder.retry(retry()).bisect(true),
            "adaptive" => builder.policy(goal),
            _ => builder
                .policy(linger)
                .key_by(|item| item % 3)
                .coalesce_by(|&item| item)
                .priority_levels(2)
                .max_in_flight(3)
                .retry(retry())
                .bisect(true)
                .default_deadline(Duration::from_millis(5)),
        };
        (kind, moody, builder.dead_letter(|_| {}).build().expect("valid"))
    };
    kinds.iter().map(build).collect()
}

/// One caller: some calls, some are left again, some are pushed. What it was told well of is returned.
async fn caller(batcher: Ours, kind: &'static str, first: u64, count: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(first);
    let mut well = 0;
    for item in first..first + count {
        let levels = u8::from(matches!(kind, "shed" | "all"));
        let with = batcher.with(CallOptions::new().level(rng.u8(0..=levels)));
        let told = match rng.u32(0..10) {
            0 => {
                let _full = with.try_push(item);
                continue;
            }
            1 => {
                let _closed = with.push(item).await;
                continue;
            }
            2 => match with.submit(item) {
                Ok(receipt) => {
                    yield_now().await;
                    drop(receipt);
                    continue;
                }
                Err(_) => continue,
            },
            3 => {
                let _left = tokio::time::timeout(Duration::from_micros(rng.u64(0..300)), with.call(item)).await;
                continue;
            }
            4 => {
                let all = with.call_all([item, item, item]).await;
                assert_eq!(all.len(), 3);
                all.into_iter().next().expect("three")
            }
            _ => with.call(item).await,
        };
        match told {
            // Shared by a key of its own making, the reply is that of the item which ran.
            Ok(reply) if kind == "shared" => {
                assert!((reply - 7) / 10 / 4 == item / 4);
                well += 1;
            }
            Ok(reply) => {
                assert_eq!(reply, answer(item), "{kind}");
                well += 1;
            }
            Err(BatchError::Handler(error)) => {
                assert!(kind == "shared" || error == format!("not {item}"), "{kind}: {error}");
            }
            Err(_) => {}
        }
    }
    well
}

#[test]
fn every_caller_gets_its_own_reply_and_the_counts_add_up() {
    const CALLERS: u64 = 50;
    for workers in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build()
            .expect("a runtime");
        for (kind, moody, batcher) in batchers() {
            let count = items() / CALLERS;
            let well = runtime.block_on(async {
                let mut callers = JoinSet::new();
                for number in 0..CALLERS {
                    callers.spawn(caller(batcher.clone(), kind, number * count, count));
                }
                let all = tokio::time::timeout(Duration::from_secs(600), callers.join_all());
                let well: u64 =
                    all.await.unwrap_or_else(|_| panic!("{kind} hangs: {:?}", batcher.stats())).into_iter().sum();
                let report = batcher.shutdown(Duration::from_secs(30)).await;
                assert!(report.drained, "{kind}: {report:?}");
                assert!(report.stats.is_balanced(), "{kind}: {report:?}");
                assert_eq!(report.stats.queued + report.stats.in_flight, 0, "{kind}");
                let unclaimed = report.stats.unclaimed;
                assert_eq!(unclaimed, 0, "{kind}: all that fails without a caller goes to the sink");
                well
            });
            let stats = batcher.stats();
            assert!(well <= stats.succeeded && well > 0, "{kind}: {well} of {stats:?}");
            if !matches!(kind, "shared" | "all") {
                assert_eq!(moody.answered.load(Ordering::Relaxed), stats.succeeded, "{kind}");
            }
        }
    }
}
