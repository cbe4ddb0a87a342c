//! Random histories, judged by the checker.

use std::sync::Arc;

use super::{Outcome, list_cases};
use crate::snapshot::SnapshotStore;
use crate::store::EventStore;
use crate::testkit::{Exercise, History, check, exercise};

list_cases![a_random_history_has_no_anomalies];

async fn a_random_history_has_no_anomalies<S: EventStore + SnapshotStore>(store: Arc<S>) -> Outcome {
    judge(&exercise(&store, Exercise { seed: 1, ..Exercise::default() }).await)
}

pub(super) fn judge(history: &History) -> Outcome {
    match check(history) {
        Ok(summary) if summary.appended > 0 && summary.reads > 0 => Ok(()),
        Ok(summary) => Err(format!("nothing happened: {summary}")),
        Err(anomalies) => Err(anomalies.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    }
}
