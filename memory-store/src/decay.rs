//! How fast memories fade, by class.

use std::time::Duration;

use crate::clock::{HOUR, Timestamp, micros};
use crate::error::Error;

/// How much a memory matters when something has to go. A merge takes the higher class of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum RetentionClass {
    /// First to go.
    Low = 0,
    /// What a memory is if nothing else is said.
    #[default]
    Medium = 1,
    /// Kept longer.
    High = 2,
    /// Never evicted, and pruned only if `keep_critical` is switched off.
    Critical = 3,
}

impl RetentionClass {
    /// All classes, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    pub(crate) fn from_bits(bits: u8) -> Self {
        Self::ALL[usize::from(bits & 3)]
    }
}

/// For each class how fast a memory fades, and how old it may grow. The default is the original's: 0.1 an hour (half of it is gone after
/// 6.93 hours) for every class; low and medium memories are kept for 24 and 72 hours, high ones for 168, critical ones for ever.
#[derive(Debug, Clone, PartialEq)]
pub struct DecayTable {
    rates: [f64; 4],
    ticks_a_unit: i64,
    retention: [Option<Duration>; 4],
}

impl Default for DecayTable {
    fn default() -> Self {
        Self::per_hour(0.1)
    }
}

impl DecayTable {
    /// All classes fade by the factor `exp(-rate)` an hour. `rate` is 0 to 1e9.
    #[must_use]
    pub fn per_hour(rate: f64) -> Self {
        Self::per(rate, HOUR)
    }

    /// All classes fade by the factor `exp(-rate)` a tick of a logical clock. `rate` is 0 to 1e9. A tick counts as a microsecond in spans of
    /// time, those of [`retention`](Self::retention) among them.
    #[must_use]
    pub fn per_tick(rate: f64) -> Self {
        Self::per(rate, 1)
    }

    fn per(rate: f64, ticks_a_unit: i64) -> Self {
        let hours = |hours: u64| Some(Duration::from_secs(3600 * hours));
        Self { rates: [rate; 4], ticks_a_unit, retention: [hours(24), hours(72), hours(168), None] }
    }

    /// Gives `class` a rate of its own, in the unit of the table.
    #[must_use]
    pub fn rate(mut self, class: RetentionClass, rate: f64) -> Self {
        self.rates[class as usize] = rate;
        self
    }

    /// How old memories of `class` may grow before a prune by retention removes them; `None` is for ever.
    #[must_use]
    pub fn retention(mut self, class: RetentionClass, longest: Option<Duration>) -> Self {
        self.retention[class as usize] = longest;
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.rates.iter().find(|rate| !(0.0..=1e9).contains(*rate)) {
            Some(rate) => Err(Error::InvalidConfig { option: "decay", reason: format!("a rate of {rate}: 0 to 1e9") }),
            None => Ok(()),
        }
    }

    /// What is left at `now` of a memory of `class` that was last seen at `seen`, 0 to 1: `exp(-rate * age)`, with an age that is not negative.
    #[must_use]
    pub fn weight(&self, class: RetentionClass, seen: Timestamp, now: Timestamp) -> f64 {
        (-self.fading(class, seen, now)).exp()
    }

    /// `rate * age`.
    pub(crate) fn fading(&self, class: RetentionClass, seen: Timestamp, now: Timestamp) -> f64 {
        self.rates[class as usize] * self.units(now.age_of(seen))
    }

    /// The most that is left of a memory of any of the `classes` (a bit each).
    pub(crate) fn highest_weight(&self, classes: u8, seen: Timestamp, now: Timestamp) -> f64 {
        let rates = (0..4).filter(|class| classes >> class & 1 == 1).map(|class| self.rates[class]);
        let slowest = rates.fold(f64::INFINITY, f64::min);
        if slowest == f64::INFINITY { 0.0 } else { (-slowest * self.units(now.age_of(seen))).exp() }
    }

    /// The exponent that a moment contributes to the order of eviction: `rate * t`, which differs between two memories of one class by as
    /// much as the logarithms of what is left of them, at any time. A whole number, in parts of `2^fraction_bits` of the class: a sum in
    /// floating point would be of nothing but the moment where that is far from 0.
    pub(crate) fn exponent(&self, class: RetentionClass, seen: Timestamp) -> i128 {
        let rate = self.rates[class as usize] / self.ticks_a_unit as f64;
        if rate == 0.0 {
            return 0;
        }
        // The rate is `digits * 2^(power - 52)`, but for one so small that it comes to nothing.
        let power = (rate.to_bits() >> 52) as i32 - 1023;
        let digits = (rate.to_bits() & ((1 << 52) - 1) | 1 << 52) as i128;
        let shift = power - 52 + self.fraction_bits(class);
        let product = digits * i128::from(seen.0);
        if shift >= 0 { product << shift } else { product >> (-shift).min(127) }
    }

    /// Digits after the point of [`exponent`](Self::exponent), in binary: as many as leave room for every moment there is.
    pub(crate) fn fraction_bits(&self, class: RetentionClass) -> i32 {
        let rate = self.rates[class as usize] / self.ticks_a_unit as f64;
        let whole_bits = if rate < 1.0 { 0 } else { (rate.to_bits() >> 52) as i32 - 1022 };
        (124 - 63 - whole_bits).min(60)
    }

    fn units(&self, ticks: u64) -> f64 {
        ticks as f64 / self.ticks_a_unit as f64
    }

    /// Whether a memory of `class` is as old as its class may grow, or older.
    pub(crate) fn is_expired(&self, class: RetentionClass, seen: Timestamp, now: Timestamp) -> bool {
        self.retention[class as usize].is_some_and(|longest| now.age_of(seen) >= micros(longest).unsigned_abs())
    }
}
