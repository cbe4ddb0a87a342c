//! Everything at once, on several threads: every caller gets its own reply, and the counts add up. `ITEMS` says how many items (a million is
//! the full count).

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use support::answer;
use swarm_batcher::{Batch, BatchError, BatchHandler, Batcher, CallOptions, OnFull, Policy, RetryPolicy};
use tokio::task::{JoinSet, yield_now};

type Ours = Batcher<u64, u64, String>;

/// Waits now and then, fails now and then, and counts what it answered.
#[derive(Clone, Default)]
struct Moody {
    answered: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
    /// Its calls need no runtime to wait in.
    needs_none: bool,
}

impl Moody {
    /// What the mood of a call is drawn from: the same in every run.
    fn mood(&self) -> Rng {
        Rng::with_seed(self.calls.fetch_add(1, Ordering::Relaxed))
    }
}

fn panic() -> ! {
    std::panic::resume_unwind(Box::new("moody"))
}

impl BatchHandler<u64> for Moody {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        let mut mood = self.mood();
        match mood.u32(0..16) {
            0 if !self.needs_none => tokio::time::sleep(Duration::from_micros(10)).await,
            0..6 => yield_now().await,
            6 => panic(),
            7 => return,
            _ => {}
        }
        let panics_at = if mood.u32(0..16) == 0 { mood.usize(0..batch.len()) } else { usize::MAX };
        for (place, slot) in batch.iter_mut().enumerate() {
            if place == panics_at {
                panic();
            }
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

const KINDS: [&str; 12] = [
    "natural",
    "in-flight",
    "linger",
    "keys",
    "shared",
    "shed",
    "shed-keys-linger",
    "shared-deadlines",
    "deadlines",
    "retries",
    "adaptive",
    "all",
];

/// Kinds in which calls share what is not equal, so that a reply may be that of another item.
fn is_shared(kind: &str) -> bool {
    kind.starts_with("shared")
}

fn batchers(needs_none: bool) -> Vec<(&'static str, Moody, Ours)> {
    let build = |&kind: &&'static str| {
        let moody = Moody { needs_none, ..Moody::default() };
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
            "shared-deadlines" => builder
                .coalesce_by(|item| item / 4 * 4 + item % 2)
                .default_deadline(Duration::from_micros(200))
                .policy(linger)
                .max_in_flight(2),
            "deadlines" => builder.default_deadline(Duration::from_micros(100)).priority_levels(2),
            "shed-keys-linger" => builder
                .on_full(OnFull::ShedOldest)
                .max_queue_items(24)
                .key_by(|item| item % 5)
                .policy(linger)
                .priority_levels(2)
                .max_in_flight(2),
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
    KINDS.iter().map(build).collect()
}

/// Whether a caller was told well of its item, which has to be its own.
fn is_well(kind: &str, item: u64, told: Result<u64, BatchError<String>>) -> bool {
    match told {
        // Shared by a key of its own making, the reply is that of the item which ran.
        Ok(reply) if is_shared(kind) => assert_eq!((reply - 7) / 10 / 4, item / 4, "{kind}"),
        Ok(reply) => assert_eq!(reply, answer(item), "{kind}"),
        Err(BatchError::Handler(error)) => {
            assert!(is_shared(kind) || error == format!("not {item}"), "{kind}: {error}");
            return false;
        }
        Err(_) => return false,
    }
    true
}

/// One caller: some calls, some are left again, some are pushed. What it was told well of is returned.
async fn caller(batcher: Ours, kind: &'static str, first: u64, count: u64) -> u64 {
    let mut rng = Rng::with_seed(first);
    let mut well = 0;
    for item in first..first + count {
        let levels = u8::from(matches!(kind, "shed" | "shed-keys-linger" | "deadlines" | "all"));
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
        well += u64::from(is_well(kind, item, told));
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
        for (kind, moody, batcher) in batchers(false) {
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
            if !is_shared(kind) && kind != "all" {
                assert_eq!(moody.answered.load(Ordering::Relaxed), stats.succeeded, "{kind}");
            }
        }
    }
}

/// Threads without a runtime call, and the runtime that ran their batches goes away: whoever waits is answered, and another runtime's
/// callers find a batcher that works.
#[test]
fn a_runtime_that_is_dropped_in_mid_run_leaves_nobody_waiting() {
    const ROUNDS: u64 = 4;
    const THREADS: u64 = 4;
    let count = items() / ROUNDS / THREADS / KINDS.len() as u64;
    for round in 0..ROUNDS {
        let home =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let batchers = {
            let _inside = home.enter();
            batchers(true)
        };
        let called = Arc::new(AtomicU64::new(0));
        let (done, ended) = std::sync::mpsc::channel();
        for thread in 0..THREADS {
            let (batchers, called, done) = (batchers.clone(), Arc::clone(&called), done.clone());
            std::thread::spawn(move || {
                let mut rng = Rng::with_seed(round * THREADS + thread);
                for item in thread * count..(thread + 1) * count {
                    called.fetch_add(1, Ordering::Relaxed);
                    for (kind, _, batcher) in &batchers {
                        match rng.u32(0..4) {
                            0 => drop(batcher.try_push(item)),
                            1 => drop(batcher.submit(item)),
                            _ => drop(is_well(kind, item, futures::executor::block_on(batcher.call(item)))),
                        }
                    }
                }
                done.send(()).expect("the test waits");
            });
        }
        // At another point of the work in each round, by what was done and not by the clock.
        while called.load(Ordering::Relaxed) < THREADS * count * (1 + 2 * round) / (2 * ROUNDS) {
            std::thread::yield_now();
        }
        drop(home);
        for _ in 0..THREADS {
            let stats: Vec<_> = batchers.iter().map(|(kind, _, batcher)| (kind, batcher.stats())).collect();
            ended.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|_| panic!("somebody waits: {stats:?}"));
        }
        let other = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        other.block_on(async {
            for (kind, _, batcher) in batchers {
                let tries = async {
                    // A moody handler needs some.
                    while batcher.call(2).await.is_err() {}
                };
                tokio::time::timeout(Duration::from_secs(60), tries).await.unwrap_or_else(|_| panic!("{kind} hangs"));
                let report = batcher.shutdown(Duration::from_secs(30)).await;
                assert!(report.drained && report.stats.is_balanced(), "{kind}: {report:?}");
                assert_eq!(report.stats.queued + report.stats.in_flight, 0, "{kind}");
            }
        });
    }
}
