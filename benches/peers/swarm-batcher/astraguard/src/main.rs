//! What AstraGuard's `RequestBatcher`, written in Python, does to a full batch before it is sent: `msgpack` and `zstandard` under
//! Python 3.12, timed inside Python.
//!
//! Both packages are extensions in C. The compressor is made once, outside the timing.

use std::process::ExitCode;

use harness::{Bench, BenchError, Suite};
use python::Environment;
use serde_json::json;
use swarm_batcher_contest::Work;
use swarm_batcher_contest::telemetry::{UPLOADS, described, expected, records};

const SCRIPT: &str = include_str!("contest.py");
const ENVIRONMENT: Environment = Environment {
    name: "astraguard",
    packages: &["msgpack==1.2.4", "zstandard==0.25.0"],
    probe: "import msgpack._cmsgpack, zstandard\nassert zstandard.backend == 'cext'",
};
const NOTE: &str = "Python 3.12, msgpack 1.2.4 and zstandard 0.25.0 with their C extensions, timed inside Python; items are dictionaries \
                    that exist already; one compressor for all uploads";

fn main() -> ExitCode {
    Suite::new().bench(Work::ENCODE.id("astraguard"), measure).run()
}

fn measure(bench: &mut Bench) -> Result<(), BenchError> {
    let Work::Encode { items } = Work::ENCODE else { unreachable!("the work of encoders") };
    bench.note(NOTE);
    let records = records(items);
    // As text: a `Value` would sort the fields.
    let text = serde_json::to_string(&records).map_err(|error| BenchError::Invalid(error.to_string()))?;
    let work = json!({ "kind": "encode", "records": text, "uploads": UPLOADS });
    let outcome = ENVIRONMENT.measure::<Vec<u8>>(bench, SCRIPT, work)?;
    let proof = |uploads: u64, body: String| format!("{uploads} uploads, the last of {body}");
    let observed = proof(outcome.observed, described(&records, &outcome.details));
    bench.proof(proof(outcome.operations, expected(&records)), observed);
    Ok(())
}
