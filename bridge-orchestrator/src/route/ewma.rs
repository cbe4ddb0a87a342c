//! What an endpoint's calls cost: a peak-sensitive moving average in one atomic word.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

/// The unit of time: 2^20 ns, about a millisecond. The word's 32 bits then go round in 52 days; of two times that are less than half of that
/// apart the later one is known. An endpoint without a call for longer may be taken for as slow as it last was.
const UNIT_SHIFT: u32 = 20;
const UNIT_NANOS: f32 = (1_u64 << UNIT_SHIFT) as f32;

/// A moving average of latencies that rises to a peak at once and falls slowly: cost (nanoseconds as the bits of an `f32`) in the upper
/// half of one word, time of the last change in the lower one.
///
/// The rule is that of Finagle's `PeakEwma` (Twitter, 2016): a latency above the average replaces it; one below moves it by
/// `1 − e^(−Δt/τ)`; with no calls it falls by `e^(−Δt/τ)`, so that an endpoint that was slow is tried again.
#[derive(Debug)]
pub(crate) struct PeakEwma(AtomicU64);

impl PeakEwma {
    pub(crate) fn new(initial: Duration) -> Self {
        Self(AtomicU64::new(pack(initial.as_nanos() as f32, 0)))
    }

    /// Nanoseconds that a call is expected to take. `now` counts nanoseconds from any fixed moment; `rate` is 1 / τ in nanoseconds.
    #[inline]
    pub(crate) fn cost(&self, now: u64, rate: f32) -> f32 {
        let (cost, then) = unpack(self.0.load(Ordering::Relaxed));
        cost * decay(units(now), then, rate)
    }

    /// Takes a latency in, all of it or, if another thread was faster, after that thread's.
    #[inline]
    pub(crate) fn observe(&self, latency: f32, now: u64, rate: f32) {
        self.change(
            now,
            rate,
            |cost, weight| if latency > cost { latency } else { cost * weight + latency * (1.0 - weight) },
        );
    }

    /// Takes in that a call takes at least as long as this.
    #[inline]
    pub(crate) fn observe_at_least(&self, latency: f32, now: u64, rate: f32) {
        self.change(now, rate, |cost, weight| latency.max(cost * weight));
    }

    #[inline]
    fn change(&self, now: u64, rate: f32, next: impl Fn(f32, f32) -> f32) {
        let now = units(now);
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (cost, then) = unpack(word);
            let weight = decay(now, then, rate);
            // A thread that read the clock earlier does not turn it back.
            let latest = if is_later(then, now) { then } else { now };
            let changed = pack(next(cost, weight), latest);
            match self.0.compare_exchange_weak(word, changed, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(found) => word = found,
            }
        }
    }
}

fn units(now: u64) -> u32 {
    // What is cut off counts whole turns of 52 days.
    (now >> UNIT_SHIFT) as u32
}

fn is_later(time: u32, than: u32) -> bool {
    time.wrapping_sub(than) as i32 > 0
}

#[inline]
fn decay(now: u32, then: u32, rate: f32) -> f32 {
    if now == then || is_later(then, now) {
        return 1.0;
    }
    exp(-(now.wrapping_sub(then) as f32) * UNIT_NANOS * rate)
}

/// `e^x` for `x <= 0`, to one part in ten thousand: a power of two as the exponent of a float, and a polynomial for what is left. The library's is
/// a call, and takes five times as long.
#[inline]
fn exp(x: f32) -> f32 {
    let power = (x * std::f32::consts::LOG2_E).max(-126.0);
    // To the nearest: a cast cuts off, and `floor` is a call where the processor may be an old one.
    let whole = (power - 0.5) as i32;
    let rest = (power - whole as f32) * std::f32::consts::LN_2;
    let polynomial = 1.0 + rest * (1.0 + rest * (0.5 + rest * (1.0 / 6.0 + rest * (1.0 / 24.0 + rest / 120.0))));
    polynomial * f32::from_bits(((whole + 127) as u32) << 23)
}

fn pack(cost: f32, time: u32) -> u64 {
    u64::from(cost.to_bits()) << 32 | u64::from(time)
}

fn unpack(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

#[cfg(all(test, not(bridge_orchestrator_loom)))]
mod tests {
    use super::*;

    const RATE: f32 = 1e-10;
    const SECOND: u64 = 1_000_000_000;

    fn close(found: f32, expected: f64) {
        assert!((f64::from(found) - expected).abs() <= expected * 1e-3, "{found} instead of {expected}");
    }

    #[test]
    fn the_exponential_is_that_of_the_library() {
        for step in 0..=8_000 {
            let x = -(step as f32) / 100.0;
            let (found, expected) = (exp(x), x.exp());
            assert!((found - expected).abs() <= expected * 1e-4, "e^{x} is {expected}, not {found}");
        }
        assert!(exp(-1e9) < 1e-37 && exp(0.0) == 1.0);
    }

    #[test]
    fn a_peak_is_taken_at_once_and_decays_by_e_in_ten_seconds() {
        let ewma = PeakEwma::new(Duration::from_millis(1));
        ewma.observe(5e6, 0, RATE);
        close(ewma.cost(0, RATE), 5e6);
        close(ewma.cost(10 * SECOND, RATE), 5e6 / std::f64::consts::E);
    }

    #[test]
    fn a_fast_call_moves_the_average_by_the_time_that_has_passed() {
        let ewma = PeakEwma::new(Duration::from_millis(1));
        ewma.observe(5e6, 0, RATE);
        ewma.observe(1e6, 5 * SECOND, RATE);
        let weight = (-0.5_f64).exp();
        close(ewma.cost(5 * SECOND, RATE), 5e6 * weight + 1e6 * (1.0 - weight));
    }

    #[test]
    fn a_clock_that_was_read_earlier_changes_no_time() {
        let ewma = PeakEwma::new(Duration::from_millis(1));
        ewma.observe(5e6, 20 * SECOND, RATE);
        ewma.observe(6e6, 10 * SECOND, RATE);
        close(ewma.cost(20 * SECOND, RATE), 6e6);
    }

    #[test]
    fn time_goes_on_when_its_32_bits_go_round() {
        let ewma = PeakEwma::new(Duration::ZERO);
        let turn = 1_u64 << (32 + UNIT_SHIFT);
        for time in [turn / 3, 2 * (turn / 3), turn - SECOND] {
            ewma.observe(1e6, time, RATE);
        }
        close(ewma.cost(turn + 9 * SECOND, RATE), 1e6 / std::f64::consts::E);
    }
}
