//! Runs works of the contest for rivals under Python 3.12, timed inside Python, on the files of the corpus; how good their answers are is
//! judged here.

use harness::{Bench, BenchError};
use memory_store_contest::{Corpus, MEMORIES, PREFETCH, Promise, Question, Truth, Work, measure_answers};
use python::{Environment, Outcome};
use serde::Deserialize;
use serde_json::json;

/// Reads the files, and defines how queries are asked and what is fetched is re-ranked.
const COMMON: &str = include_str!("common.py");

/// A rival: a script that follows `common.py` and calls `run`.
#[derive(Debug, Clone, Copy)]
pub struct Rival {
    /// What its scripts import.
    pub environment: Environment,
    /// The script.
    pub script: &'static str,
    /// How it is set up and called; every report repeats it.
    pub note: &'static str,
    /// How good its answers must be.
    pub promise: Promise,
}

/// What a script tells beside the times.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Details {
    /// Ids of every query's answer.
    answers: Vec<Vec<u32>>,
    /// What it was set to.
    setting: String,
}

impl Rival {
    /// Measures `work`.
    ///
    /// # Errors
    /// [`BenchError::Invalid`] if there is no Python 3.12 with the packages, or the script fails.
    pub fn measure(&self, bench: &mut Bench, work: Work) -> Result<(), BenchError> {
        let invalid = |error: memory_store_contest::FileError| BenchError::Invalid(error.to_string());
        let corpus = Corpus::shared().map_err(invalid)?;
        let question = match work {
            Work::Answer(question) => question,
            Work::Append | Work::Among { .. } => Question::Composite,
        };
        let truth = Truth::of(&corpus, question).map_err(invalid)?;
        let kind = match work {
            Work::Append => "append",
            _ if question.is_composite() => "composite",
            _ => "similarity",
        };
        let prefetch = match work {
            Work::Among { prefetch } => prefetch,
            _ => PREFETCH,
        };
        let arguments = json!({
            "kind": kind, "folder": corpus.folder(), "k": question.k(), "prefetch": prefetch, "least": truth.least(),
        });
        bench.note(self.note);
        let outcome: Outcome<Details> = self.environment.measure(bench, self.script().as_str(), arguments)?;
        bench.note(outcome.details.setting);
        if work == Work::Append {
            bench.proof(outcome.operations + MEMORIES as u64, outcome.observed);
            return Ok(());
        }
        measure_answers(bench, &corpus, question, self.promise, &outcome.details.answers)
    }

    fn script(&self) -> String {
        format!("{COMMON}\n\n{}", self.script)
    }
}
