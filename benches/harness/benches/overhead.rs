//! What the harness itself costs: one histogram entry, which every timed operation pays outside its own time.

use harness::{Bench, BenchError, Suite};
use hdrhistogram::Histogram;

fn main() -> std::process::ExitCode {
    Suite::new().bench("harness/histogram/record", histogram_record).run()
}

fn histogram_record(bench: &mut Bench) -> Result<(), BenchError> {
    const ENTRIES: u64 = 100_000;
    let histogram = || Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("a supported range");
    let rounds = bench.ops(
        ENTRIES,
        histogram,
        |histogram, i| histogram.saturating_record(200 + i % 4_000),
        |histogram| histogram.len(),
    )?;
    bench.proof(rounds * ENTRIES, bench.observed());
    Ok(())
}
