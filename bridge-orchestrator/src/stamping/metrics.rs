//! How long things took.

use std::collections::BTreeMap;

use event_store::Timestamp;

use super::journal::Change;
use super::response::StepStatus;

/// Times of one kind of work, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct OperationMetrics {
    /// How many there were.
    pub total_operations: u64,
    /// Those that did what they should.
    pub successful_operations: u64,
    /// Those that failed, or ended with something second best.
    pub failed_operations: u64,
    /// All times together.
    pub total_time_ms: f64,
    /// The shortest; 0 if there was none.
    pub min_time_ms: f64,
    /// The longest.
    pub max_time_ms: f64,
}

impl OperationMetrics {
    /// The mean; 0 if there was none.
    #[must_use]
    pub fn avg_time_ms(&self) -> f64 {
        if self.total_operations == 0 { 0.0 } else { self.total_time_ms / self.total_operations as f64 }
    }

    fn add(&mut self, time_ms: f64, success: bool) {
        self.min_time_ms = if self.total_operations == 0 { time_ms } else { self.min_time_ms.min(time_ms) };
        self.max_time_ms = self.max_time_ms.max(time_ms);
        self.total_time_ms += time_ms;
        self.total_operations += 1;
        *(if success { &mut self.successful_operations } else { &mut self.failed_operations }) += 1;
    }
}

/// The original's metrics, by operation: `workflow_orchestration`, and the `step_type` of each step that has run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StampMetrics(BTreeMap<&'static str, OperationMetrics>);

impl StampMetrics {
    /// Those of an operation; all zero if there was none.
    #[must_use]
    pub fn get(&self, operation: &str) -> OperationMetrics {
        self.0.get(operation).copied().unwrap_or_default()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &OperationMetrics)> {
        self.0.iter().map(|(name, metrics)| (*name, metrics))
    }

    pub(super) fn add(&mut self, times: Vec<(&'static str, f64, bool)>) {
        for (operation, time_ms, success) in times {
            self.0.entry(operation).or_default().add(time_ms, success);
        }
    }
}

/// What a change says about times, of a workflow that `began` then: the operation, its milliseconds, whether it went well.
pub(super) fn times(began: Timestamp, at: Timestamp, change: &Change) -> Vec<(&'static str, f64, bool)> {
    let workflow = |success| {
        let time = (at.as_micros() - began.as_micros()) as f64 / 1e3;
        vec![("workflow_orchestration", time, success)]
    };
    match change {
        Change::Completed => workflow(true),
        Change::Failed(_) => workflow(false),
        Change::Steps(results) => results
            .iter()
            .map(|result| (result.outcome.step_type(), result.duration_ms, result.status == StepStatus::Success))
            .collect(),
        Change::Began(_) | Change::BeganOther | Change::Resumed => Vec::new(),
    }
}
