//! The Python library orchestrix 0.1.0 under Python 3.12: its asynchronous memory store in a running loop, timed inside Python.
//!
//! It checks the expected version (the interface is for one thread: nothing is locked) and lets a load copy the list of the
//! stream's events, twice; event ids are not looked at, there is no order over streams, and tags are not indexed. Every call
//! formats a log line, which logging, turned off here, does not write.

mod python;
mod script;

use std::process::ExitCode;

use event_store_contest::{Work, works};
use harness::{Bench, BenchError, Suite};

const NOTE: &str = "Python 3.12, its loop running, timed inside Python; checks the expected version; no event ids, no order over \
                    streams, no tags; not for several threads";

fn main() -> ExitCode {
    let done = works().into_iter().filter(|work| !matches!(work, Work::Concurrent));
    let suite = done.fold(Suite::new(), |suite, work| {
        suite.bench(work.id("orchestrix"), move |bench: &mut Bench| measure(bench, work))
    });
    suite.run()
}

fn measure(bench: &mut Bench, work: Work) -> Result<(), BenchError> {
    let failed = |error: &dyn std::fmt::Display| BenchError::Invalid(error.to_string());
    let interpreter = python::with_orchestrix().map_err(|error| failed(&error))?;
    let outcome = script::run(&interpreter, work, bench.effort()).map_err(|error| failed(&error))?;
    bench.note(NOTE);
    bench.rounds_measured(&outcome.per_op_ns)?;
    bench.proof(script::expected(work, &outcome), outcome.observed);
    Ok(())
}
