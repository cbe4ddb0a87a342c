//! Snapshots: the state of an aggregate at a version, so that a load need not replay every event.

use std::future::Future;
use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;

use crate::event::{StreamVersion, Timestamp};
use crate::name::StreamId;

/// The state of an aggregate after the event at `version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The aggregate's stream.
    pub stream: StreamId,
    /// What kind of aggregate it is.
    pub aggregate_type: String,
    /// The last event that the state includes.
    pub version: StreamVersion,
    /// Version of the state's schema.
    pub schema_version: u16,
    /// The state.
    pub state: Bytes,
    /// When it was taken.
    pub time: Timestamp,
}

impl Snapshot {
    /// Whether a load may start from this snapshot: it is of the schema that the caller reads, and the stream has reached its
    /// version (`head` is the stream's last). A snapshot ahead of its stream comes from a log that was restored to an earlier
    /// state, and tells of events that never were.
    #[must_use]
    pub fn is_usable(&self, head: Option<StreamVersion>, schema_version: u16) -> bool {
        self.schema_version == schema_version && head.is_some_and(|head| self.version <= head)
    }
}

/// When to take a snapshot.
///
/// ```
/// use std::num::NonZeroU64;
/// use std::time::Duration;
/// use event_store::SnapshotPolicy;
///
/// let policy = SnapshotPolicy::EveryN(NonZeroU64::new(100).expect("not zero"));
/// assert!(!policy.is_due(99, Duration::ZERO));
/// assert!(policy.is_due(100, Duration::ZERO));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SnapshotPolicy {
    /// Never.
    Never,
    /// When this many events have come since the last one.
    EveryN(NonZeroU64),
    /// When replaying the events since the last one took this long.
    ReplayCost(Duration),
}

impl SnapshotPolicy {
    /// Whether to take one now: `events` came since the last snapshot (or since the beginning), and replaying them took
    /// `replay`. Nothing new is never worth a snapshot.
    #[must_use]
    pub fn is_due(self, events: u64, replay: Duration) -> bool {
        events > 0
            && match self {
                Self::Never => false,
                Self::EveryN(count) => events >= count.get(),
                Self::ReplayCost(cost) => replay >= cost,
            }
    }
}

/// Why a snapshot could not be saved or loaded. The in-memory store has no such reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The store cannot be used now, or its answer was lost: a snapshot may have been saved all the same, as a whole. To save it again does
    /// no harm.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// Keeps the last snapshot of each stream.
pub trait SnapshotStore: Send + Sync + 'static {
    /// Saves `snapshot` in place of the stream's last one.
    ///
    /// # Errors
    /// [`SnapshotError`]; the last snapshot is what it was then, or this one.
    fn save_snapshot(&self, snapshot: Snapshot) -> impl Future<Output = Result<(), SnapshotError>> + Send;

    /// The last snapshot of `stream` if it is usable ([`Snapshot::is_usable`]) for a reader of `schema_version`.
    ///
    /// # Errors
    /// [`SnapshotError`].
    fn load_snapshot(
        &self,
        stream: &StreamId,
        schema_version: u16,
    ) -> impl Future<Output = Result<Option<Snapshot>, SnapshotError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_decide_by_their_own_measure_alone() {
        let five = NonZeroU64::new(5).expect("not zero");
        let second = Duration::from_secs(1);
        for (policy, events, replay, due) in [
            (SnapshotPolicy::Never, u64::MAX, Duration::MAX, false),
            (SnapshotPolicy::EveryN(five), 4, Duration::MAX, false),
            (SnapshotPolicy::EveryN(five), 5, Duration::ZERO, true),
            (SnapshotPolicy::EveryN(five), 0, Duration::MAX, false),
            (SnapshotPolicy::ReplayCost(second), u64::MAX, Duration::from_millis(999), false),
            (SnapshotPolicy::ReplayCost(second), 1, second, true),
            (SnapshotPolicy::ReplayCost(Duration::ZERO), 0, second, false),
        ] {
            assert_eq!(policy.is_due(events, replay), due, "{policy:?} after {events} events and {replay:?}");
        }
    }
}
