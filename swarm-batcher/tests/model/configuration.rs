//! Batchers of random options.

use std::time::Duration;

use fastrand::Rng;
use swarm_batcher::{BatchHandler, Batcher, BatcherBuilder, DeadLetter, Executor, OnFull, Policy, RetryPolicy};

/// A linger that nothing outlasts.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// What a batcher is built with.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) max_batch: usize,
    pub(crate) max_weight: Option<u32>,
    pub(crate) max_in_flight: usize,
    pub(crate) max_items: usize,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) on_full: OnFull,
    pub(crate) policy: Policy,
    pub(crate) levels: u8,
    pub(crate) keys: u64,
    pub(crate) shares: Option<u64>,
    pub(crate) retry: Option<Retry>,
    pub(crate) bisect: bool,
    executor: Executor,
    pub(crate) default_deadline: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Retry {
    pub(crate) retries: u32,
    pub(crate) budget: f64,
    pub(crate) faults: bool,
    pub(crate) backoff: Duration,
}

/// Something of an item's that has nothing to do with its number, below `bound`.
fn trait_of(item: u64, which: u64, bound: u64) -> u64 {
    (item.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ which.wrapping_mul(0xD1B5_4A32_D192_ED03)).rotate_left(23) % bound
}

pub(crate) fn weight_of(item: u64) -> u32 {
    1 + trait_of(item, 1, 4) as u32
}

pub(crate) fn bytes_of(item: u64) -> u32 {
    trait_of(item, 2, 8) as u32
}

/// Whether the handler's error for an item may be retried.
pub(crate) fn is_retryable(error: &str) -> bool {
    !error.ends_with(['0', '5'])
}

impl Configuration {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let max_batch = rng.usize(1..=4);
        let short = Duration::from_micros(rng.u64(10..=60));
        let sizes: Vec<usize> = (1..=max_batch).filter(|&size| size == max_batch || rng.bool()).collect();
        let policy = match rng.u32(0..16) {
            0..7 => Policy::Natural,
            7..10 => Policy::Linger(FOR_EVER),
            10 => Policy::Linger(short),
            11..14 => Policy::preferred(&sizes, FOR_EVER),
            14 => Policy::preferred(&sizes, Duration::ZERO),
            _ => Policy::Adaptive { target_p99: Duration::from_millis(1) },
        };
        let retry = Retry {
            retries: rng.u32(1..=3),
            budget: [0.0, 0.5, f64::INFINITY][rng.usize(0..3)],
            faults: rng.bool(),
            backoff: if rng.u32(0..4) == 0 { Duration::from_micros(30) } else { Duration::ZERO },
        };
        Self {
            max_batch,
            max_weight: rng.bool().then(|| rng.u32(3..=8)),
            max_in_flight: rng.usize(1..=3),
            max_items: if rng.bool() { rng.usize(1..=10) } else { 1_000 },
            max_bytes: (rng.u32(0..3) == 0).then(|| rng.u64(1..=24)),
            on_full: [OnFull::Wait, OnFull::Reject, OnFull::ShedOldest][rng.usize(0..3)],
            policy,
            levels: rng.u8(1..=3),
            keys: if rng.bool() { rng.u64(2..=4) } else { 1 },
            shares: (rng.u32(0..3) == 0).then(|| rng.u64(1..=6)),
            retry: rng.bool().then_some(retry),
            bisect: rng.u32(0..3) == 0,
            executor: if rng.bool() { Executor::Inline } else { Executor::Spawn },
            default_deadline: (rng.u32(0..24) == 0).then_some(short),
        }
    }

    pub(crate) fn key_of(&self, item: u64) -> u64 {
        trait_of(item, 3, self.keys)
    }

    /// The key by which it is shared.
    pub(crate) fn share_of(&self, item: u64) -> Option<u64> {
        self.shares.map(|shares| trait_of(item, 4, shares))
    }

    /// How many items need not linger, and how long fewer do.
    pub(crate) fn patience(&self) -> (usize, Duration) {
        match &self.policy {
            Policy::Linger(linger) => (self.max_batch, *linger),
            Policy::Preferred { sizes, linger } if !linger.is_zero() => (sizes[0], *linger),
            _ => (1, Duration::ZERO),
        }
    }

    /// Whether items may linger for longer than a sequence takes.
    pub(crate) fn lingers_for_ever(&self) -> bool {
        self.patience().1 == FOR_EVER
    }

    pub(crate) fn build<H>(
        &self,
        handler: H,
        sink: impl Fn(DeadLetter<u64, String>) + Send + Sync + 'static,
    ) -> Batcher<u64, u64, String>
    where
        H: BatchHandler<u64, Output = u64, Error = String>,
    {
        let mut builder: BatcherBuilder<u64, u64, String> = Batcher::builder(handler)
            .max_batch_items(self.max_batch)
            .max_in_flight(self.max_in_flight)
            .max_queue_items(self.max_items)
            .on_full(self.on_full)
            .policy(self.policy.clone())
            .priority_levels(self.levels)
            .bisect(self.bisect)
            .executor(self.executor)
            .dead_letter(sink);
        if let Some(weight) = self.max_weight {
            builder = builder.max_batch_weight(weight, |&item| weight_of(item));
        }
        if let Some(bytes) = self.max_bytes {
            builder = builder.max_queue_bytes(bytes, |&item| bytes_of(item));
        }
        if self.keys > 1 {
            let keys = self.clone();
            builder = builder.key_by(move |&item| keys.key_of(item));
        }
        if self.shares.is_some() {
            let shares = self.clone();
            builder = builder.coalesce_by(move |&item| shares.share_of(item));
        }
        if let Some(Retry { retries, budget, faults, backoff }) = self.retry {
            let retry = RetryPolicy::new(retries, |error: &String| is_retryable(error)).budget(budget);
            let retry = retry.backoff(backoff, backoff);
            builder = builder.retry(if faults { retry.also_faults() } else { retry });
        }
        if let Some(deadline) = self.default_deadline {
            builder = builder.default_deadline(deadline);
        }
        builder.build().expect("every value is in its range")
    }
}
