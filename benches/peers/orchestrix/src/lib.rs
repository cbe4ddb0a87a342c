//! Runs works of contests for the Python library orchestrix 0.1.0 under Python 3.12, timed inside Python: its loop is running,
//! logging is off, and no garbage is collected within the timing.

use harness::{Bench, BenchError};
use python::Environment;
pub use python::Outcome;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Imports the library, turns its logging off, and says when the events of contests were.
const QUIET: &str = include_str!("quiet.py");

const ENVIRONMENT: Environment = Environment {
    name: "orchestrix",
    packages: &["orchestrix==0.1.0"],
    probe: "from orchestrix.infrastructure.memory import InMemoryEventStore",
};

/// Runs `work` of `script` in a process of its own, and records its rounds; the proof is the caller's.
///
/// # Errors
/// [`BenchError::Invalid`] if there is no Python 3.12 with the library, or the script fails.
pub fn measure<D: DeserializeOwned>(bench: &mut Bench, script: &str, work: Value) -> Result<Outcome<D>, BenchError> {
    ENVIRONMENT.measure(bench, &format!("{QUIET}\n\n{script}"), work)
}
