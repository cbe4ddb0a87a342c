//! Criterion with the settings of the workspace, and with a proof.

use std::time::Duration;

use criterion::{Criterion, Throughput};

use crate::counting_alloc::is_counting;
use crate::effort::Effort;
use crate::suite::{BenchError, write_proof};

/// Criterion as every suite uses it: 60 samples in 1.5 s after 0.5 s of warm-up, less when the gate asks for a quick answer, no
/// plots, flamegraphs on `--profile-time` (feature `flamegraph`). The gate, not the suite, spends more on rows near a limit.
///
/// ```no_run
/// use std::time::Instant;
/// use criterion::{Criterion, Throughput, criterion_group, criterion_main};
///
/// fn push(c: &mut Criterion) {
///     harness::timed(c, "strings/push", Throughput::Elements(1), |iterations, tally| {
///         let mut text = String::with_capacity(iterations as usize);
///         let start = Instant::now();
///         for _ in 0..iterations {
///             text.push('x');
///         }
///         let elapsed = start.elapsed();
///         tally.expect(iterations);
///         tally.observe(text.len() as u64);
///         elapsed
///     });
/// }
///
/// criterion_group!(name = benches; config = harness::criterion(); targets = push);
/// criterion_main!(benches);
/// ```
///
/// # Panics
/// If the binary counts allocations: what it times would include the counting.
#[must_use]
pub fn criterion() -> Criterion {
    assert!(!is_counting(), "this binary counts allocations: take times in another one");
    let effort = Effort::from_environment();
    let criterion = Criterion::default()
        .without_plots()
        .warm_up_time(effort.warm_up)
        .measurement_time(effort.measure)
        .sample_size(effort.samples)
        .nresamples(20_000);
    #[cfg(feature = "flamegraph")]
    let criterion = criterion.with_profiler(crate::profiler::Flamegraph::default());
    criterion
}

/// What the iterations of a benchmark should have produced, and what they did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    expected: u64,
    observed: u64,
}

impl Tally {
    /// Adds what the work just done should have produced: a count, or a checksum. Sums wrap.
    pub fn expect(&mut self, count: u64) {
        self.expected = self.expected.wrapping_add(count);
    }

    /// Adds what it did produce.
    pub fn observe(&mut self, count: u64) {
        self.observed = self.observed.wrapping_add(count);
    }
}

/// Runs one criterion benchmark with a proof. `routine(iterations, tally)` does the work that often, returns the time of its
/// timed part, and tells the tally what it should have produced and what it did.
///
/// The proof is written when the benchmark has run; without one the gate calls criterion's result missing. The id reads
/// `<crate>/<group>/<case>`; `throughput` is that of one iteration.
///
/// # Panics
/// If the work was not done, or if the proof cannot be written: a benchmark has no caller who could do better.
pub fn timed(
    c: &mut Criterion,
    id: &str,
    throughput: Throughput,
    mut routine: impl FnMut(u64, &mut Tally) -> Duration,
) {
    let (group, case) = id.rsplit_once('/').unwrap_or((id, ""));
    let mut group = c.benchmark_group(group);
    group.throughput(throughput);
    let mut tally = None;
    group.bench_function(case, |bencher| {
        bencher.iter_custom(|iterations| routine(iterations, tally.get_or_insert_with(Tally::default)));
    });
    group.finish();
    // Nothing ran when the command line only lists or asks for another benchmark.
    if let Some(Tally { expected, observed }) = tally {
        let written: Result<(), BenchError> = write_proof(id, expected, observed);
        written.unwrap_or_else(|error| panic!("{id}: {error}"));
    }
}
