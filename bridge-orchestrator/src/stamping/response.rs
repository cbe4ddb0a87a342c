//! What steps and workflows end with.

use std::collections::BTreeMap;

use event_store::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::StampState;

/// What a stamping workflow completes with: the original's fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StampResponse {
    /// Which stamp it is.
    pub stamp_id: String,
    /// BLAKE3 of the content, 64 hexadecimal digits.
    pub file_hash: String,
    /// The content behind a line that names the stamp.
    pub stamped_content: String,
    /// What the stamp says.
    pub stamp_metadata: BTreeMap<String, String>,
    /// Whose it is.
    pub namespace: String,
    /// The operation, which is the workflow.
    pub op_id: String,
    /// Version of the stamp: 1.
    pub version: u32,
    /// Version of its metadata: `0.1`.
    pub metadata_version: String,
    /// [`StampState::Completed`].
    pub workflow_state: StampState,
    /// The execution.
    pub workflow_id: String,
    /// What the intelligence service said, or that it said nothing (`confidence_score` of `0.0`); `None` if it was not to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intelligence_data: Option<BTreeMap<String, String>>,
    /// From the beginning of the workflow to its last step, in milliseconds of the journal's time.
    pub processing_time_ms: f64,
    /// What the hash took, in milliseconds.
    pub hash_generation_time_ms: f64,
    /// How many steps were done.
    pub workflow_steps_executed: u32,
    /// When the workflow began; in JSON microseconds since 1970.
    #[serde(with = "micros")]
    pub created_at: Timestamp,
    /// When its last step was done; in JSON microseconds since 1970.
    #[serde(with = "micros")]
    pub completed_at: Timestamp,
}

/// What a step has done, as it stands in the journal and in the tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// Its name in the request.
    pub step_id: String,
    /// How it ended.
    pub status: StepStatus,
    /// What it took, in milliseconds.
    pub duration_ms: f64,
    /// What it found.
    #[serde(flatten)]
    pub outcome: StepOutcome,
}

/// How a step ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// As it should.
    Success,
    /// With something second best.
    Degraded,
}

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step_type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepOutcome {
    /// The input is valid.
    Validation,
    /// The content's hash.
    HashGeneration {
        /// BLAKE3, 64 hexadecimal digits.
        file_hash: String,
        /// Bytes of the content.
        file_size_bytes: u64,
    },
    /// What the intelligence service says.
    OnextreeIntelligence {
        /// `analysis_type`, `confidence_score`, `recommendations`, `analyzed_at`.
        intelligence_data: BTreeMap<String, String>,
        /// Why it is a fallback, if it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The stamp.
    StampCreation {
        /// Which it is.
        stamp_id: String,
        /// What it says.
        stamp_data: BTreeMap<String, String>,
    },
}

impl StepOutcome {
    /// The `step_type` by which requests ask for it.
    #[must_use]
    pub fn step_type(&self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::HashGeneration { .. } => "hash_generation",
            Self::OnextreeIntelligence { .. } => "onextree_intelligence",
            Self::StampCreation { .. } => "stamp_creation",
        }
    }
}

mod micros {
    use event_store::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(time.as_micros())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_micros)
    }
}
