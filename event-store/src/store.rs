//! The store as a trait, and its object-safe twin.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream;

use crate::append::{Append, Appended};
use crate::error::{AppendError, ReadError, RemoveError};
use crate::event::{Position, StreamVersion};
use crate::name::StreamId;
#[cfg(feature = "postgres")]
use crate::postgres::PostgresStore;
use crate::read::Read;
use crate::recorded::RecordedEvent;
use crate::subscription::{Subscribe, Subscription};

/// An event store.
///
/// # Verdicts
/// An append is judged in this order, and the first reason counts: its size; its event ids (all known, in the same order with the
/// same content: the recorded result, [`Appended::deduplicated`]; otherwise any that is taken: [`AppendError::DuplicateEventId`]);
/// the expected versions in the order given; the condition's boundary; its existence guard. An append without events is judged
/// alike and writes nothing.
///
/// # Order
/// Positions are dense from 1 in the order of commits; versions are dense from 0 in each stream. A reader sees a prefix of the
/// order, and of an append all events or none.
///
/// # Cancellation
/// Every future may be dropped at any await point. An append that was not polled has not happened; one that was polled may have.
pub trait EventStore: Send + Sync + 'static {
    /// Writes all of `append` or nothing.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written, except possibly for [`AppendError::Unknown`].
    fn append(&self, append: Append) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    /// The events of `read`, as of the moment when the stream is first polled.
    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send;

    /// The events of `subscribe` from its cursor on, for ever.
    fn subscribe(&self, subscribe: Subscribe) -> Subscription;

    /// The last position; `None` for an empty store.
    ///
    /// # Errors
    /// [`ReadError`].
    fn head(&self) -> impl Future<Output = Result<Option<Position>, ReadError>> + Send;

    /// The version of the last event of a stream; `None` if it has none.
    ///
    /// # Errors
    /// [`ReadError`].
    fn stream_version(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Result<Option<StreamVersion>, ReadError>> + Send;

    /// Removes the events of `stream` with a version below `before`, and returns how many there were.
    ///
    /// Reads, queries, conditions and subscriptions from then on skip them as if they had never been; a read that is under way may still
    /// show some of them. Their positions stay used, the head included, and the versions of others stay as they are. Their ids are forgotten: a
    /// repetition of their append is an append like any other. A snapshot stays, and is not loaded if an event that it does not include
    /// is gone. If no event is left, this is [`EventStore::delete_stream`].
    ///
    /// What is removed is gone for aggregates too: a stream whose beginning lives on in a snapshot alone is rebuilt right only as long as that
    /// snapshot is of use. Before [`SnapshotState::SCHEMA`](crate::SnapshotState::SCHEMA) is raised, or the snapshot lost, such a stream has to
    /// begin with an event that holds the state.
    ///
    /// # Cost
    /// A removal is one step, and appends may have to wait for it. Where that is so (on PostgreSQL), a long stream is removed in steps: again
    /// and again up to a version that is some thousands further.
    ///
    /// # Errors
    /// [`RemoveError`]; nothing was removed, except possibly for [`RemoveError::Unknown`].
    fn truncate_stream(
        &self,
        stream: &StreamId,
        before: StreamVersion,
    ) -> impl Future<Output = Result<u64, RemoveError>> + Send;

    /// Removes all events of `stream` and its snapshot, and returns how many events there were.
    ///
    /// The stream is one without events: it has no version, `NoStream` is what to expect of it, `Exists` and `Exact` are refused. The next
    /// append to it goes on with the versions where they ended, so that no version ever names two events. Whoever still works with a state
    /// from before the removal may save a snapshot of it: end them first. A long stream is truncated in steps before.
    ///
    /// # Errors
    /// [`RemoveError`]; nothing was removed, except possibly for [`RemoveError::Unknown`].
    fn delete_stream(&self, stream: &StreamId) -> impl Future<Output = Result<u64, RemoveError>> + Send;

    /// The store on PostgreSQL that this is or passes everything on to, for what appends in transactions of its own; `None` otherwise.
    #[cfg(feature = "postgres")]
    fn postgres(&self) -> Option<&PostgresStore> {
        None
    }
}

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// A boxed stream.
pub type BoxStream<'a, T> = Pin<Box<dyn Stream<Item = T> + Send + 'a>>;

/// [`EventStore`] behind a pointer: every store implements it, and `Arc<dyn DynEventStore>` is a store again. Costs one
/// allocation a call.
///
/// ```
/// use std::sync::Arc;
/// use event_store::{DynEventStore, MemoryStore};
///
/// let store: Arc<dyn DynEventStore> = Arc::new(MemoryStore::new());
/// ```
pub trait DynEventStore: Send + Sync + 'static {
    /// [`EventStore::append`].
    fn dyn_append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>>;
    /// [`EventStore::read`].
    fn dyn_read(&self, read: Read) -> BoxStream<'_, Result<RecordedEvent, ReadError>>;
    /// [`EventStore::subscribe`].
    fn dyn_subscribe(&self, subscribe: Subscribe) -> Subscription;
    /// [`EventStore::head`].
    fn dyn_head(&self) -> BoxFuture<'_, Result<Option<Position>, ReadError>>;
    /// [`EventStore::stream_version`].
    fn dyn_stream_version<'a>(
        &'a self,
        stream: &'a StreamId,
    ) -> BoxFuture<'a, Result<Option<StreamVersion>, ReadError>>;
    /// [`EventStore::truncate_stream`].
    fn dyn_truncate_stream<'a>(
        &'a self,
        stream: &'a StreamId,
        before: StreamVersion,
    ) -> BoxFuture<'a, Result<u64, RemoveError>>;
    /// [`EventStore::delete_stream`].
    fn dyn_delete_stream<'a>(&'a self, stream: &'a StreamId) -> BoxFuture<'a, Result<u64, RemoveError>>;
    /// [`EventStore::postgres`].
    #[cfg(feature = "postgres")]
    fn dyn_postgres(&self) -> Option<&PostgresStore>;
}

impl<S: EventStore> DynEventStore for S {
    fn dyn_append(&self, append: Append) -> BoxFuture<'_, Result<Appended, AppendError>> {
        Box::pin(self.append(append))
    }

    fn dyn_read(&self, read: Read) -> BoxStream<'_, Result<RecordedEvent, ReadError>> {
        Box::pin(self.read(read))
    }

    fn dyn_subscribe(&self, subscribe: Subscribe) -> Subscription {
        self.subscribe(subscribe)
    }

    fn dyn_head(&self) -> BoxFuture<'_, Result<Option<Position>, ReadError>> {
        Box::pin(self.head())
    }

    fn dyn_stream_version<'a>(
        &'a self,
        stream: &'a StreamId,
    ) -> BoxFuture<'a, Result<Option<StreamVersion>, ReadError>> {
        Box::pin(self.stream_version(stream))
    }

    fn dyn_truncate_stream<'a>(
        &'a self,
        stream: &'a StreamId,
        before: StreamVersion,
    ) -> BoxFuture<'a, Result<u64, RemoveError>> {
        Box::pin(self.truncate_stream(stream, before))
    }

    fn dyn_delete_stream<'a>(&'a self, stream: &'a StreamId) -> BoxFuture<'a, Result<u64, RemoveError>> {
        Box::pin(self.delete_stream(stream))
    }

    #[cfg(feature = "postgres")]
    fn dyn_postgres(&self) -> Option<&PostgresStore> {
        self.postgres()
    }
}

impl EventStore for Arc<dyn DynEventStore> {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        (**self).dyn_append(append).await
    }

    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        (**self).dyn_read(read)
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        (**self).dyn_subscribe(subscribe)
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        (**self).dyn_head().await
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        (**self).dyn_stream_version(stream).await
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        (**self).dyn_truncate_stream(stream, before).await
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        (**self).dyn_delete_stream(stream).await
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self) -> Option<&PostgresStore> {
        (**self).dyn_postgres()
    }
}

/// A shared store is a store.
impl<S: EventStore> EventStore for Arc<S> {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        (**self).append(append).await
    }

    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        (**self).read(read)
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        (**self).subscribe(subscribe)
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        (**self).head().await
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        (**self).stream_version(stream).await
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        (**self).truncate_stream(stream, before).await
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        (**self).delete_stream(stream).await
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self) -> Option<&PostgresStore> {
        (**self).postgres()
    }
}
