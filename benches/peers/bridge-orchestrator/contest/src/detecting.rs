//! Heartbeats taken in, and each node's suspicion computed.

use std::time::{Duration, Instant};

use harness::{Bench, BenchError};

const INTERVAL: Duration = Duration::from_secs(1);

/// A phi-accrual failure detector with a threshold of 8 and a least deviation of 100 ms.
pub trait Detects: 'static {
    /// How it is set up; every report repeats it.
    const NOTE: &'static str;

    /// A detector that knows no node, and expects a heartbeat a second of those that it gets to know.
    fn new(now: Instant) -> Self;

    /// Timed: a heartbeat of a node came at `at`.
    fn heartbeat(&mut self, node: u64, at: Instant);

    /// φ of the node's silence.
    fn phi(&self, node: u64, now: Instant) -> f64;
}

/// One operation is one heartbeat. A round is one of each node, all of which beat once a second, a little early or late.
pub(crate) fn measure<D: Detects>(bench: &mut Bench, nodes: u64) -> Result<(), BenchError> {
    bench.note(D::NOTE);
    let mut now = Instant::now();
    let mut detector = D::new(now);
    let ids: Vec<u64> = (0..nodes).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let mut round = |now: Instant, number: u64| {
        let times: Vec<Instant> =
            (0..nodes).map(|node| now + Duration::from_millis((node * 31 + number * 17) % 50)).collect();
        let start = Instant::now();
        for (id, at) in ids.iter().zip(&times) {
            detector.heartbeat(*id, *at);
        }
        start.elapsed()
    };
    // The rhythm is learned before anything is timed.
    for number in 0..20 {
        now += INTERVAL;
        round(now, number);
    }
    let mut number = 20;
    bench.rounds(|| {
        now += INTERVAL;
        number += 1;
        (round(now, number), nodes)
    })?;
    let alive = ids.iter().filter(|id| detector.phi(**id, now + INTERVAL / 2) < 1.0).count();
    let suspected = ids.iter().filter(|id| detector.phi(**id, now + 4 * INTERVAL) > 8.0).count();
    bench.proof(format!("{nodes} alive, {nodes} suspected"), format!("{alive} alive, {suspected} suspected"));
    Ok(())
}
