//! Chooses linger and the number of batches in flight by what batches cost and how fast items come.
//!
//! The model: a batch of `n` items takes `a + b n`, fitted by least squares in which old batches count less and less; items come at `λ`
//! a second. Of a grid of lingers and in-flight limits it takes the pair for which the predicted 99th percentile is least. For the
//! linger `L` and the limit `m`:
//!
//! - `n`, the items of a batch, is `1 + λ L`, and at least `λ a / (m - λ b)`: below that, more come than go, and batches grow by themselves;
//! - the utilisation is `ρ = λ (a + b n) / (n m)`, and the prediction `L + (1 + ρ) (a + b n)`: the wait for company, one's own batch, and
//!   the rest of the one before it.
//!
//! A batch that took longer than the goal, linger included, lowers the bound of the linger by a tenth; one in time raises it by a
//! hundredth of the goal: additive increase, multiplicative decrease, as Clipper does it for batch sizes (Crankshaw et al., NSDI 2017).
//! Eight batches in a row that are far from what was expected mean that the handler has changed, and the fit begins anew.

use std::time::Duration;

/// What a batch of the past counts for when the next one has run.
const MEMORY: f64 = 0.97;
/// Items are counted over at least this long, in nanoseconds, before their rate is believed.
const WINDOW: u64 = 2_000_000;
/// Lingers that are tried: none, and fractions of the goal, halved each time.
const LINGERS: i32 = 7;
/// A prediction has to be better by this to be worth more batches in flight, or a linger.
const WORTH: f64 = 0.97;
/// So many surprises in a row are a change.
const SURPRISES: u32 = 8;

#[derive(Debug)]
pub(crate) struct Adaptive {
    goal: f64,
    max_items: f64,
    max_in_flight: usize,
    fit: Fit,
    surprises: u32,
    rate: f64,
    window: (u64, u64),
    bound: f64,
    linger: u64,
    in_flight: usize,
}

impl Adaptive {
    pub(crate) fn new(goal: Duration, max_items: usize, max_in_flight: usize) -> Self {
        let goal = goal.as_nanos() as f64;
        Self {
            goal,
            max_items: max_items as f64,
            max_in_flight,
            fit: Fit::default(),
            surprises: 0,
            rate: 0.0,
            window: (0, 0),
            bound: goal,
            linger: 0,
            in_flight: max_in_flight,
        }
    }

    /// How long batches linger now, in nanoseconds.
    pub(crate) fn linger(&self) -> u64 {
        self.linger
    }

    /// How many batches may run.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A batch of `items` ran from `began` to `now`; `accepted` items have come so far.
    pub(crate) fn ran(&mut self, items: usize, began: u64, now: u64, accepted: u64) {
        let (items, took) = (items as f64, now.saturating_sub(began) as f64);
        if items == 0.0 {
            return;
        }
        self.see(items, took);
        self.bound = if self.linger as f64 + took > self.goal {
            self.bound * 0.9
        } else {
            (self.bound + self.goal / 100.0).min(self.goal)
        };
        let (since, before) = self.window;
        if now.saturating_sub(since) >= WINDOW {
            let rate = (accepted - before) as f64 / (now - since) as f64;
            self.rate = if self.rate == 0.0 { rate } else { 0.5 * (self.rate + rate) };
            self.window = (now, accepted);
            self.choose();
        }
    }

    fn see(&mut self, items: f64, took: f64) {
        let surprising = self.fit.line().is_some_and(|(a, b)| {
            let expected = a + b * items;
            took > 3.0 * expected + 10_000.0 || 3.0 * took + 10_000.0 < expected
        });
        self.surprises = if surprising { self.surprises + 1 } else { 0 };
        if self.surprises >= SURPRISES {
            (self.fit, self.surprises) = (Fit::default(), 0);
        }
        // One that is far off is more likely the machine's doing than the handler's.
        if !surprising {
            self.fit.add(items, took);
        }
    }

    fn choose(&mut self) {
        let Some((a, b)) = self.fit.line() else { return };
        let mut best = (f64::INFINITY, 0.0, self.max_in_flight);
        for in_flight in 1..=self.max_in_flight {
            for step in 0..LINGERS {
                let linger = if step == 0 { 0.0 } else { self.goal / f64::from(1 << (LINGERS - step)) };
                let predicted = self.predict(a, b, linger, in_flight);
                if linger <= self.bound && predicted < best.0 * WORTH {
                    best = (predicted, linger, in_flight);
                }
            }
        }
        let (predicted, linger, in_flight) = best;
        // Nothing keeps up: as many as go at once, and batches fill by themselves.
        (self.linger, self.in_flight) =
            if predicted.is_finite() { (linger as u64, in_flight) } else { (0, self.max_in_flight) };
    }

    /// Infinite where more items come than go.
    fn predict(&self, a: f64, b: f64, linger: f64, in_flight: usize) -> f64 {
        let (rate, permits) = (self.rate, in_flight as f64);
        let spare = permits - rate * b;
        if spare <= 0.0 {
            return f64::INFINITY;
        }
        let items = (1.0 + rate * linger).max(rate * a / spare);
        if items > self.max_items && rate * a / spare > self.max_items {
            return f64::INFINITY;
        }
        let items = items.min(self.max_items);
        let took = a + b * items;
        let utilisation = (rate * took / (items * permits)).min(1.0);
        linger + (1.0 + utilisation) * took
    }
}

/// A line through points, the older the lighter.
#[derive(Debug, Default)]
struct Fit {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Fit {
    fn add(&mut self, x: f64, y: f64) {
        let keep = |sum: f64, more: f64| MEMORY * sum + more;
        self.weight = keep(self.weight, 1.0);
        self.x = keep(self.x, x);
        self.y = keep(self.y, y);
        self.xx = keep(self.xx, x * x);
        self.xy = keep(self.xy, x * y);
    }

    /// What a batch costs, and what an item does; neither is below zero. Nothing before there are a few points.
    fn line(&self) -> Option<(f64, f64)> {
        if self.weight < 4.0 {
            return None;
        }
        let (mean_x, mean_y) = (self.x / self.weight, self.y / self.weight);
        let variance = self.xx / self.weight - mean_x * mean_x;
        let covariance = self.xy / self.weight - mean_x * mean_y;
        // Batches of one size tell nothing about the slope: all of it is then the batch's.
        let slope = if variance > 0.01 * mean_x { (covariance / variance).max(0.0) } else { 0.0 };
        let slope = slope.min(mean_y / mean_x);
        Some((mean_y - slope * mean_x, slope))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs batches of a handler of `a + b n` to which items come `rate` a nanosecond, as the chooser has it.
    fn settled(a: f64, b: f64, rate: f64, in_flight: usize, goal: Duration) -> Adaptive {
        let mut adaptive = Adaptive::new(goal, 100, in_flight);
        let (mut now, mut accepted) = (0.0, 0.0);
        for turn in 0..2_000 {
            let items = (1.0 + rate * adaptive.linger() as f64 + f64::from(turn % 3)).min(100.0);
            let took = a + b * items;
            accepted += items;
            now += items / rate;
            adaptive.ran(items as usize, (now - took).max(0.0) as u64, now as u64, accepted as u64);
        }
        adaptive
    }

    #[test]
    fn a_lone_caller_does_not_linger() {
        let adaptive = settled(100_000.0, 1_000.0, 1.0 / 50_000_000.0, 4, Duration::from_millis(10));
        assert_eq!(adaptive.linger(), 0);
    }

    #[test]
    fn the_cost_is_found() {
        let adaptive = settled(80_000.0, 500.0, 1.0 / 20_000.0, 1, Duration::from_millis(10));
        let (a, b) = adaptive.fit.line().expect("many batches");
        assert!((a - 80_000.0).abs() < 20_000.0 && (b - 500.0).abs() < 10_000.0, "{a} {b}");
    }

    #[test]
    fn the_linger_never_exceeds_the_goal() {
        for rate in [1e-8, 1e-6, 1e-5, 1e-4, 1e-3] {
            for in_flight in [1, 2, 8] {
                let adaptive = settled(200_000.0, 2_000.0, rate, in_flight, Duration::from_millis(2));
                assert!(adaptive.linger() <= 2_000_000 && (1..=in_flight).contains(&adaptive.in_flight()));
            }
        }
    }

    #[test]
    fn another_cost_is_learnt_anew() {
        let mut adaptive = settled(50_000.0, 0.0, 1e-5, 1, Duration::from_millis(20));
        for _ in 0..200 {
            adaptive.see(2.0, 900_000.0);
        }
        let (a, b) = adaptive.fit.line().expect("many batches");
        assert!((a + 2.0 * b - 900_000.0).abs() < 90_000.0, "{a} {b}");
    }
}
