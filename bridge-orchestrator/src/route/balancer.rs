//! Power of two choices over what endpoints cost.

use std::fmt;
use std::ops::Deref;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::RouteError;
use super::ewma::PeakEwma;
use crate::sync::{AtomicU32, Ordering};
use crate::time::nanos_since;

/// Spreads calls over endpoints: of two drawn at random, the one that costs less gets the call.
///
/// What an endpoint costs is its latency as a peak-sensitive moving average, times the calls that are under way there and one. With two
/// choices the most loaded of `n` endpoints is above the average by `ln ln n / ln 2 + O(1)`, where one choice gives `ln n / ln ln n`
/// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
///
/// The set of endpoints is fixed: who has a changed one builds another balancer.
///
/// # Cost
/// A pick reads two endpoints and changes one atomic number of the winner; it takes no lock and allocates nothing. An endpoint takes
/// 128 bytes above `E`, so that no two share a cache line.
pub struct Balancer<E> {
    endpoints: Box<[Endpoint<E>]>,
    epoch: Instant,
    /// 1 / decay, in 1 / ns.
    rate: f32,
    penalty: f32,
}

struct Endpoint<E> {
    load: CachePadded<Load>,
    value: E,
}

struct Load {
    cost: PeakEwma,
    pending: AtomicU32,
}

impl Load {
    /// Nanoseconds of waiting that a call would add itself to.
    #[inline]
    fn now(&self, now: u64, rate: f32) -> f32 {
        // A cost that has decayed to nothing would hide the calls under way.
        self.cost.cost(now, rate).max(1.0) * (self.pending.load(Ordering::Relaxed) as f32 + 1.0)
    }
}

/// What a [`Balancer`] assumes and forgets.
#[derive(Debug, Clone)]
pub struct BalancerBuilder {
    initial: Duration,
    decay: Duration,
    penalty: Duration,
}

impl Default for BalancerBuilder {
    fn default() -> Self {
        Self { initial: Duration::from_millis(30), decay: Duration::from_secs(10), penalty: Duration::from_secs(1) }
    }
}

impl BalancerBuilder {
    /// The latency that an endpoint is thought to have before its first answer: 30 ms unless set.
    #[must_use]
    pub fn initial(mut self, latency: Duration) -> Self {
        self.initial = latency;
        self
    }

    /// The time in which what is known loses all but 1/e of its weight: 10 s unless set, at least 1 ms.
    #[must_use]
    pub fn decay(mut self, decay: Duration) -> Self {
        self.decay = decay;
        self
    }

    /// The least latency that a failed call counts as, so that an endpoint that fails quickly does not look fast: 1 s unless set.
    #[must_use]
    pub fn penalty(mut self, latency: Duration) -> Self {
        self.penalty = latency;
        self
    }

    /// A balancer over these endpoints.
    ///
    /// # Errors
    /// [`RouteError::Endpoints`] for none or too many, [`RouteError::OutOfRange`] for a decay below a millisecond.
    pub fn build<E>(self, endpoints: impl IntoIterator<Item = E>) -> Result<Balancer<E>, RouteError> {
        if self.decay < Duration::from_millis(1) {
            return Err(RouteError::out_of_range("decay", self.decay, "at least 1 ms"));
        }
        let endpoint = |value| {
            let load = Load { cost: PeakEwma::new(self.initial), pending: AtomicU32::new(0) };
            Endpoint { load: CachePadded::new(load), value }
        };
        let endpoints: Box<[_]> = endpoints.into_iter().map(endpoint).collect();
        if endpoints.is_empty() || u32::try_from(endpoints.len()).is_err() {
            return Err(RouteError::Endpoints { found: endpoints.len() });
        }
        Ok(Balancer {
            endpoints,
            epoch: Instant::now(),
            rate: 1.0 / self.decay.as_nanos() as f32,
            penalty: self.penalty.as_nanos() as f32,
        })
    }
}

impl Balancer<()> {
    /// Options before the endpoints, which may be of any type.
    #[must_use]
    pub fn builder() -> BalancerBuilder {
        BalancerBuilder::default()
    }
}

impl<E> Balancer<E> {
    /// A balancer with the options of [`BalancerBuilder::default`].
    ///
    /// # Errors
    /// [`RouteError::Endpoints`] if there is none.
    pub fn new(endpoints: impl IntoIterator<Item = E>) -> Result<Self, RouteError> {
        BalancerBuilder::default().build(endpoints)
    }

    /// The endpoint for the next call, which counts as under way until the guard is told how it ended.
    #[inline]
    pub fn pick(&self, now: Instant) -> Guard<'_, E> {
        let ((one, other), now) = (self.draw(), self.nanos(now));
        self.guard(self.cheaper(one, other, now), now)
    }

    /// The same among the endpoints that `allowed` lets through, such as those whose breaker is closed; `None` if it lets none.
    ///
    /// Two are drawn among all. If just one of them is allowed it gets the call; if neither is, the others are asked one after the other
    /// from a random one on, and the first two that are allowed are compared.
    #[inline]
    pub fn pick_where(&self, now: Instant, mut allowed: impl FnMut(&E) -> bool) -> Option<Guard<'_, E>> {
        let ((one, other), now) = (self.draw(), self.nanos(now));
        let chosen = match (allowed(&self.endpoints[one].value), allowed(&self.endpoints[other].value)) {
            (true, true) => self.cheaper(one, other, now),
            (true, false) => one,
            (false, true) => other,
            (false, false) => {
                let all = self.endpoints.len();
                let mut rest = (0..all)
                    .map(|step| (one + step) % all)
                    .filter(|&at| at != one && at != other && allowed(&self.endpoints[at].value));
                let first = rest.next()?;
                rest.next().map_or(first, |second| self.cheaper(first, second, now))
            }
        };
        Some(self.guard(chosen, now))
    }

    /// The endpoints in the order in which they were given, each with what a call there is expected to take now and the calls that are
    /// under way.
    pub fn loads(&self, now: Instant) -> impl Iterator<Item = (&E, Duration, u32)> {
        let now = self.nanos(now);
        self.endpoints.iter().map(move |endpoint| {
            let cost = endpoint.load.cost.cost(now, self.rate);
            (&endpoint.value, Duration::from_nanos(cost as u64), endpoint.load.pending.load(Ordering::Relaxed))
        })
    }

    /// Two different endpoints by one random word, or the only one twice.
    #[inline]
    fn draw(&self) -> (usize, usize) {
        let all = self.endpoints.len() as u64;
        let random = fastrand::u64(..);
        // A multiplication maps 32 random bits to a range (Lemire, "Fast Random Integer Generation in an Interval", 2019).
        let one = ((random & u64::from(u32::MAX)) * all) >> 32;
        let other = ((random >> 32) * (all - 1)) >> 32;
        let other = if all > 1 && other >= one { other + 1 } else { other };
        (one as usize, other as usize)
    }

    #[inline]
    fn cheaper(&self, one: usize, other: usize, now: u64) -> usize {
        let load = |at: usize| self.endpoints[at].load.now(now, self.rate);
        if load(other) < load(one) { other } else { one }
    }

    #[inline]
    fn guard(&self, at: usize, now: u64) -> Guard<'_, E> {
        let endpoint = &self.endpoints[at];
        endpoint.load.pending.fetch_add(1, Ordering::Relaxed);
        Guard { balancer: self, endpoint, since: now, told: false }
    }

    /// Nanoseconds since this balancer was built; none before.
    #[inline]
    fn nanos(&self, now: Instant) -> u64 {
        nanos_since(self.epoch, now)
    }
}

/// An endpoint that was picked for a call.
///
/// # Cancellation
/// Dropping the guard says that the call was given up: the clock is then read, and the endpoint costs at least the time that it has
/// taken so far, so that one which never answers is found out even where callers time out and drop the call.
#[must_use = "the call counts as under way until the guard is told how it ended"]
pub struct Guard<'a, E> {
    balancer: &'a Balancer<E>,
    endpoint: &'a Endpoint<E>,
    /// Nanoseconds as the balancer counts them.
    since: u64,
    told: bool,
}

impl<E> Guard<'_, E> {
    /// The call was answered.
    #[inline]
    pub fn succeeded(mut self, now: Instant) {
        self.told = true;
        let now = self.balancer.nanos(now);
        self.endpoint.load.cost.observe(self.latency(now), now, self.balancer.rate);
    }

    /// The call failed: its latency counts as the penalty at least.
    #[inline]
    pub fn failed(mut self, now: Instant) {
        self.told = true;
        let now = self.balancer.nanos(now);
        self.endpoint.load.cost.observe(self.latency(now).max(self.balancer.penalty), now, self.balancer.rate);
    }

    fn latency(&self, now: u64) -> f32 {
        now.saturating_sub(self.since) as f32
    }
}

impl<E> Deref for Guard<'_, E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.endpoint.value
    }
}

impl<E> Drop for Guard<'_, E> {
    #[inline]
    fn drop(&mut self) {
        self.endpoint.load.pending.fetch_sub(1, Ordering::Relaxed);
        if !self.told {
            let now = self.balancer.nanos(Instant::now());
            self.endpoint.load.cost.observe_at_least(self.latency(now), now, self.balancer.rate);
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for Balancer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.loads(Instant::now())).finish()
    }
}

impl<E: fmt::Debug> fmt::Debug for Guard<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("endpoint", &self.endpoint.value).finish_non_exhaustive()
    }
}
