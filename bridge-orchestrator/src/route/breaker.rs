//! The circuit breaker: one atomic word.

use std::fmt;
use std::time::{Duration, Instant};

use super::RouteError;
use crate::sync::{AtomicU64, Ordering};

/// Leaves a service alone while it fails.
///
/// *Closed*, it lets every call through and keeps the last outcomes; as soon as there are too many failures among them it *opens*, and
/// refuses calls for a while. Then it is *half-open*: a fixed number of calls are let through as probes. When all have succeeded it
/// closes with a clean record; the first that fails opens it again. (Nygard, "Release It!", 2007.)
///
/// # Consistency
/// State, outcomes and probes are one atomic word, so all threads see them change together: half-open, there are never more than the
/// given number of probes, and an outcome of a call that was let through before the breaker last changed its state changes nothing.
///
/// # Cost
/// A permit is one atomic load. A success is one more as long as no failure is among the last outcomes, and an atomic exchange otherwise:
/// threads that call a healthy service share the word without writing to it. Nothing is allocated.
pub struct CircuitBreaker {
    word: AtomicU64,
    epoch: Instant,
    /// The ring's bits.
    window: u64,
    failures: u32,
    reset: Duration,
    probes: u16,
}

// The word: state (2 bits), number of the state (14 bits), and 48 bits that mean
//   closed      the last outcomes, the newest in the lowest bit, 1 for a failure
//   open        milliseconds since the epoch at which it opened
//   half-open   probes that were let through (16 bits above) and probes that have succeeded (16 bits)
const BODY_BITS: u32 = 48;
const BODY: u64 = (1 << BODY_BITS) - 1;
const NUMBER_BITS: u32 = 14;
const NUMBER: u64 = (1 << NUMBER_BITS) - 1;
const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn state(self) -> u64 {
        self.0 >> (BODY_BITS + NUMBER_BITS)
    }

    fn number(self) -> u64 {
        self.0 >> BODY_BITS & NUMBER
    }

    fn body(self) -> u64 {
        self.0 & BODY
    }

    fn with_body(self, body: u64) -> Self {
        Self(self.0 & !BODY | body & BODY)
    }

    /// The state that follows, with the next number.
    fn then(self, state: u64, body: u64) -> Self {
        Self(state << (BODY_BITS + NUMBER_BITS) | ((self.number() + 1) & NUMBER) << BODY_BITS | body & BODY)
    }

    fn admitted(self) -> u64 {
        self.body() >> 16
    }

    fn succeeded(self) -> u64 {
        self.body() & 0xffff
    }
}

fn probes(admitted: u64, succeeded: u64) -> u64 {
    admitted << 16 | succeeded
}

/// What a [`CircuitBreaker`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// Lets every call through.
    Closed {
        /// Failures among the last outcomes.
        failures: u32,
    },
    /// Refuses calls. It stays open past its time until a call comes, which is then a probe.
    Open,
    /// Lets probes through.
    HalfOpen {
        /// Probes that are under way or have succeeded.
        admitted: u16,
        /// Probes that have succeeded.
        succeeded: u16,
    },
}

/// The breaker does not let the call through. Nothing was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open; the next probe is due in {retry_in:?}")]
pub struct Refused {
    /// When it is worth asking again: zero while it is half-open and all probes are under way.
    pub retry_in: Duration,
}

/// When a [`CircuitBreaker`] opens and for how long.
#[derive(Debug, Clone)]
pub struct BreakerBuilder {
    window: u32,
    failures: u32,
    reset: Duration,
    probes: u16,
}

impl Default for BreakerBuilder {
    fn default() -> Self {
        Self { window: 48, failures: 5, reset: Duration::from_secs(60), probes: 3 }
    }
}

impl BreakerBuilder {
    /// How many of the last outcomes are kept: 48 unless set, 1 to 48.
    #[must_use]
    pub fn window(mut self, outcomes: u32) -> Self {
        self.window = outcomes;
        self
    }

    /// How many failures among them open it: 5 unless set, 1 to the window.
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// How long it stays open: 60 s unless set, 1 ms to a year, in whole milliseconds.
    #[must_use]
    pub fn reset_after(mut self, time: Duration) -> Self {
        self.reset = time;
        self
    }

    /// How many calls it then lets through, all of which have to succeed: 3 unless set, at least 1.
    #[must_use]
    pub fn probes(mut self, probes: u16) -> Self {
        self.probes = probes;
        self
    }

    /// A closed breaker.
    ///
    /// # Errors
    /// [`RouteError::OutOfRange`] names the option.
    pub fn build(self) -> Result<CircuitBreaker, RouteError> {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        if !(1..=BODY_BITS).contains(&self.window) {
            return Err(RouteError::out_of_range("window", self.window, "1 to 48 outcomes"));
        }
        if !(1..=self.window).contains(&self.failures) {
            return Err(RouteError::out_of_range("failures", self.failures, "1 to the window"));
        }
        if !(Duration::from_millis(1)..=YEAR).contains(&self.reset) {
            return Err(RouteError::out_of_range("reset_after", self.reset, "1 ms to a year"));
        }
        if self.probes == 0 {
            return Err(RouteError::out_of_range("probes", self.probes, "at least 1"));
        }
        Ok(CircuitBreaker {
            word: AtomicU64::new(0),
            epoch: Instant::now(),
            window: (1 << self.window) - 1,
            failures: self.failures,
            reset: self.reset,
            probes: self.probes,
        })
    }
}

impl CircuitBreaker {
    /// Opens after 5 failures among the last 48 outcomes, for 60 s, and closes after 3 probes, unless told otherwise.
    #[must_use]
    pub fn builder() -> BreakerBuilder {
        BreakerBuilder::default()
    }

    /// Asks whether a call may go out at `now`. The permit is to be told how the call ended.
    ///
    /// # Errors
    /// [`Refused`] while it is open, and half-open when all probes have been let through.
    #[inline]
    pub fn permit(&self, now: Instant) -> Result<Permit<'_>, Refused> {
        self.permit_by(|| now)
    }

    /// The same for a caller that has not read the clock: it is read only if the breaker is not closed, for example by `Instant::now`.
    ///
    /// # Errors
    /// As [`CircuitBreaker::permit`].
    #[inline]
    pub fn permit_by(&self, clock: impl FnOnce() -> Instant) -> Result<Permit<'_>, Refused> {
        let word = self.load();
        if word.state() == CLOSED { Ok(self.admit(word)) } else { self.probe(word, clock()) }
    }

    /// What it does at this moment.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        let word = self.load();
        match word.state() {
            CLOSED => BreakerState::Closed { failures: word.body().count_ones() },
            OPEN => BreakerState::Open,
            _ => BreakerState::HalfOpen { admitted: word.admitted() as u16, succeeded: word.succeeded() as u16 },
        }
    }

    fn probe(&self, mut word: Word, now: Instant) -> Result<Permit<'_>, Refused> {
        loop {
            let next = match word.state() {
                CLOSED => return Ok(self.admit(word)),
                OPEN => {
                    let until = Duration::from_millis(word.body()) + self.reset;
                    let passed = now.saturating_duration_since(self.epoch);
                    if passed < until {
                        return Err(Refused { retry_in: until - passed });
                    }
                    word.then(HALF_OPEN, probes(1, 0))
                }
                _ if word.admitted() < u64::from(self.probes) => {
                    word.with_body(probes(word.admitted() + 1, word.succeeded()))
                }
                _ => return Err(Refused { retry_in: Duration::ZERO }),
            };
            match self.exchange(word, next) {
                Ok(()) => return Ok(self.admit(next)),
                Err(found) => word = found,
            }
        }
    }

    fn admit(&self, word: Word) -> Permit<'_> {
        Permit { breaker: self, admitted: word, told: false }
    }

    /// Changes the word by `next` unless the state is no longer the one in which the call was let through, or nothing would change.
    #[inline]
    fn tell(&self, admitted: Word, next: impl Fn(Word) -> Word) {
        let mut word = self.load();
        while word.number() == admitted.number() {
            let next = next(word);
            if next == word {
                return;
            }
            match self.exchange(word, next) {
                Ok(()) => return,
                Err(found) => word = found,
            }
        }
    }

    #[inline]
    fn succeeded(&self, word: Word) -> Word {
        if word.state() == CLOSED {
            return word.with_body(word.body() << 1 & self.window);
        }
        let succeeded = word.succeeded() + 1;
        if succeeded == u64::from(self.probes) {
            word.then(CLOSED, 0)
        } else {
            word.with_body(probes(word.admitted(), succeeded))
        }
    }

    fn failed(&self, word: Word, now: Instant) -> Word {
        let opened = now.saturating_duration_since(self.epoch).as_millis() as u64;
        if word.state() != CLOSED {
            return word.then(OPEN, opened);
        }
        let outcomes = (word.body() << 1 | 1) & self.window;
        if outcomes.count_ones() >= self.failures { word.then(OPEN, opened) } else { word.with_body(outcomes) }
    }

    /// A probe that was given up makes room for another.
    fn cancelled(word: Word) -> Word {
        if word.state() == CLOSED { word } else { word.with_body(probes(word.admitted() - 1, word.succeeded())) }
    }

    #[inline]
    fn load(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    fn exchange(&self, word: Word, next: Word) -> Result<(), Word> {
        let found = self.word.compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Acquire);
        found.map(drop).map_err(Word)
    }
}

/// A call that was let through.
///
/// # Cancellation
/// Dropping it says that the call was given up and tells nothing of the service: it is no outcome, and a probe's place is free again.
#[must_use = "a permit that is dropped is a call that was given up"]
pub struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    admitted: Word,
    told: bool,
}

impl Permit<'_> {
    /// The call succeeded.
    #[inline]
    pub fn succeeded(mut self) {
        self.told = true;
        self.breaker.tell(self.admitted, |word| self.breaker.succeeded(word));
    }

    /// The call failed at `now`, from which an opening counts.
    #[inline]
    pub fn failed(mut self, now: Instant) {
        self.told = true;
        self.breaker.tell(self.admitted, |word| self.breaker.failed(word, now));
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.told {
            self.breaker.tell(self.admitted, CircuitBreaker::cancelled);
        }
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("breaker", self.breaker).finish_non_exhaustive()
    }
}
