//! What the journals of stamping workflows say.

use event_store::{Query, QueryItem, RecordedEvent};

use super::request::Request;
use super::response::StepResult;
use super::workflow::{STEP_PREFIX, Stamping};
use crate::engine::record::{Record, event_type, kind};
use crate::workflow::{Failure, STREAM_PREFIX, Workflow as _};

/// Why an event of a journal could not be read. It is told to the runner of the projection, which parks the event.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error("a record of a journal: {0}")]
    Record(String),
    #[error("the results of a step: {0}")]
    Results(serde_json::Error),
}

/// What an event is to those who look at stamping workflows. Steps and ends may be those of other workflows: who has not seen one begin knows
/// nothing of it.
#[derive(Debug)]
pub(super) enum Change {
    /// A stamping workflow began.
    Began(Box<Began>),
    /// Another workflow began.
    BeganOther,
    /// It goes on.
    Resumed,
    Steps(Vec<StepResult>),
    Completed,
    Failed(Failure),
}

#[derive(Debug)]
pub(super) struct Began {
    /// What it was started with; an empty one if that is no request.
    pub(super) request: Request,
    /// Whether its steps begin at once: not if it waits, and not if the request cannot be carried out.
    pub(super) is_processing: bool,
}

/// The events that matter.
pub(super) fn query() -> Query {
    let kinds = [kind::STARTED, kind::STEP_COMPLETED, kind::TIMER_FIRED, kind::COMPLETED, kind::FAILED];
    Query::item(QueryItem::types(kinds.map(event_type)).expect("there are types"))
}

/// The execution of an event and what it is; `None` if it is nothing to anybody.
pub(super) fn change(event: &RecordedEvent) -> Result<Option<(&str, Change)>, JournalError> {
    let Some(execution) = event.stream().and_then(|(stream, _)| stream.as_str().strip_prefix(STREAM_PREFIX)) else {
        return Ok(None);
    };
    let record = Record::decode(event).map_err(|error| JournalError::Record(error.to_string()))?;
    let change = match record {
        Record::Started(started) if started.workflow == Stamping::TYPE => {
            let request: Request = serde_json::from_slice(&started.input).unwrap_or_default();
            let is_processing = started.start_at.is_none() && request.plan().is_ok();
            Change::Began(Box::new(Began { request, is_processing }))
        }
        Record::Started(_) => Change::BeganOther,
        Record::TimerFired { .. } => Change::Resumed,
        Record::StepDone { name, outcome: Ok(results), .. } if name.starts_with(STEP_PREFIX) => {
            Change::Steps(serde_json::from_slice(&results).map_err(JournalError::Results)?)
        }
        Record::Completed { .. } => Change::Completed,
        Record::Failed { failure } => Change::Failed(failure),
        _ => return Ok(None),
    };
    Ok(Some((execution, change)))
}
