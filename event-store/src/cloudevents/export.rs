//! Events of a store, written as lines.

use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::pin;

use futures_core::Stream as _;

use super::line::{EventLine, WriteProblem};
use crate::error::ReadError;
use crate::event::Position;
use crate::read::Read;
use crate::store::EventStore;

/// What an export wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ExportReport {
    /// Lines, each an event.
    pub events: u64,
    /// Bytes of these lines.
    pub bytes: u64,
    /// Where the last of them stands: an export can go on behind it.
    pub last: Option<Position>,
}

/// Why an export broke off. What the report counts was written before.
#[derive(Debug, thiserror::Error)]
#[error("after {} events: {problem}", report.events)]
pub struct ExportError {
    /// What was written before.
    pub report: ExportReport,
    /// What happened.
    #[source]
    pub problem: ExportProblem,
}

/// What made an export break off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportProblem {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event has no form as a line, or the source is none.
    #[error(transparent)]
    Write(#[from] WriteProblem),
    /// The lines could not be written.
    #[error("the lines cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// Writes the events of `read` to `out`, a line each, in their order. `source` says where they come from, as a URI reference.
///
/// Writing blocks; `out` should be buffered, and is flushed at the end. Events that an upcaster split share an id, and cannot be
/// imported: what is to be imported is exported from the store itself.
///
/// Cost: holds one line at a time. Dropping the future leaves the lines that were written.
///
/// # Errors
/// [`ExportError`], with what was written before.
pub async fn export<S: EventStore>(
    store: &S,
    read: Read,
    source: &str,
    out: &mut (impl Write + Send),
) -> Result<ExportReport, ExportError> {
    let mut report = ExportReport::default();
    match write_all(store, read, source, out, &mut report).await {
        Ok(()) => Ok(report),
        Err(problem) => Err(ExportError { report, problem }),
    }
}

async fn write_all<S: EventStore>(
    store: &S,
    read: Read,
    source: &str,
    out: &mut (impl Write + Send),
    report: &mut ExportReport,
) -> Result<(), ExportProblem> {
    let mut events = pin!(store.read(read));
    let mut line = Vec::new();
    while let Some(event) = poll_fn(|context| events.as_mut().poll_next(context)).await {
        let event = event?;
        line.clear();
        EventLine::write(&event, source, &mut line)?;
        out.write_all(&line)?;
        report.events += 1;
        report.bytes += line.len() as u64;
        report.last = Some(event.position());
    }
    out.flush()?;
    Ok(())
}
