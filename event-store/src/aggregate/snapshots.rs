//! Snapshots of aggregates: what a repository does with them, for stores that keep any.

use std::marker::PhantomData;
use std::time::Duration;

use super::{Aggregate, SnapshotState};
use crate::event::{StreamVersion, Timestamp};
use crate::name::StreamId;
use crate::panics::caught;
use crate::snapshot::{Snapshot, SnapshotPolicy, SnapshotStore};
use crate::store::BoxFuture;

/// What a load had of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotUse {
    /// There was none that could be used, or the repository takes none: every event was replayed.
    None,
    /// The load began with the state after this version.
    Used(StreamVersion),
    /// There was one, and it was of no use: every event was replayed. The text says why.
    Ignored(String),
}

/// What became of the snapshot after a command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotOutcome {
    /// None was due.
    NotDue,
    /// One was saved, of the state after this version.
    Saved(StreamVersion),
    /// One was due and could not be taken or saved, for this reason. The command's events are appended all the same.
    Failed(String),
}

/// What a repository needs of snapshots, whatever its store and its aggregate can do.
pub(super) trait Snapshots<A, S>: Send + Sync {
    fn policy(&self) -> SnapshotPolicy;
    fn load<'a>(
        &'a self,
        store: &'a S,
        stream: &'a StreamId,
    ) -> BoxFuture<'a, (Option<(A, StreamVersion)>, SnapshotUse)>;
    /// The snapshot to save is made at once, so that no reference to the state is kept while the store saves it.
    fn save<'a>(
        &'a self,
        store: &'a S,
        stream: &StreamId,
        state: &A,
        version: StreamVersion,
    ) -> BoxFuture<'a, SnapshotOutcome>;
}

pub(super) struct ByPolicy<A> {
    pub(super) policy: SnapshotPolicy,
    pub(super) aggregate: PhantomData<fn() -> A>,
}

impl<A: SnapshotState, S: SnapshotStore> Snapshots<A, S> for ByPolicy<A> {
    fn policy(&self) -> SnapshotPolicy {
        self.policy
    }

    fn load<'a>(
        &'a self,
        store: &'a S,
        stream: &'a StreamId,
    ) -> BoxFuture<'a, (Option<(A, StreamVersion)>, SnapshotUse)> {
        Box::pin(async move {
            let snapshot = match store.load_snapshot(stream, A::SCHEMA).await {
                Ok(None) => return (None, SnapshotUse::None),
                Ok(Some(snapshot)) => snapshot,
                Err(error) => return (None, SnapshotUse::Ignored(error.to_string())),
            };
            if snapshot.schema_version != A::SCHEMA || snapshot.aggregate_type != A::TYPE {
                let found =
                    format!("it is of {} in schema version {}", snapshot.aggregate_type, snapshot.schema_version);
                return (None, SnapshotUse::Ignored(found));
            }
            match caught(|| A::from_snapshot(&snapshot.state)) {
                Ok(Ok(state)) => (Some((state, snapshot.version)), SnapshotUse::Used(snapshot.version)),
                Ok(Err(error)) => (None, SnapshotUse::Ignored(format!("it cannot be decoded: {error}"))),
                Err(message) => (None, SnapshotUse::Ignored(format!("decoding it panicked: {message}"))),
            }
        })
    }

    fn save<'a>(
        &'a self,
        store: &'a S,
        stream: &StreamId,
        state: &A,
        version: StreamVersion,
    ) -> BoxFuture<'a, SnapshotOutcome> {
        let state = caught(|| state.to_snapshot())
            .map_err(|message| format!("encoding it panicked: {message}"))
            .and_then(|state| state.map_err(|error| format!("it cannot be encoded: {error}")));
        let snapshot = state.map(|state| Snapshot {
            stream: stream.clone(),
            aggregate_type: A::TYPE.to_owned(),
            version,
            schema_version: A::SCHEMA,
            state,
            time: Timestamp::now(),
        });
        Box::pin(async move {
            match snapshot {
                Ok(snapshot) => match store.save_snapshot(snapshot).await {
                    Ok(()) => SnapshotOutcome::Saved(version),
                    Err(error) => SnapshotOutcome::Failed(error.to_string()),
                },
                Err(why) => SnapshotOutcome::Failed(why),
            }
        })
    }
}

/// What was replayed since the last snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Replayed {
    pub(super) events: u64,
    pub(super) took: Duration,
}

/// Whether a snapshot is due under `policy`.
pub(super) fn is_due<A: Aggregate, S>(snapshots: &dyn Snapshots<A, S>, replayed: Replayed) -> bool {
    snapshots.policy().is_due(replayed.events, replayed.took)
}
