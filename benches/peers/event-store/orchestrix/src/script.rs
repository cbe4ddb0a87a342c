//! The script that does the works, and what it answers.

use std::io;
use std::process::{Command, Output, Stdio};

use event_store_contest::{EVENTS_A_ROUND, LARGE_STORE, PAYLOAD, PAYLOAD_BYTE, Work, expected_visit, loads_a_round};
use harness::Effort;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::python::Interpreter;

const SCRIPT: &str = include_str!("contest.py");

/// Fewer rounds give no interval.
const LEAST_ROUNDS: usize = 3;

/// What the script prints.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outcome {
    /// Nanoseconds an operation of every round after the warm-up.
    pub(crate) per_op_ns: Vec<f64>,
    /// Operations in all, warm-up included.
    operations: u64,
    /// What they produced.
    pub(crate) observed: u64,
    /// Calls that each store took before it was replaced.
    calls_of_stores: Vec<u64>,
}

/// Why the script gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScriptError {
    /// It could not be started.
    #[error("the contest's script could not be started: {0}")]
    Start(#[from] io::Error),
    /// It stopped with an error.
    #[error("the contest's script failed: {0}")]
    Failed(String),
    /// It printed something else.
    #[error("the contest's script printed no figures: {0}")]
    Answer(#[from] serde_json::Error),
}

/// Runs one work in a process of its own.
pub(crate) fn run(interpreter: &Interpreter, work: Work, effort: Effort) -> Result<Outcome, ScriptError> {
    let mut command = Command::new(interpreter.path());
    command.args(["-I", "-c", SCRIPT]).arg(arguments(work, effort).to_string());
    // Held for as long as this process lives: the script ends itself when its input does.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let _held = child.stdin.take();
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        return Err(ScriptError::Failed(stderr.lines().last().unwrap_or("no message").to_owned()));
    }
    Ok(serde_json::from_slice(&stdout)?)
}

fn arguments(work: Work, effort: Effort) -> Value {
    let mut arguments = match work {
        Work::Save { batch } | Work::SaveFromEvents { batch } => {
            json!({ "kind": "save", "batch": batch, "ops_a_round": EVENTS_A_ROUND.div_ceil(batch) })
        }
        Work::Load { events } => json!({ "kind": "load", "events": events, "ops_a_round": loads_a_round(events) }),
        Work::LoadOwned { events } | Work::LoadRecorded { events } => {
            json!({ "kind": "load-owned", "events": events, "ops_a_round": 1 })
        }
        Work::Concurrent => unreachable!("not among the works of this contender"),
    };
    arguments["large_store"] = LARGE_STORE.into();
    arguments["payload"] = json!({ "length": PAYLOAD, "byte": PAYLOAD_BYTE });
    // Events take long to build in Python: the time alone would leave a handful of rounds.
    arguments["least_rounds"] = effort.samples.max(LEAST_ROUNDS).into();
    arguments["warm_up_ns"] = (effort.warm_up.as_nanos() as u64).into();
    arguments["measure_ns"] = (effort.measure.as_nanos() as u64).into();
    arguments
}

/// What the operations of an outcome should have produced.
pub(crate) fn expected(work: Work, outcome: &Outcome) -> u64 {
    match work {
        Work::Save { batch } | Work::SaveFromEvents { batch } => {
            let stored = |events: u64| events * content() + (0..events).sum::<u64>();
            let of_store = |calls: &u64| if batch == 1 { stored(*calls) } else { calls * stored(batch) };
            let proved: u64 = outcome.calls_of_stores.iter().sum();
            // Calls that no store accounts for count as missing.
            outcome.calls_of_stores.iter().map(of_store).sum::<u64>() + (outcome.operations - proved)
        }
        Work::Load { events } => expected_visit(events) * outcome.operations,
        Work::LoadOwned { events } | Work::LoadRecorded { events } => {
            outcome.operations * events * (1 + PAYLOAD as u64)
        }
        Work::Concurrent => 0,
    }
}

/// One for the event, and its bytes.
fn content() -> u64 {
    1 + u64::from(PAYLOAD_BYTE) * PAYLOAD as u64
}
