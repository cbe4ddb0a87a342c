//! The phi-accrual detector as the paper has it: a window of the last intervals a node, whose sums are kept (Hayashibara et al., 2004).

use std::collections::{HashMap, VecDeque};
use std::process::ExitCode;
use std::time::Instant;

use bridge_orchestrator_contest::{Contest, Detects};

/// Intervals that are kept, as in the paper and in the detectors that follow it.
const WINDOW: usize = 1000;
const LEAST_DEVIATION: f64 = 0.1;

fn main() -> ExitCode {
    Contest::of("sampling-window").detects::<Detector>().run()
}

struct Window {
    last: Instant,
    intervals: VecDeque<f64>,
    sum: f64,
    squares: f64,
}

struct Detector(HashMap<u64, Window>);

impl Detects for Detector {
    const NOTE: &'static str =
        "the last 1,000 intervals a node in a ring, their sum and sum of squares, in the standard library's map";

    fn new(_: Instant) -> Self {
        Self(HashMap::new())
    }

    fn heartbeat(&mut self, node: u64, at: Instant) {
        let first = || Window { last: at, intervals: VecDeque::with_capacity(WINDOW), sum: 0.0, squares: 0.0 };
        let window = self.0.entry(node).or_insert_with(first);
        let interval = at.duration_since(window.last).as_secs_f64();
        if interval == 0.0 {
            return;
        }
        if window.intervals.len() == WINDOW
            && let Some(oldest) = window.intervals.pop_front()
        {
            window.sum -= oldest;
            window.squares -= oldest * oldest;
        }
        window.intervals.push_back(interval);
        window.sum += interval;
        window.squares += interval * interval;
        window.last = at;
    }

    fn phi(&self, node: u64, now: Instant) -> f64 {
        let window = &self.0[&node];
        let count = window.intervals.len() as f64;
        let mean = window.sum / count;
        let deviation = (window.squares / count - mean * mean).max(0.0).sqrt().max(LEAST_DEVIATION);
        let silence = now.duration_since(window.last).as_secs_f64();
        let tail = libm::erfc((silence - mean) / deviation / std::f64::consts::SQRT_2) / 2.0;
        -tail.log10()
    }
}
