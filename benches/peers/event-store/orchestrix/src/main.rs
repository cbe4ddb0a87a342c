//! The Python library orchestrix 0.1.0 under Python 3.12: its asynchronous memory store in a running loop, timed inside Python.
//!
//! It checks the expected version (the interface is for one thread: nothing is locked) and lets a load copy the list of the
//! stream's events, twice; event ids are not looked at, there is no order over streams, and tags are not indexed. Every call
//! formats a log line, which logging, turned off here, does not write.

mod works;

use std::process::ExitCode;

use event_store_contest::Work;
use harness::{Bench, BenchError, Suite};

const SCRIPT: &str = include_str!("contest.py");
const NOTE: &str = "Python 3.12, its loop running, timed inside Python; checks the expected version; no event ids, no order over \
                    streams, no tags; not for several threads";

fn main() -> ExitCode {
    let done = event_store_contest::works().into_iter().filter(|work| !matches!(work, Work::Concurrent));
    let suite = done.fold(Suite::new(), |suite, work| {
        suite.bench(work.id("orchestrix"), move |bench: &mut Bench| measure(bench, work))
    });
    suite.run()
}

fn measure(bench: &mut Bench, work: Work) -> Result<(), BenchError> {
    bench.note(NOTE);
    let outcome = orchestrix::measure(bench, SCRIPT, works::arguments(work))?;
    bench.proof(works::expected(work, &outcome), outcome.observed);
    Ok(())
}
