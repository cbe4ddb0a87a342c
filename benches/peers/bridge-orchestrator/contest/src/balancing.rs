//! Calls spread over endpoints by what they cost.

use std::time::Instant;

use harness::{Bench, BenchError};

/// Calls of a round: far above what reading the clock twice disturbs.
const CALLS: u64 = 1 << 14;

/// A balancer by two random choices and peak-sensitive averages, which decay in ten seconds.
pub trait Balances: 'static {
    /// How it is set up and called; every report repeats it.
    const NOTE: &'static str;

    /// A balancer over so many endpoints, each of which answers a call at once with its own number.
    fn over(endpoints: u64) -> Self;

    /// Timed: makes so many calls one after the other, each by a clock that the contender reads at its begin and its end. Adds one to the count
    /// of each endpoint's number for each call that it answered.
    fn call(&mut self, calls: u64, answered: &mut [u64]);
}

/// One operation is one call, the end of which the average has taken in.
pub(crate) fn measure<B: Balances>(bench: &mut Bench, endpoints: u64) -> Result<(), BenchError> {
    bench.note(B::NOTE);
    let mut balancer = B::over(endpoints);
    let mut answered = vec![0; endpoints as usize];
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        balancer.call(CALLS, &mut answered);
        (start.elapsed(), CALLS)
    })?;
    let reached = answered.iter().filter(|calls| **calls > 0).count();
    let least = if rounds * CALLS > 100 * endpoints { endpoints as usize / 2 } else { 1 };
    assert!(reached >= least, "calls are spread: {reached} of {endpoints} endpoints were reached");
    bench.proof(rounds * CALLS, answered.iter().sum::<u64>());
    Ok(())
}
