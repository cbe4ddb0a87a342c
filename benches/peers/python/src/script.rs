//! The script that does the works, and what it answers.

use std::io;
use std::process::{Command, Output, Stdio};

use harness::Effort;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Environment;
use crate::interpreter::{self, Interpreter, PythonError};

const RUNNER: &str = include_str!("runner.py");

/// Fewer rounds give no interval.
const LEAST_ROUNDS: usize = 3;

/// What a work came to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome<D> {
    /// Nanoseconds an operation of every round after the warm-up.
    pub(crate) per_op_ns: Vec<f64>,
    /// Operations in all, warm-up included.
    pub operations: u64,
    /// What they produced.
    pub observed: u64,
    /// What else the script tells.
    pub details: D,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScriptError {
    /// Nothing to run it with.
    #[error(transparent)]
    Python(#[from] PythonError),
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

/// Runs `work` of `script`, which follows `runner.py`, in a process of its own.
pub(crate) fn run<D: DeserializeOwned>(
    environment: &Environment,
    script: &str,
    mut work: Value,
    effort: Effort,
) -> Result<Outcome<D>, ScriptError> {
    // Operations take long to prepare in Python: the time alone would leave a handful of rounds.
    work["least_rounds"] = effort.samples.max(LEAST_ROUNDS).into();
    work["warm_up_ns"] = (effort.warm_up.as_nanos() as u64).into();
    work["measure_ns"] = (effort.measure.as_nanos() as u64).into();
    let stdout = output_of(&interpreter::with(environment)?, &format!("{RUNNER}\n\n{script}"), &work)?;
    Ok(serde_json::from_slice(&stdout)?)
}

fn output_of(interpreter: &Interpreter, program: &str, work: &Value) -> Result<Vec<u8>, ScriptError> {
    let mut command = Command::new(interpreter.path());
    command.args(["-I", "-c", program]).arg(work.to_string());
    // Held for as long as this process lives: the script ends itself when its input does.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let _held = child.stdin.take();
    let Output { status, stdout, stderr } = child.wait_with_output()?;
    if !status.success() {
        let stderr = String::from_utf8_lossy(&stderr);
        return Err(ScriptError::Failed(stderr.lines().last().unwrap_or("no message").to_owned()));
    }
    Ok(stdout)
}
