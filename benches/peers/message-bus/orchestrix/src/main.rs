//! The Python library orchestrix 0.1.0 under Python 3.12: its asynchronous message bus in a running loop, timed inside Python.
//!
//! Handlers are coroutines, of which it makes a task each at every publish. Every publish formats a log line, which logging, turned
//! off here, does not write.

use std::process::ExitCode;

use harness::{Bench, BenchError, Suite};
use message_bus_contest::Work;
use serde_json::json;

const SCRIPT: &str = include_str!("contest.py");
/// Publishes of one round.
const PUBLISHES: u64 = 1 << 10;
const NOTE: &str = "Python 3.12, its loop running, timed inside Python, logging off, garbage collected between the rounds; events are \
                    built before; a publish ends when its handlers, coroutines, have";

fn main() -> ExitCode {
    let suite = Work::INLINE.into_iter().fold(Suite::new(), |suite, work| {
        suite.bench(work.id("orchestrix"), move |bench: &mut Bench| measure(bench, work))
    });
    suite.run()
}

fn measure(bench: &mut Bench, work: Work) -> Result<(), BenchError> {
    let Work::Inline { handlers } = work else { unreachable!("not among the works of this contender") };
    bench.note(NOTE);
    let arguments = json!({ "kind": "inline", "handlers": handlers, "publishes": PUBLISHES });
    let outcome = orchestrix::measure::<()>(bench, SCRIPT, arguments)?;
    let rounds = outcome.operations / PUBLISHES;
    bench.proof(rounds * handlers * (PUBLISHES * (PUBLISHES - 1) / 2), outcome.observed);
    Ok(())
}
