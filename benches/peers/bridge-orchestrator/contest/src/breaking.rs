//! Calls through a circuit breaker that stays closed.

use std::time::Instant;

use harness::{Bench, BenchError};

const CALLS: u64 = 1 << 16;

/// A circuit breaker that opens after five failures, and stays closed while one call in a thousand fails.
pub trait Breaks: 'static {
    /// How it is set up and called; every report repeats it.
    const NOTE: &'static str;

    /// A closed breaker.
    fn closed() -> Self;

    /// Timed: asks the breaker, makes the call if it is let through, and tells the breaker how it ended. What the call returned, or `None` if
    /// it was not let through.
    fn call(&self, call: impl FnOnce() -> Result<u64, u64>) -> Option<Result<u64, u64>>;
}

/// One operation is one call through the breaker.
pub(crate) fn measure<B: Breaks>(bench: &mut Bench) -> Result<(), BenchError> {
    bench.note(B::NOTE);
    let breaker = B::closed();
    let (mut succeeded, mut failed) = (0, 0);
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        for number in 0..CALLS {
            match std::hint::black_box(&breaker).call(|| if number % 1000 == 999 { Err(1) } else { Ok(1) }) {
                Some(Ok(one)) => succeeded += one,
                Some(Err(one)) => failed += one,
                None => {}
            }
        }
        (start.elapsed(), CALLS)
    })?;
    let of_a_round = CALLS / 1000;
    let expected = format!("{} and {}", rounds * (CALLS - of_a_round), rounds * of_a_round);
    bench.proof(expected, format!("{succeeded} and {failed}"));
    Ok(())
}
