//! Stored histories against the workflows of today: whether a deployment fits what is under way.
//!
//! A program of a few lines is all that it takes; CI runs it before a new version goes out:
//!
//! ```
//! use std::process::ExitCode;
//! use bridge_orchestrator::{Registry, replay};
//! use event_store::MemoryStore;
//! # use bridge_orchestrator::{Ctx, Workflow, WorkflowError};
//! # struct Order;
//! # impl Workflow for Order {
//! #     type Input = ();
//! #     type Output = ();
//! #     const TYPE: &'static str = "order";
//! #     async fn run(_: Ctx, (): ()) -> Result<(), WorkflowError> { Ok(()) }
//! # }
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> ExitCode {
//!     let store = MemoryStore::new(); // or the store of production, or a dump
//!     replay::main(&Registry::new().register::<Order>(), &store).await
//! }
//! ```
//!
//! | histories | the store |
//! |---|---|
//! | of production | `PostgresStore::connect(..)`, as its application does |
//! | from a file that `es dump` wrote | a `MemoryStore` filled by `event_store::cloudevents::import` (with `ImportOptions::renumber_streams`, because executions that went on as new have journals that do not begin at 0) |
//! | of a test | the store that the test's engine had |
//!
//! # What is compared
//!
//! Each answer in the journal against what the function awaits under its number, and the end, with its value, against what the function comes
//! to. A step that is not in the journal yet may be another one tomorrow: nothing has happened that says otherwise. Runs before a
//! continue-as-new do not count any more.
//!
//! # Guarantees
//!
//! Nothing is written, no step runs, no child is started, no timer waits, no engine is needed; the store is only read. Workflow functions run,
//! and their panics are differences. One journal is in memory at a time.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use event_store::EventStore;

use crate::engine::{HistoryRecord, Registry, executions, read_history, rerun};
use crate::error::Error;
use crate::workflow::ExecutionId;

/// How a history fits the function of today.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Whose history it is.
    pub execution: ExecutionId,
    /// The type of its workflow; empty if its journal cannot be read.
    pub workflow: String,
    /// The version that it is run by; 0 if its journal cannot be read.
    pub version: u32,
    /// Records of its journal.
    pub records: usize,
    /// How it fits.
    pub verdict: Verdict,
}

/// How a history fits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The function does what the journal says.
    Fits,
    /// It does not.
    Differs(Difference),
    /// No workflow of its type and version is registered: that is as it should be where the execution has ended.
    Unregistered {
        /// Whether the execution has ended.
        has_ended: bool,
    },
    /// The journal is not one that this crate writes.
    Malformed(String),
}

/// Where a function leaves its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The number of what was awaited, counted from 0 over the run; `None` for an end.
    pub number: Option<u32>,
    /// The last records that fit, at most three.
    pub before: Vec<HistoryRecord>,
    /// The record that does not fit; `None` if the function breaks off behind all of them.
    pub record: Option<HistoryRecord>,
    /// What the journal has there.
    pub journal: String,
    /// What the function does there.
    pub function: String,
}

impl Report {
    /// Whether nothing speaks against the workflows as they are.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.verdict, Verdict::Fits | Verdict::Unregistered { has_ended: true })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { execution, workflow, version, .. } = self;
        match &self.verdict {
            Verdict::Fits => write!(f, "{execution} ({workflow} {version}): fits, {} records", self.records),
            Verdict::Unregistered { has_ended } => {
                let state = if *has_ended { "and has ended" } else { "and is under way" };
                write!(f, "{execution} ({workflow} {version}): not registered, {state}")
            }
            Verdict::Malformed(reason) => write!(f, "{execution}: its journal cannot be read: {reason}"),
            Verdict::Differs(difference) => write!(f, "{execution} ({workflow} {version}): differs{difference}"),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(number) = self.number {
            write!(f, " at number {number}")?;
        }
        for record in &self.before {
            write!(f, "\n    {record}")?;
        }
        if let Some(record) = &self.record {
            write!(f, "\n  ! {record}")?;
        }
        write!(f, "\n  - the journal: {}\n  + the function: {}", self.journal, self.function)
    }
}

/// Replays the histories of `ids`, or all that `store` has if there are none, and reports in that order.
///
/// # Errors
/// [`Error::RegisteredTwice`]; [`Error::NotFound`] for an id without a journal; [`Error::Read`].
///
/// # Cost
/// One pass over the store to find all executions, then one read of each journal.
pub async fn check<S: EventStore>(registry: &Registry, store: &S, ids: &[ExecutionId]) -> Result<Vec<Report>, Error> {
    registry.check()?;
    let all;
    let ids = if ids.is_empty() {
        all = executions(store).await?;
        &all
    } else {
        ids
    };
    let mut reports = Vec::with_capacity(ids.len());
    for id in ids {
        reports.push(check_one(registry, store, id).await?);
    }
    Ok(reports)
}

async fn check_one<S: EventStore>(registry: &Registry, store: &S, id: &ExecutionId) -> Result<Report, Error> {
    let report =
        |workflow, version, records, verdict| Ok(Report { execution: id.clone(), workflow, version, records, verdict });
    let journal = match read_history(store, id).await {
        Ok(journal) if journal.is_empty() => return Err(Error::NotFound(id.clone())),
        Ok(journal) => journal,
        Err(error @ Error::Malformed { .. }) => {
            return report(String::new(), 0, 0, Verdict::Malformed(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    let (workflow, version) = journal.iter().rev().find_map(|entry| entry.record.workflow()).unwrap_or_default();
    report(workflow.to_owned(), version, journal.len(), rerun(registry, id, &journal))
}

/// The body of a program that replays: takes ids of executions from the arguments, or all that the store has, prints a line for each one, or what
/// differs, and a summary.
///
/// Returns 0 if all fit, 1 if one does not, 2 if they could not be looked at.
pub async fn main<S: EventStore>(registry: &Registry, store: &S) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(registry, store, &arguments, &mut std::io::stdout()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}

async fn run<S: EventStore>(
    registry: &Registry,
    store: &S,
    arguments: &[String],
    out: &mut (impl Write + Send),
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    if let Some(option) = arguments.iter().find(|argument| argument.starts_with('-')) {
        return Err(format!("{option}: the arguments are ids of executions; without any, all are replayed").into());
    }
    registry.check()?;
    let ids = arguments.iter().map(ExecutionId::new).collect::<Result<Vec<_>, _>>()?;
    let ids = if ids.is_empty() { executions(store).await? } else { ids };
    let mut bad = 0;
    for id in &ids {
        let report = check_one(registry, store, id).await?;
        bad += usize::from(!report.is_good());
        writeln!(out, "{report}")?;
    }
    writeln!(out, "{} of {} histories do not fit", bad, ids.len())?;
    Ok(bad == 0)
}

#[cfg(test)]
mod tests {
    use event_store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn arguments_are_ids_and_nothing_else() {
        let (registry, store) = (Registry::new(), MemoryStore::new());
        let mut out = Vec::new();
        assert!(run(&registry, &store, &[], &mut out).await.expect("an empty store fits"));
        assert_eq!(String::from_utf8_lossy(&out), "0 of 0 histories do not fit\n");
        for bad in ["--help", "unknown", ""] {
            assert!(run(&registry, &store, &[bad.to_owned()], &mut out).await.is_err(), "{bad}");
        }
    }
}
