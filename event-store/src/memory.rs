//! The in-memory store.

mod event_ref;
mod events;
mod feed;
mod ids;
mod interner;
mod log;
mod matcher;
#[cfg(all(test, event_store_loom))]
mod models;
mod names;
mod postings;
mod reading;
#[cfg(all(test, event_store_shuttle, feature = "testkit"))]
mod schedules;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use futures_core::Stream;

pub use self::event_ref::EventRef;
pub use self::events::{Events, EventsIter};
use self::feed::{MemoryFeed, wake};
use self::log::Log;
use self::names::Names;
use self::reading::{MemoryRead, Owned, most_events, walk, walk_stretches};
use self::writer::Writer;
use crate::append::{Append, Appended};
use crate::error::{AppendError, ReadError, RemoveError};
use crate::event::{Position, StreamVersion};
use crate::name::StreamId;
use crate::read::Read;
use crate::recorded::RecordedEvent;
use crate::snapshot::{Snapshot, SnapshotError, SnapshotStore};
use crate::store::EventStore;
use crate::subscription::{Subscribe, Subscription};
use crate::sync::{ArcSwap, Mutex};

/// An event store in memory: for tests, for caches, for processes whose state may go with them.
///
/// Appends take a lock for as long as it takes to judge and write one; readers take none and never wait for a writer. The
/// `…_now` methods are the store; [`EventStore`] is a thin face over them whose futures are ready at once.
///
/// ```
/// use std::ops::ControlFlow;
/// use event_store::{Append, EventType, ExpectedVersion, MemoryStore, NewEvent, Read, StreamId};
///
/// let store = MemoryStore::new();
/// let order = StreamId::new("order-1")?;
/// let placed = NewEvent::new(EventType::new("OrderPlaced")?, r#"{"total":42}"#);
/// store.append_now(Append::stream(order.clone(), ExpectedVersion::NoStream, [placed]))?;
///
/// let mut bytes = 0;
/// store.scan(&Read::stream(order), |event| {
///     bytes += event.payload().len();
///     ControlFlow::<()>::Continue(())
/// });
/// assert_eq!(bytes, 12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MemoryStore {
    shared: Arc<Shared>,
    options: MemoryOptions,
    snapshots: RwLock<HashMap<StreamId, Snapshot>>,
}

/// What the store and its subscriptions have in common.
struct Shared {
    /// Replaced by one with the same events when memory of removed ones is freed.
    log: ArcSwap<Log>,
    names: Names,
    writer: Mutex<Writer>,
}

impl Shared {
    fn head(&self) -> Option<Position> {
        Position::new(u64::from(self.log.load().view().len()))
    }
}

impl Drop for MemoryStore {
    /// Ends the subscriptions: each delivers what there is, and then no more.
    fn drop(&mut self) {
        let sleepers = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).sleepers.close();
        wake(sleepers);
    }
}

/// What was removed of a [`MemoryStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// Events that were removed since the store was made.
    pub events: u64,
    /// Bytes of them that are not freed yet: content, and 56 an event.
    pub bytes_held: u64,
}

/// Bounds of a [`MemoryStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryOptions {
    max_event_bytes: u64,
    max_append_bytes: u64,
}

/// An option is outside its range; no store was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{option} is {value}, outside 1 to {}", u32::MAX)]
pub struct OptionsError {
    /// The option.
    pub option: &'static str,
    /// Its value.
    pub value: u64,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { max_event_bytes: 16 << 20, max_append_bytes: 1 << 30 }
    }
}

impl MemoryOptions {
    /// Most bytes of one event: payload, metadata, 16 for each of its two optional ids. 1 to 4,294,967,295; 16 MiB unless set.
    #[must_use]
    pub fn max_event_bytes(self, bytes: u64) -> Self {
        Self { max_event_bytes: bytes, ..self }
    }

    /// Most bytes of one append, counted in the same way. 1 to 4,294,967,295; 1 GiB unless set.
    #[must_use]
    pub fn max_append_bytes(self, bytes: u64) -> Self {
        Self { max_append_bytes: bytes, ..self }
    }

    fn checked(self) -> Result<Self, OptionsError> {
        for (option, value) in [("max_event_bytes", self.max_event_bytes), ("max_append_bytes", self.max_append_bytes)]
        {
            if !(1..=u64::from(u32::MAX)).contains(&value) {
                return Err(OptionsError { option, value });
            }
        }
        Ok(self)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("head", &self.head_now())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::of(MemoryOptions::default())
    }

    /// An empty store with `options`.
    ///
    /// # Errors
    /// [`OptionsError`] if an option is outside its range.
    pub fn with_options(options: MemoryOptions) -> Result<Self, OptionsError> {
        options.checked().map(Self::of)
    }

    fn of(options: MemoryOptions) -> Self {
        let (log, log_writer) = Log::new();
        let (names, names_writer) = Names::new();
        let shared =
            Shared { log: ArcSwap::new(log), names, writer: Mutex::new(Writer::new(log_writer, names_writer)) };
        Self { shared: Arc::new(shared), options, snapshots: RwLock::default() }
    }

    /// Writes all of `append` or nothing; the order of verdicts is that of [`EventStore`].
    ///
    /// Cost: a few hash look-ups and a copy of a small append; a large one is adopted without copying its content. Memory grows
    /// by the content, 56 bytes an event and about 9 to 18 bytes for its id (up to 36 in a store of fewer than 100,000
    /// events, and 10 KiB in all while there are few). The clock is read once, and only if some event has
    /// no time.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written then, and nothing stays allocated for it. The store holds fewer than 2³² events and
    /// then answers [`AppendError::Unavailable`].
    pub fn append_now(&self, mut append: Append) -> Result<Appended, AppendError> {
        let batch = &append.batch;
        let sizes = [(batch.largest, self.options.max_event_bytes), (batch.bytes, self.options.max_append_bytes)];
        if let Some((size, limit)) = sizes.into_iter().find(|(size, limit)| size > limit) {
            return Err(AppendError::TooLarge { size, limit });
        }
        let mut writer = self.shared.writer.lock().map_err(|_| AppendError::Poisoned)?;
        let appended = writer.append(&self.shared.names, &mut append);
        let woken = (!writer.sleepers.is_empty() && appended.is_ok()).then(|| writer.sleepers.take());
        // Other writers need not wait while the remains of this append are freed.
        drop(writer);
        if let Some(woken) = woken {
            wake(woken);
        }
        appended
    }

    /// Lends each event of `read` to `visit`, in order, until it breaks; returns what it broke with.
    ///
    /// The events are those committed when the scan began. No lock is held: `visit` may do as it likes, appending included.
    /// Cost: no allocation for a stream, for all events, or for a query of one item with two tags.
    pub fn scan<R>(&self, read: &Read, mut visit: impl FnMut(EventRef<'_>) -> ControlFlow<R>) -> Option<R> {
        let log = self.shared.log.load();
        walk(&self.shared.names, log.view(), read, |run, event| {
            visit(EventRef::new(&self.shared.names, run.event(event), event))
        })
    }

    /// The events of `read`, owned as a whole and left where they are: what to take for a list that outlives the call.
    ///
    /// Cost: for a stream or for all events that of finding where they lie, not that of each event; for a query that of each match.
    #[must_use]
    pub fn events_now(&self, read: &Read) -> Events {
        let log = self.shared.log.load_full();
        let view = log.view();
        let mut events = Events::new(Arc::clone(&self.shared), Arc::clone(&log), view.len(), read.backwards);
        walk_stretches(&self.shared.names, view, read, &mut events);
        events
    }

    /// The events of `read`, each owned by itself. Their names, tags and content are reference counts; holding one keeps the block alive
    /// that its content lies in, 4 MiB or one large append.
    #[must_use]
    pub fn read_now(&self, read: &Read) -> Vec<RecordedEvent> {
        let mut owned = Owned::new(&self.shared.names);
        let log = self.shared.log.load();
        let view = log.view();
        let mut events = Vec::with_capacity(most_events(&self.shared.names, view, read));
        walk(&self.shared.names, view, read, |run, event| {
            events.push(owned.event(run, event));
            ControlFlow::<()>::Continue(())
        });
        events
    }

    /// The last position, also if its event is removed; `None` for a store that never had one. Two atomic loads.
    #[must_use]
    pub fn head_now(&self) -> Option<Position> {
        self.shared.head()
    }

    /// The version of the last event of `stream`; `None` if it has none. One hash look-up.
    #[must_use]
    pub fn stream_version_now(&self, stream: &StreamId) -> Option<StreamVersion> {
        self.versions(stream).map(|(_, last)| last)
    }

    /// The versions of the first and the last event of `stream`; `None` if it has none.
    fn versions(&self, stream: &StreamId) -> Option<(StreamVersion, StreamVersion)> {
        let log = self.shared.log.load();
        let postings = self.shared.names.streams.postings(stream.as_str())?.view(log.view().len());
        let (first, count) = (postings.removed(), postings.len());
        (first < count)
            .then(|| (u64::from(first), u64::from(count) - 1))
            .map(|(first, last)| (StreamVersion::new(first), StreamVersion::new(last)))
    }

    /// Removes the events of `stream` below version `before`: see [`EventStore::truncate_stream`]. Returns how many there were.
    ///
    /// Cost: a hash look-up for each event, under the writers' lock. Memory goes a block at a time, see [`MemoryStore::removed_now`].
    ///
    /// # Errors
    /// [`RemoveError::Unavailable`] if an earlier append broke off inside the store.
    pub fn truncate_stream_now(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        self.remove(stream, Some(before))
    }

    /// Removes all events of `stream` and its snapshot: see [`EventStore::delete_stream`]. Returns how many events there were. Cost: that of
    /// [`MemoryStore::truncate_stream_now`].
    ///
    /// # Errors
    /// [`RemoveError::Unavailable`] if an earlier append broke off inside the store.
    pub fn delete_stream_now(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        self.remove(stream, None)
    }

    fn remove(&self, stream: &StreamId, before: Option<StreamVersion>) -> Result<u64, RemoveError> {
        let poisoned = |_| RemoveError::Unavailable("the store is poisoned by an earlier failure".to_owned());
        let mut writer = self.shared.writer.lock().map_err(poisoned)?;
        let removed = writer.remove(&self.shared.names, stream, before);
        if let Some(log) = writer.free(&self.shared.names) {
            self.shared.log.store(log);
        }
        drop(writer);
        if self.versions(stream).is_none() {
            let mut snapshots = self.snapshots.write().unwrap_or_else(PoisonError::into_inner);
            let snapshot = snapshots.remove(stream);
            drop(snapshots);
            drop(snapshot);
        }
        Ok(u64::from(removed))
    }

    /// What was removed so far, and what of it still takes memory.
    ///
    /// Events lie in blocks, of up to 4 MiB or of one large append. When half of a block's events are removed, the rest is copied and the block
    /// is freed, as soon as no read holds it; they are looked through each time 64 KiB more are removed. The block that appends go to waits until
    /// it is full. A stream that is gone keeps its name and
    /// about 120 bytes, so that its versions go on, and 8 bytes for each stretch of its events.
    #[must_use]
    pub fn removed_now(&self) -> Removed {
        let writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Removed { events: u64::from(self.shared.names.removed()), bytes_held: writer.removed_bytes() }
    }

    /// Saves `snapshot` in place of its stream's last one.
    pub fn save_snapshot_now(&self, snapshot: Snapshot) {
        let mut snapshots = self.snapshots.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = match snapshots.get_mut(&snapshot.stream) {
            Some(last) => Some(std::mem::replace(last, snapshot)),
            None => snapshots.insert(snapshot.stream.clone(), snapshot),
        };
        drop(snapshots);
        drop(replaced);
    }

    /// The last snapshot of `stream` if it is usable ([`Snapshot::is_usable`]) for a reader of `schema_version`.
    #[must_use]
    pub fn load_snapshot_now(&self, stream: &StreamId, schema_version: u16) -> Option<Snapshot> {
        let snapshots = self.snapshots.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = snapshots.get(stream).cloned()?;
        drop(snapshots);
        let (first, last) = self.versions(stream)?;
        // An event that was removed, and that the snapshot does not include, cannot be replayed.
        let is_whole = first.get() <= snapshot.version.get().saturating_add(1);
        (is_whole && snapshot.is_usable(Some(last), schema_version)).then_some(snapshot)
    }
}

impl EventStore for MemoryStore {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.append_now(append)
    }

    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        MemoryRead::new(self, read)
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        Subscription::starting_at(self.head_now(), subscribe, MemoryFeed::new(Arc::clone(&self.shared)))
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        Ok(self.head_now())
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        Ok(self.stream_version_now(stream))
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        self.truncate_stream_now(stream, before)
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        self.delete_stream_now(stream)
    }
}

impl SnapshotStore for MemoryStore {
    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), SnapshotError> {
        self.save_snapshot_now(snapshot);
        Ok(())
    }

    async fn load_snapshot(&self, stream: &StreamId, schema_version: u16) -> Result<Option<Snapshot>, SnapshotError> {
        Ok(self.load_snapshot_now(stream, schema_version))
    }
}
