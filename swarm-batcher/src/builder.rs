//! What can be chosen.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batcher::Batcher;
use crate::breaker::{BreakerPolicy, Counts};
use crate::dead_letter::{DeadLetter, Sink};
use crate::engine::{Start, Typed};
use crate::handler::BatchHandler;
use crate::key::{KeyOf, key_of};
use crate::options::{Measure, Options, Share};
use crate::policy::{Executor, OnFull, Policy};
use crate::retry::RetryPolicy;
use crate::runner::Runner;
use crate::shared::{Shared, Spawn};

/// Builds a [`Batcher`]. Every option has a default; a bad value is an error of [`BatcherBuilder::build`].
pub struct BatcherBuilder<I, O, E> {
    handler: Box<dyn Start<I, O, E>>,
    max_batch_items: usize,
    weight: Option<(u32, Measure<I>)>,
    max_queue_items: usize,
    bytes: Option<(u64, Measure<I>)>,
    on_full: OnFull,
    policy: Policy,
    levels: u8,
    max_in_flight: Option<usize>,
    executor: Executor,
    default_deadline: Option<Duration>,
    retry: Option<RetryPolicy<E>>,
    bisect: bool,
    breaker: Option<BreakerPolicy>,
    breaker_counts: Option<Counts<E>>,
    dead_letter: Option<Sink<I, E>>,
    key_by: Option<Box<dyn KeyOf<I>>>,
    share: Option<Share<I, O, E>>,
}

impl<I, O, E> fmt::Debug for BatcherBuilder<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatcherBuilder")
            .field("max_batch_items", &self.max_batch_items)
            .field("max_queue_items", &self.max_queue_items)
            .field("on_full", &self.on_full)
            .field("policy", &self.policy)
            .field("priority_levels", &self.levels)
            .field("max_in_flight", &self.max_in_flight)
            .field("executor", &self.executor)
            .field("default_deadline", &self.default_deadline)
            .field("retry", &self.retry)
            .field("bisect", &self.bisect)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}

/// A value that makes no batcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
#[non_exhaustive]
pub struct BuildError {
    /// The option, and what it may be.
    pub problem: &'static str,
}

const HOUR: Duration = Duration::from_secs(3600);
/// In flight at most, where the policy chooses how many and nothing else was said.
const ADAPTIVE_IN_FLIGHT: usize = 16;

impl<I: Send + 'static, O: Send + 'static, E: Send + 'static> BatcherBuilder<I, O, E> {
    pub(crate) fn new<H: BatchHandler<I, Output = O, Error = E>>(handler: H) -> Self {
        Self {
            handler: Box::new(Typed::new(handler)),
            max_batch_items: 100,
            weight: None,
            max_queue_items: 1 << 16,
            bytes: None,
            on_full: OnFull::default(),
            policy: Policy::default(),
            levels: 1,
            max_in_flight: None,
            executor: Executor::default(),
            default_deadline: None,
            retry: None,
            bisect: false,
            breaker: None,
            breaker_counts: None,
            dead_letter: None,
            key_by: None,
            share: None,
        }
    }

    /// Items of a batch at most, from 1 to 2^24. Default 100.
    #[must_use]
    pub fn max_batch_items(mut self, items: usize) -> Self {
        self.max_batch_items = items;
        self
    }

    /// Weight of a batch at most, at least 1, where an item weighs what `weigh` says: bytes, tokens, rows. A heavier item is rejected
    /// ([`Reason::TooHeavy`](crate::Reason::TooHeavy)). Default: no limit.
    #[must_use]
    pub fn max_batch_weight(mut self, weight: u32, weigh: impl Fn(&I) -> u32 + Send + Sync + 'static) -> Self {
        self.weight = Some((weight, Box::new(weigh)));
        self
    }

    /// Items that are held at most, queued and running, from 1 to 2^30. Who waits for room comes on top, as a future each. Default 65,536.
    #[must_use]
    pub fn max_queue_items(mut self, items: usize) -> Self {
        self.max_queue_items = items;
        self
    }

    /// Bytes that are held at most, queued and running, at least 1, where an item has as many as `size` says. A larger item is taken when
    /// nothing else is held. Default: no limit.
    #[must_use]
    pub fn max_queue_bytes(mut self, bytes: u64, size: impl Fn(&I) -> u32 + Send + Sync + 'static) -> Self {
        self.bytes = Some((bytes, Box::new(size)));
        self
    }

    /// What is done when one of these bounds is reached. Default [`OnFull::Wait`].
    #[must_use]
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.on_full = on_full;
        self
    }

    /// When a batch may leave. Default [`Policy::Natural`].
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Priority levels, from 1 to 16. Default 1.
    #[must_use]
    pub fn priority_levels(mut self, levels: u8) -> Self {
        self.levels = levels;
        self
    }

    /// Batches that run at once at most, from 1 to 4,096. Default 1, which keeps the batches in order; with
    /// [`Policy::Adaptive`], which chooses up to this many, 16. So many tasks are there at most, and one more.
    #[must_use]
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.max_in_flight = Some(batches);
        self
    }

    /// Who polls the handler first. Default [`Executor::Inline`].
    #[must_use]
    pub fn executor(mut self, executor: Executor) -> Self {
        self.executor = executor;
        self
    }

    /// How long an item has, from 1 us to 1 h: see [`CallOptions::deadline`](crate::CallOptions::deadline). Default: no deadline.
    #[must_use]
    pub fn default_deadline(mut self, deadline: Duration) -> Self {
        self.default_deadline = Some(deadline);
        self
    }

    /// Whether items that failed run again. Default: they do not.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy<E>) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Whether a batch in which every item failed, and whose items are still there, is halved and run again, until the items that spoil it
    /// are alone. Retries go first. As with retries, only the user knows whether a second run does harm. Default false.
    #[must_use]
    pub fn bisect(mut self, bisect: bool) -> Self {
        self.bisect = bisect;
        self
    }

    /// A circuit breaker. Default: none.
    #[must_use]
    pub fn breaker(mut self, breaker: BreakerPolicy) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Which errors of the handler's are failures to the breaker: those for which this says true. An item that fails with another one is as
    /// good as handled, since whoever refused it is there. A panic, a missing reply and a wrong number of results always are failures,
    /// and so is an error over which this panics. It is called without a lock, once an item of a batch in which every item failed.
    /// Default: all errors are.
    #[must_use]
    pub fn breaker_counts(mut self, counts: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.breaker_counts = Some(Box::new(counts));
        self
    }

    /// Takes the items that nobody waits for and that could not be handled. It is called without a lock, by whichever task found out. One
    /// that panics loses its item, which is counted. Default: such items are dropped, and counted as
    /// [`unclaimed`](crate::Stats::unclaimed).
    #[must_use]
    pub fn dead_letter(self, sink: impl Fn(DeadLetter<I, E>) + Send + Sync + 'static) -> Self {
        self.claim_dead_letters(move |letter| {
            sink(letter);
            true
        })
    }

    /// A sink that may leave letters unclaimed.
    pub(crate) fn claim_dead_letters(
        mut self,
        sink: impl Fn(DeadLetter<I, E>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.dead_letter = Some(Box::new(sink));
        self
    }

    /// Only items of equal keys share a batch. A key takes nothing while it has no items in line; those that have take turns. The function and the
    /// hash are computed without the lock; `Eq`, `Clone` and the drop of a key happen under it; a key is cloned when its first item comes.
    #[must_use]
    pub fn key_by<K, F>(mut self, key: F) -> Self
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: Fn(&I) -> K + Send + Sync + 'static,
    {
        self.key_by = Some(key_of(key));
        self
    }

    /// Calls of equal keys that wait in line together share one item: the first one's runs, the others are dropped, and each caller gets a
    /// clone of the reply. Those that share count as one for the size of a batch, and for its weight. Items that are pushed never share.
    #[must_use]
    pub fn coalesce_by<K, F>(mut self, key: F) -> Self
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: Fn(&I) -> K + Send + Sync + 'static,
        O: Clone,
        E: Clone,
    {
        self.share = Some(Share { key: key_of(key), clone: Clone::clone });
        self
    }

    fn problem(&self) -> Option<&'static str> {
        let within = |time: Duration, least: Duration| (least..=HOUR).contains(&time);
        let micro = Duration::from_micros(1);
        let bad_policy = match &self.policy {
            Policy::Natural => None,
            Policy::Linger(linger) => (!within(*linger, micro)).then_some("policy: a linger from 1 us to 1 h"),
            Policy::Preferred { sizes, linger } => {
                let rising = sizes.windows(2).all(|pair| pair[0] < pair[1]);
                let fits = sizes.first().is_some_and(|&least| least > 0) && sizes.last() <= Some(&self.max_batch_items);
                let good = rising && fits && *linger <= HOUR;
                (!good).then_some("policy: preferred sizes rise from 1 to max_batch_items, and linger for at most 1 h")
            }
            Policy::Adaptive { target_p99 } => {
                (!within(*target_p99, Duration::from_micros(10))).then_some("policy: a goal from 10 us to 1 h")
            }
        };
        let checks = [
            (!(1..=1 << 24).contains(&self.max_batch_items)).then_some("max_batch_items: from 1 to 2^24"),
            self.weight.as_ref().is_some_and(|(weight, _)| *weight == 0).then_some("max_batch_weight: at least 1"),
            (!(1..=1 << 30).contains(&self.max_queue_items)).then_some("max_queue_items: from 1 to 2^30"),
            self.bytes.as_ref().is_some_and(|(bytes, _)| *bytes == 0).then_some("max_queue_bytes: at least 1"),
            (!(1..=16).contains(&self.levels)).then_some("priority_levels: from 1 to 16"),
            (!(1..=4096).contains(&self.max_in_flight.unwrap_or(1))).then_some("max_in_flight: from 1 to 4096"),
            self.default_deadline
                .is_some_and(|deadline| !within(deadline, micro))
                .then_some("default_deadline: from 1 us to 1 h"),
            self.retry.as_ref().and_then(RetryPolicy::problem),
            self.breaker
                .is_some_and(|breaker| breaker.failures == 0 || !within(breaker.reset, micro))
                .then_some("breaker: at least one failure, a reset from 1 us to 1 h"),
            bad_policy,
        ];
        checks.into_iter().flatten().next()
    }

    /// The batcher. It starts no task before there is something to do.
    ///
    /// # Errors
    /// [`BuildError`] for the first value that is out of its range.
    pub fn build(self) -> Result<Batcher<I, O, E>, BuildError> {
        self.build_on(Runner::spawn)
    }

    /// The batcher, whose runners are spawned by `spawn`.
    pub(crate) fn build_on(self, spawn: Spawn<I, O, E>) -> Result<Batcher<I, O, E>, BuildError> {
        if let Some(problem) = self.problem() {
            return Err(BuildError { problem });
        }
        let adaptive = matches!(self.policy, Policy::Adaptive { .. });
        let (seal_at, linger) = match &self.policy {
            Policy::Linger(linger) => (self.max_batch_items, *linger),
            Policy::Preferred { sizes, linger } if !linger.is_zero() => (sizes[0], *linger),
            _ => (1, Duration::ZERO),
        };
        let (max_weight, weigh) = self.weight.map_or((u32::MAX, None), |(weight, weigh)| (weight, Some(weigh)));
        let (max_bytes, size) = self.bytes.map_or((u64::MAX, None), |(bytes, size)| (bytes, Some(size)));
        let max_in_flight = self.max_in_flight.unwrap_or(if adaptive { ADAPTIVE_IN_FLIGHT } else { 1 });
        let counts_outcomes = adaptive || self.retry.is_some() || self.breaker.is_some() || self.share.is_some();
        let one_line = self.key_by.is_none() && self.share.is_none() && self.levels == 1;
        let plain = one_line && weigh.is_none() && size.is_none() && self.breaker.is_none();
        let options = Options {
            max_batch_items: self.max_batch_items,
            max_weight,
            weigh,
            max_items: self.max_queue_items,
            max_bytes,
            size,
            on_full: self.on_full,
            policy: self.policy,
            seal_at,
            linger: linger.as_nanos() as u64,
            levels: self.levels,
            max_in_flight,
            inline: self.executor == Executor::Inline,
            default_deadline: self.default_deadline.map(|deadline| deadline.as_nanos() as u64),
            retry: self.retry,
            bisect: self.bisect,
            breaker: self.breaker,
            breaker_counts: self.breaker_counts,
            dead_letter: self.dead_letter,
            key_by: self.key_by,
            share: self.share,
            clock: Instant::now(),
            plain,
            counts_outcomes,
            timed: adaptive,
        };
        Ok(Batcher::new(Arc::new(Shared::new(options, self.handler, spawn))))
    }
}
