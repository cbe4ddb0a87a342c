//! Snapshots beside a store that keeps none.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use futures::Stream;

use crate::append::{Append, Appended};
use crate::error::{AppendError, ReadError, RemoveError};
use crate::event::{Position, StreamVersion};
use crate::name::StreamId;
use crate::read::Read;
use crate::recorded::RecordedEvent;
use crate::snapshot::{Snapshot, SnapshotError, SnapshotStore};
use crate::store::EventStore;
use crate::subscription::{Subscribe, Subscription};

/// A store of events with a plain map of snapshots beside it: what recorders and exercises need of a store that keeps none.
#[derive(Debug)]
pub struct WithSnapshots<S> {
    store: S,
    snapshots: Mutex<HashMap<StreamId, Snapshot>>,
}

impl<S: EventStore> WithSnapshots<S> {
    /// `store`, with no snapshots yet.
    pub fn new(store: S) -> Self {
        Self { store, snapshots: Mutex::default() }
    }
}

impl<S: EventStore> EventStore for WithSnapshots<S> {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.store.append(append).await
    }

    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        self.store.read(read)
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        self.store.subscribe(subscribe)
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.store.head().await
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        self.store.stream_version(stream).await
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        let removed = self.store.truncate_stream(stream, before).await?;
        if let Ok(None) = self.store.stream_version(stream).await {
            self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).remove(stream);
        }
        Ok(removed)
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        let removed = self.store.delete_stream(stream).await?;
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).remove(stream);
        Ok(removed)
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self) -> Option<&crate::PostgresStore> {
        self.store.postgres()
    }
}

impl<S: EventStore> SnapshotStore for WithSnapshots<S> {
    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), SnapshotError> {
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshots.insert(snapshot.stream.clone(), snapshot);
        Ok(())
    }

    async fn load_snapshot(&self, stream: &StreamId, schema_version: u16) -> Result<Option<Snapshot>, SnapshotError> {
        let saved = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).get(stream).cloned();
        let version =
            self.store.stream_version(stream).await.map_err(|error| SnapshotError::Unavailable(error.to_string()))?;
        Ok(saved.filter(|snapshot| snapshot.is_usable(version, schema_version)))
    }
}
