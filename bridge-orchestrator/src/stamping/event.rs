//! What is told of stamping workflows.

use std::future::Future;

use event_store::{RecordedEvent, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::journal::Change;
use super::response::{StepOutcome, StepResult, StepStatus};
use super::service::ServiceError;
use super::state::StampState;

/// The original's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StampEvent {
    /// Its steps begin.
    WorkflowStarted,
    /// It has a stamp.
    WorkflowCompleted,
    /// It has none.
    WorkflowFailed,
    /// A step is done.
    StepCompleted,
    /// The intelligence service was asked.
    IntelligenceRequested,
    /// It has answered.
    IntelligenceReceived,
    /// A stamp was made.
    StampCreated,
    /// The content's hash was made.
    HashGenerated,
    /// It stands elsewhere.
    StateTransition,
}

impl StampEvent {
    /// Its name, behind the namespace the topic.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkflowStarted => "stamp_workflow_started",
            Self::WorkflowCompleted => "stamp_workflow_completed",
            Self::WorkflowFailed => "stamp_workflow_failed",
            Self::StepCompleted => "workflow_step_completed",
            Self::IntelligenceRequested => "onextree_intelligence_requested",
            Self::IntelligenceReceived => "onextree_intelligence_received",
            Self::StampCreated => "metadata_stamp_created",
            Self::HashGenerated => "blake3_hash_generated",
            Self::StateTransition => "workflow_state_transition",
        }
    }
}

/// An event that is told.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// The same whenever this event is told: what a receiver that wants each once keeps.
    pub id: Uuid,
    /// `{namespace}.{event}`.
    pub topic: String,
    /// What happened.
    pub event: StampEvent,
    /// The execution.
    pub workflow_id: String,
    /// When it was journalled.
    pub at: Timestamp,
    /// What there is to say: an object with `workflow_id`, `timestamp` (microseconds since 1970) and what the event is about.
    pub payload: Value,
}

/// Where events are told: a message bus, a queue.
pub trait Publisher: Send + Sync + 'static {
    /// Tells one. After an error, and after a crash, it is told again.
    fn publish(&self, message: &Message) -> impl Future<Output = Result<(), ServiceError>> + Send;
}

/// A workflow as its journal has told of it so far.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    namespace: String,
    pub(super) state: StampState,
    pub(super) began: Timestamp,
    stamp_id: Option<String>,
    file_hash: Option<String>,
}

/// Messages of one event of the journal.
struct Told<'a> {
    event: &'a RecordedEvent,
    workflow_id: &'a str,
    messages: Vec<Message>,
}

impl Tracked {
    pub(super) fn new(at: Timestamp) -> Self {
        let (namespace, state) = (String::new(), StampState::Pending);
        Self { namespace, state, began: at, stamp_id: None, file_hash: None }
    }

    /// Takes a change in, and says what is to be told of it, in order.
    pub(super) fn apply(&mut self, event: &RecordedEvent, workflow_id: &str, change: Change) -> Vec<Message> {
        let mut told = Told { event, workflow_id, messages: Vec::new() };
        match change {
            Change::Began(began) => {
                *self = Self { namespace: began.request.namespace().to_owned(), ..Self::new(event.time()) };
                if began.is_processing {
                    self.begin(&mut told);
                }
            }
            Change::BeganOther => {}
            Change::Resumed => {
                self.began = event.time();
                self.begin(&mut told);
            }
            Change::Steps(results) => {
                self.begin(&mut told);
                for result in results {
                    self.step(&mut told, &result);
                }
            }
            Change::Completed => {
                self.go(&mut told, StampState::Completed);
                let data =
                    json!({ "stamp_id": self.stamp_id, "file_hash": self.file_hash, "namespace": self.namespace });
                self.tell(&mut told, StampEvent::WorkflowCompleted, data);
            }
            Change::Failed(failure) => {
                self.go(&mut told, StampState::Failed);
                let data = json!({ "error": failure.message, "error_type": failure.code });
                self.tell(&mut told, StampEvent::WorkflowFailed, data);
            }
        }
        told.messages
    }

    /// Its steps begin, if they have not.
    fn begin(&mut self, told: &mut Told<'_>) {
        if self.go(told, StampState::Processing) {
            self.tell(told, StampEvent::WorkflowStarted, json!({ "state": self.state }));
        }
    }

    fn go(&mut self, told: &mut Told<'_>, target: StampState) -> bool {
        let Ok(next) = self.state.advance(target) else { return false };
        let from = std::mem::replace(&mut self.state, next);
        self.tell(told, StampEvent::StateTransition, json!({ "from_state": from, "to_state": next }));
        true
    }

    fn step(&mut self, told: &mut Told<'_>, result: &StepResult) {
        match &result.outcome {
            StepOutcome::Validation => {}
            StepOutcome::HashGeneration { file_hash, file_size_bytes } => {
                let data = json!({ "file_hash": file_hash, "generation_time_ms": result.duration_ms,
                    "file_size_bytes": file_size_bytes });
                self.file_hash = Some(file_hash.clone());
                self.tell(told, StampEvent::HashGenerated, data);
            }
            StepOutcome::OnextreeIntelligence { .. } => {
                self.tell(told, StampEvent::IntelligenceRequested, json!({}));
                if result.status == StepStatus::Success {
                    let data = json!({ "analysis_time_ms": result.duration_ms });
                    self.tell(told, StampEvent::IntelligenceReceived, data);
                }
            }
            StepOutcome::StampCreation { stamp_id, .. } => {
                self.stamp_id = Some(stamp_id.clone());
                let data = json!({ "stamp_id": stamp_id, "creation_time_ms": result.duration_ms });
                self.tell(told, StampEvent::StampCreated, data);
            }
        }
        let data =
            json!({ "step_type": result.outcome.step_type(), "step_id": result.step_id, "status": result.status });
        self.tell(told, StampEvent::StepCompleted, data);
    }

    fn tell(&self, told: &mut Told<'_>, event: StampEvent, data: Value) {
        let at = told.event.time();
        let mut payload = Map::new();
        payload.insert("workflow_id".to_owned(), told.workflow_id.into());
        payload.insert("timestamp".to_owned(), at.as_micros().into());
        if let Value::Object(data) = data {
            payload.extend(data);
        }
        let number = told.messages.len().to_le_bytes();
        told.messages.push(Message {
            id: Uuid::new_v5(told.event.id().as_uuid(), &number),
            topic: format!("{}.{}", self.namespace, event.as_str()),
            event,
            workflow_id: told.workflow_id.to_owned(),
            at,
            payload: Value::Object(payload),
        });
    }
}
