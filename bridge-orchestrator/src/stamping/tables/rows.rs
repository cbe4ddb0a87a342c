//! Rows of the tables.

use event_store::Timestamp;
use event_store::tokio_postgres::{Error, Row};
use serde_json::Value;

use super::TablesError;
use crate::stamping::response::StepResult;
use crate::stamping::state::StampState;

/// A row of `workflow_executions`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WorkflowRow {
    /// The execution.
    pub correlation_id: String,
    /// `metadata_stamping`.
    pub workflow_type: String,
    /// Where it stands.
    pub current_state: StampState,
    /// Whose it is.
    pub namespace: String,
    /// The session that it belongs to.
    pub session_id: Option<String>,
    /// Its stamp, once it has one.
    pub stamp_id: Option<String>,
    /// BLAKE3 of its content, once it is hashed.
    pub file_hash: Option<String>,
    /// Where its content is from.
    pub file_path: String,
    /// Bytes of its content.
    pub file_size_bytes: u64,
    /// What its content is.
    pub content_type: String,
    /// The steps that were done, in their order.
    pub workflow_steps: Vec<StepResult>,
    /// What the intelligence service said; an object.
    pub intelligence_data: Option<Value>,
    /// What the hash took, in milliseconds.
    pub hash_generation_time_ms: Option<f64>,
    /// From the beginning of its steps to its end, in milliseconds.
    pub execution_time_ms: Option<f64>,
    /// What kind of failure it ended with, and what happened.
    pub error: Option<(String, String)>,
    /// What the request wants in the stamp.
    pub metadata: Value,
    /// When it was started.
    pub created_at: Timestamp,
    /// When its steps began.
    pub started_at: Option<Timestamp>,
    /// When it ended, well or not.
    pub completed_at: Option<Timestamp>,
    /// When the row was last changed, in the time of the journal.
    pub updated_at: Timestamp,
}

/// A row of `bridge_states`: what the workflows of a namespace that ended within a window come to.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BridgeState {
    /// Which row it is.
    pub bridge_id: String,
    /// Whose workflows they are.
    pub namespace: String,
    /// `time_window`.
    pub aggregation_type: String,
    /// The first moment of the window.
    pub window_start: Timestamp,
    /// The first moment behind it.
    pub window_end: Timestamp,
    /// The state of the workflow that ended last.
    pub current_fsm_state: StampState,
    /// How many have ended, well or not.
    pub total_workflows_processed: u64,
    /// How many have a stamp.
    pub total_items_aggregated: u64,
    /// Bytes of what was stamped.
    pub total_size_bytes: u64,
    /// Types of what was stamped, in the order in which they came, 100 at most.
    pub unique_file_types: Vec<String>,
    /// The first workflows, 100 at most.
    pub sample_workflows: Vec<String>,
    /// When the last one ended.
    pub last_aggregation_timestamp: Timestamp,
    /// The application's own.
    pub aggregation_metadata: Value,
    /// The application's own.
    pub configuration: Value,
    /// One more with each change.
    pub version: u64,
}

/// Columns of a [`WorkflowRow`], in the order in which it is read.
pub(super) const WORKFLOW: &str = "correlation_id, workflow_type, current_state, namespace, session_id, stamp_id, file_hash, file_path,
    file_size_bytes, content_type, workflow_steps::text, intelligence_data::text, hash_generation_time_ms, execution_time_ms,
    error_code, error_message, metadata::text, (extract(epoch FROM created_at) * 1000000)::bigint,
    (extract(epoch FROM started_at) * 1000000)::bigint, (extract(epoch FROM completed_at) * 1000000)::bigint,
    (extract(epoch FROM updated_at) * 1000000)::bigint";

/// Columns of a [`BridgeState`].
pub(super) const BRIDGE: &str = "bridge_id, namespace, aggregation_type, (extract(epoch FROM window_start) * 1000000)::bigint,
    (extract(epoch FROM window_end) * 1000000)::bigint, current_fsm_state, total_workflows_processed, total_items_aggregated,
    total_size_bytes, unique_file_types, sample_workflows, (extract(epoch FROM last_aggregation_timestamp) * 1000000)::bigint,
    aggregation_metadata::text, configuration::text, version";

fn malformed(what: &str, why: impl std::fmt::Display) -> TablesError {
    TablesError::Malformed(format!("{what}: {why}"))
}

fn state(name: &str) -> Result<StampState, TablesError> {
    StampState::parse(name).ok_or_else(|| malformed("a state", name))
}

fn number(row: &Row, at: usize) -> Result<u64, TablesError> {
    let found: i64 = row.try_get(at)?;
    u64::try_from(found).map_err(|error| malformed("a number", error))
}

fn time(row: &Row, at: usize) -> Result<Timestamp, Error> {
    row.try_get(at).map(Timestamp::from_micros)
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, TablesError> {
    serde_json::from_str(text).map_err(|error| malformed("JSON", error))
}

impl WorkflowRow {
    pub(super) fn read(row: &Row) -> Result<Self, TablesError> {
        let optional = |at| row.try_get::<_, Option<i64>>(at).map(|micros| micros.map(Timestamp::from_micros));
        let code: Option<String> = row.try_get(14)?;
        let message: Option<String> = row.try_get(15)?;
        Ok(Self {
            correlation_id: row.try_get(0)?,
            workflow_type: row.try_get(1)?,
            current_state: state(row.try_get(2)?)?,
            namespace: row.try_get(3)?,
            session_id: row.try_get(4)?,
            stamp_id: row.try_get(5)?,
            file_hash: row.try_get(6)?,
            file_path: row.try_get(7)?,
            file_size_bytes: number(row, 8)?,
            content_type: row.try_get(9)?,
            workflow_steps: json(row.try_get(10)?)?,
            intelligence_data: row.try_get::<_, Option<&str>>(11)?.map(json).transpose()?,
            hash_generation_time_ms: row.try_get(12)?,
            execution_time_ms: row.try_get(13)?,
            error: code.map(|code| (code, message.unwrap_or_default())),
            metadata: json(row.try_get(16)?)?,
            created_at: time(row, 17)?,
            started_at: optional(18)?,
            completed_at: optional(19)?,
            updated_at: time(row, 20)?,
        })
    }
}

impl BridgeState {
    pub(super) fn read(row: &Row) -> Result<Self, TablesError> {
        Ok(Self {
            bridge_id: row.try_get(0)?,
            namespace: row.try_get(1)?,
            aggregation_type: row.try_get(2)?,
            window_start: time(row, 3)?,
            window_end: time(row, 4)?,
            current_fsm_state: state(row.try_get(5)?)?,
            total_workflows_processed: number(row, 6)?,
            total_items_aggregated: number(row, 7)?,
            total_size_bytes: number(row, 8)?,
            unique_file_types: row.try_get(9)?,
            sample_workflows: row.try_get(10)?,
            last_aggregation_timestamp: time(row, 11)?,
            aggregation_metadata: json(row.try_get(12)?)?,
            configuration: json(row.try_get(13)?)?,
            version: number(row, 14)?,
        })
    }
}
