//! Journals as people read them, and which there are.

use std::collections::HashSet;
use std::fmt;
use std::pin::pin;

use event_store::{EventStore, Query, QueryItem, Read, RecordedEvent, StreamVersion, Timestamp};
use futures_util::StreamExt as _;

use super::record::{Cause, Record, event_type, kind};
use crate::error::Error;
use crate::workflow::{ExecutionId, STREAM_PREFIX};

/// One record of a journal, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryRecord {
    /// Its place in the journal, counted from 0; records before a continue-as-new are removed and keep their places.
    pub place: u64,
    /// What kind it is: `started`, `step.completed`, `timer.fired`, …
    pub kind: String,
    /// What it answers: the number of what the function awaited, counted from 0 over the run. `None` if it answers nothing.
    pub number: Option<u32>,
    /// Name of the workflow, step, signal, child or patch; cause of a cancellation; empty if it has none.
    pub name: String,
    /// When it was made.
    pub time: Timestamp,
    /// Bytes of its value: an input, a result, a signal's payload, a failure.
    pub bytes: usize,
}

impl fmt::Display for HistoryRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}  {}", self.place, self.kind)?;
        if let Some(number) = self.number {
            write!(f, " of number {number}")?;
        }
        if !self.name.is_empty() {
            write!(f, ", {}", self.name)?;
        }
        write!(f, " ({} bytes)", self.bytes)
    }
}

/// A record as it is read, and as it counts.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) shown: HistoryRecord,
    pub(crate) record: Record,
}

impl Entry {
    fn of(event: &RecordedEvent) -> Result<Self, String> {
        let record = Record::decode(event).map_err(|error| error.to_string())?;
        let name = event.event_type().as_str();
        let shown = HistoryRecord {
            place: event.stream_version().unwrap_or(StreamVersion::FIRST).get(),
            kind: name.strip_prefix("workflow.").unwrap_or(name).to_owned(),
            number: record.number(),
            name: record.name().into_owned(),
            time: event.time(),
            bytes: event.payload().len(),
        };
        Ok(Self { shown, record })
    }
}

/// Reads a journal; it is empty if there is none.
pub(crate) async fn read_history<S: EventStore>(store: &S, id: &ExecutionId) -> Result<Vec<Entry>, Error> {
    let mut events = pin!(store.read(Read::stream(id.stream())));
    let mut entries = Vec::new();
    while let Some(event) = events.next().await {
        let event = event?;
        entries.push(Entry::of(&event).map_err(|reason| Error::Malformed {
            execution: id.as_str().to_owned(),
            version: event.stream_version().unwrap_or(StreamVersion::FIRST).get(),
            reason,
        })?);
    }
    Ok(entries)
}

/// Reads of all journals what is of these kinds, the first record first.
pub(super) fn of_kinds(kinds: impl IntoIterator<Item = &'static str>) -> Read {
    let item = QueryItem::types(kinds.into_iter().map(event_type)).expect("there are kinds, and not too many");
    Read::query(Query::item(item))
}

/// The execution whose journal an event stands in.
pub(super) fn execution_of(event: &RecordedEvent) -> Option<ExecutionId> {
    let (stream, _) = event.stream()?;
    ExecutionId::new(stream.as_str().strip_prefix(STREAM_PREFIX)?).ok()
}

/// Every execution that has a journal in the store, in the order in which they, or their latest runs, have begun.
pub(crate) async fn executions<S: EventStore>(store: &S) -> Result<Vec<ExecutionId>, Error> {
    let mut events = pin!(store.read(of_kinds([kind::STARTED, kind::CONTINUED])));
    let (mut seen, mut ids) = (HashSet::new(), Vec::new());
    while let Some(event) = events.next().await {
        if let Some(id) = execution_of(&event?)
            && seen.insert(id.clone())
        {
            ids.push(id);
        }
    }
    Ok(ids)
}

impl Record {
    /// What it is, in a report.
    pub(super) fn in_short(&self) -> String {
        match self {
            Self::StepDone { name, .. } | Self::AttemptFailed { name, .. } => format!("step {name}"),
            Self::TimerFired { .. } => "a timer".to_owned(),
            Self::Signalled { name, .. } => format!("signal {name}"),
            Self::ChildDone { child, .. } => format!("child {child}"),
            Self::CancelRequested { .. } => "cancellation".to_owned(),
            Self::Patched { id } => format!("patch {id}"),
            _ => "something".to_owned(),
        }
    }

    /// Bytes of its value.
    pub(super) fn value_bytes(&self) -> usize {
        match self {
            Self::StepDone { outcome, .. } | Self::ChildDone { outcome, .. } => match outcome {
                Ok(value) => value.len(),
                Err(failure) => failure.message.len(),
            },
            Self::AttemptFailed { failure, .. } => failure.message.len(),
            Self::Signalled { payload, .. } => payload.len(),
            _ => 0,
        }
    }

    /// The number of what it answers.
    pub(super) fn number(&self) -> Option<u32> {
        match self {
            Self::StepDone { seq, .. }
            | Self::AttemptFailed { seq, .. }
            | Self::TimerFired { seq }
            | Self::ChildDone { seq, .. } => Some(*seq),
            _ => None,
        }
    }

    fn name(&self) -> std::borrow::Cow<'_, str> {
        match self {
            Self::Started(started) | Self::ContinuedAsNew(started) => started.workflow.as_str().into(),
            Self::StepDone { name, .. } | Self::AttemptFailed { name, .. } => name.as_ref().into(),
            Self::Signalled { name, .. } => name.as_str().into(),
            Self::ChildDone { child, .. } => child.as_str().into(),
            Self::Patched { id } => id.as_str().into(),
            Self::CancelRequested { cause, .. } => match cause {
                Cause::Asked => "asked for".into(),
                Cause::Deadline => "deadline".into(),
                Cause::Parent => "parent".into(),
            },
            _ => "".into(),
        }
    }
}
