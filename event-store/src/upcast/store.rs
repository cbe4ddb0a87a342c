//! A store whose readers see current forms alone.

use futures_core::Stream;

use super::Upcasters;
use super::feed::UpcastFeed;
use super::reading::{UpcastRead, widened};
use crate::append::{Append, Appended};
use crate::error::{AppendError, ReadError, RemoveError};
use crate::event::{Position, StreamVersion};
use crate::name::StreamId;
use crate::read::Read;
use crate::recorded::RecordedEvent;
use crate::snapshot::{Snapshot, SnapshotError, SnapshotStore};
use crate::store::EventStore;
use crate::subscription::{Subscribe, Subscription};

/// A store that is read as if all its events had been recorded in their current forms: streams, queries and subscriptions alike.
///
/// # What readers see
/// - **Queries** name current types. The store is asked for older names as well, and what they became is held against the query.
/// - **Positions, versions, ids, times and tags** are those of the recorded events. What an event was split into stands at one place; a
///   dropped event leaves its place empty, so versions and positions have gaps where events were dropped. The head and the version of a
///   stream count recorded events.
/// - **Limits** count the events that a reader gets. An event that was split always comes whole, so a read may yield a few more than its limit,
///   and one that yields fewer has reached the end. Backwards, the pieces come in reverse order.
/// - **Subscriptions** count pieces in their windows. A checkpoint is not to be saved while [`Subscription::has_more_at`] its position.
/// - **An event that cannot be upcast** is [`ReadError::Upcast`]: it ends a read, and a subscription gives it each time it is asked for more,
///   after all that is before it.
///
/// # What appends mean
/// Events are recorded as they are given. The queries of a condition are widened to older names, and so refuse at least what they
/// refuse on current forms. They refuse more where events of an older name would not be read as the type that is asked for: because they are
/// dropped, or split into others. A condition behind the last event that a query *showed* may then never hold; one behind the
/// [head](EventStore::head) from before the query does.
///
/// # Cost
/// A read allocates once more. A read with a limit is passed on with its limit where each recorded event stays one; otherwise it ends
/// early, when it has enough.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use event_store::{Append, EventStore, EventType, MemoryStore, NewEvent, Query, QueryItem, Read, Upcasters, Upcasting};
/// use futures::TryStreamExt;
///
/// let (old, new) = (EventType::new("CustomerMoved")?, EventType::new("AddressChanged")?);
/// let store = MemoryStore::new();
/// store.append_now(Append::events([NewEvent::new(old.clone(), "Elm Street")]))?;
///
/// let upcasters = Upcasters::builder().current(new.clone(), 1).rename((old, 1), (new.clone(), 1)).build()?;
/// let store = Upcasting::new(store, upcasters);
/// let changes = Query::item(QueryItem::types([new])?);
/// let changes: Vec<_> = store.read(Read::query(changes)).try_collect().await?;
/// assert_eq!(changes[0].event_type().as_str(), "AddressChanged");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Upcasting<S> {
    store: S,
    upcasters: Upcasters,
}

impl<S> Upcasting<S> {
    /// `store`, read through `upcasters`.
    pub fn new(store: S, upcasters: Upcasters) -> Self {
        Self { store, upcasters }
    }

    /// The store itself, whose readers see what was recorded.
    pub fn inner(&self) -> &S {
        &self.store
    }
}

impl<S: EventStore> EventStore for Upcasting<S> {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let widened = append.append_condition().map(|condition| self.upcasters.widen_condition(condition));
        let append = match widened {
            Some(condition) => append.condition(condition),
            None => append,
        };
        self.store.append(append).await
    }

    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        let recorded = self.store.read(widened(&self.upcasters, &read));
        UpcastRead::new(recorded, self.upcasters.clone(), &read)
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        let upcasters = self.upcasters.clone();
        self.store.subscribe(subscribe).map_feed(|feed| Box::new(UpcastFeed { feed, upcasters }))
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.store.head().await
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        self.store.stream_version(stream).await
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        self.store.truncate_stream(stream, before).await
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        self.store.delete_stream(stream).await
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self) -> Option<&crate::PostgresStore> {
        self.store.postgres()
    }
}

/// Snapshots pass as they are: whoever changes what events mean raises the schema version of the state.
impl<S: SnapshotStore> SnapshotStore for Upcasting<S> {
    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), SnapshotError> {
        self.store.save_snapshot(snapshot).await
    }

    async fn load_snapshot(&self, stream: &StreamId, schema_version: u16) -> Result<Option<Snapshot>, SnapshotError> {
        self.store.load_snapshot(stream, schema_version).await
    }
}
