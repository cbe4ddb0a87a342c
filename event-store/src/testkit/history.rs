//! What clients asked a store and what it answered, in the order in which that could be seen from outside.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;

use crate::append::{Append, Appended};
use crate::error::{AppendError, ReadError};
use crate::event::{Position, StreamVersion};
use crate::name::StreamId;
use crate::read::Read;
use crate::recorded::RecordedEvent;
use crate::snapshot::{Snapshot, SnapshotError, SnapshotStore};
use crate::store::EventStore;
use crate::subscription::{Delivery, Subscribe, SubscribeError, Subscription};

/// A recorded history and the store's events at its end.
#[derive(Debug, Clone)]
pub struct History {
    /// Every operation, in the order in which they began.
    pub operations: Vec<Operation>,
    /// All events, read when every client had stopped.
    pub events: Vec<RecordedEvent>,
}

/// One question and its answer.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Who asked; a client asks one thing after the other.
    pub client: u32,
    /// When it began, on a clock that counts beginnings and ends.
    pub began: u64,
    /// When its answer was there; `None` if nobody waited for it.
    pub ended: Option<u64>,
    /// What was asked, and the answer.
    pub call: Call,
}

/// What was asked, and the answer; without one where `ended` is `None`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Call {
    /// An append. An outcome that is `None` or [`AppendError::Unknown`] may or may not have been applied.
    Append {
        /// What.
        append: Box<Append>,
        /// The verdict.
        outcome: Option<Result<Appended, AppendError>>,
    },
    /// A read from its first to its last event.
    Read {
        /// What.
        read: Read,
        /// The events.
        events: Result<Vec<RecordedEvent>, ReadError>,
    },
    /// The head.
    Head(Result<Option<Position>, ReadError>),
    /// The version of a stream.
    StreamVersion {
        /// Which.
        stream: StreamId,
        /// Its version.
        version: Result<Option<StreamVersion>, ReadError>,
    },
    /// A new subscription.
    Subscribe {
        /// Its number, unique in the history.
        subscription: u32,
        /// What it subscribes to.
        subscribe: Subscribe,
    },
    /// What a subscription yielded.
    Delivery {
        /// Its number.
        subscription: u32,
        /// When it was asked for, on the clock of the operations.
        asked: u64,
        /// The delivery; `None` for its end.
        delivery: Option<Result<Delivery, SubscribeError>>,
    },
    /// A subscription owed its client a delivery, which had not come when the client gave up.
    Stalled {
        /// Its number.
        subscription: u32,
    },
    /// A snapshot was saved.
    SaveSnapshot {
        /// Which.
        snapshot: Snapshot,
        /// Whether it was.
        outcome: Option<Result<(), SnapshotError>>,
    },
    /// A snapshot was asked for.
    LoadSnapshot {
        /// Of which stream.
        stream: StreamId,
        /// For a reader of which schema.
        schema_version: u16,
        /// What came.
        snapshot: Result<Option<Snapshot>, SnapshotError>,
    },
}

/// Records what its clients do with a store.
///
/// ```
/// use std::sync::Arc;
/// use event_store::testkit::{Recorder, check};
/// use event_store::{Append, EventType, MemoryStore, NewEvent, Read};
///
/// # futures::executor::block_on(async {
/// let recorder = Recorder::new(Arc::new(MemoryStore::new()));
/// let client = recorder.client();
/// let event = NewEvent::new(EventType::new("Happened").expect("a name"), "{}");
/// client.append(Append::events([event])).await.expect("nothing is expected");
/// assert_eq!(client.read(Read::all()).await.expect("in memory").len(), 1);
/// check(&recorder.finish().await).expect("no anomalies");
/// # });
/// ```
#[derive(Debug)]
pub struct Recorder<S> {
    store: Arc<S>,
    record: Arc<Record>,
}

#[derive(Debug, Default)]
struct Record {
    operations: Mutex<Vec<Operation>>,
    clock: AtomicU64,
    clients: AtomicU32,
    subscriptions: AtomicU32,
}

impl Record {
    fn operations(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Notes a beginning; returns the operation's place.
    fn begin(&self, client: u32, call: Call) -> usize {
        let mut operations = self.operations();
        operations.push(Operation { client, began: self.now(), ended: None, call });
        operations.len() - 1
    }

    fn end(&self, place: usize, call: Call) {
        let mut operations = self.operations();
        operations[place].call = call;
        operations[place].ended = Some(self.now());
    }
}

impl<S: EventStore> Recorder<S> {
    /// Records what happens to `store`, which is empty and known to nobody else.
    #[must_use]
    pub fn new(store: Arc<S>) -> Self {
        Self { store, record: Arc::default() }
    }

    /// A new client.
    #[must_use]
    pub fn client(&self) -> Client<S> {
        let number = self.record.clients.fetch_add(1, Ordering::Relaxed);
        Client { store: Arc::clone(&self.store), record: Arc::clone(&self.record), number }
    }

    /// The history. The clients have stopped: what is still under way counts as never answered.
    ///
    /// # Panics
    /// If the store cannot be read: a history without its events says nothing.
    pub async fn finish(self) -> History {
        let events = collect(&*self.store, Read::all()).await.expect("the store is read at the end of a history");
        let operations = std::mem::take(&mut *self.record.operations());
        History { operations, events }
    }
}

async fn collect<S: EventStore>(store: &S, read: Read) -> Result<Vec<RecordedEvent>, ReadError> {
    let mut stream = std::pin::pin!(store.read(read));
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        events.push(event?);
    }
    Ok(events)
}

/// One client of a recorded store: asks one thing after the other.
#[derive(Debug)]
pub struct Client<S> {
    store: Arc<S>,
    record: Arc<Record>,
    number: u32,
}

impl<S: EventStore> Client<S> {
    /// [`EventStore::append`]. Dropping the future leaves an append without an outcome in the history.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let place = self.record.begin(self.number, Call::Append { append: Box::new(append.clone()), outcome: None });
        let outcome = self.store.append(append.clone()).await;
        self.record.end(place, Call::Append { append: Box::new(append), outcome: Some(outcome.clone()) });
        outcome
    }

    /// [`EventStore::read`], from the first event to the last.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn read(&self, read: Read) -> Result<Vec<RecordedEvent>, ReadError> {
        let place = self.record.begin(self.number, Call::Read { read: read.clone(), events: Ok(Vec::new()) });
        let events = collect(&*self.store, read.clone()).await;
        self.record.end(place, Call::Read { read, events: events.clone() });
        events
    }

    /// [`EventStore::head`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn head(&self) -> Result<Option<Position>, ReadError> {
        let place = self.record.begin(self.number, Call::Head(Ok(None)));
        let head = self.store.head().await;
        self.record.end(place, Call::Head(head.clone()));
        head
    }

    /// [`EventStore::stream_version`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        let call = |version| Call::StreamVersion { stream: stream.clone(), version };
        let place = self.record.begin(self.number, call(Ok(None)));
        let version = self.store.stream_version(stream).await;
        self.record.end(place, call(version.clone()));
        version
    }

    /// [`EventStore::subscribe`].
    #[must_use]
    pub fn subscribe(&self, subscribe: Subscribe) -> Subscriber {
        let number = self.record.subscriptions.fetch_add(1, Ordering::Relaxed);
        let call = Call::Subscribe { subscription: number, subscribe: subscribe.clone() };
        let place = self.record.begin(self.number, call.clone());
        let subscription = self.store.subscribe(subscribe);
        self.record.end(place, call);
        Subscriber { subscription, record: Arc::clone(&self.record), client: self.number, number, asked: None }
    }
}

impl<S: EventStore + SnapshotStore> Client<S> {
    /// [`SnapshotStore::save_snapshot`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), SnapshotError> {
        let call = |outcome| Call::SaveSnapshot { snapshot: snapshot.clone(), outcome };
        let place = self.record.begin(self.number, call(None));
        let outcome = self.store.save_snapshot(snapshot.clone()).await;
        self.record.end(place, call(Some(outcome.clone())));
        outcome
    }

    /// [`SnapshotStore::load_snapshot`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn load_snapshot(
        &self,
        stream: &StreamId,
        schema_version: u16,
    ) -> Result<Option<Snapshot>, SnapshotError> {
        let call = |snapshot| Call::LoadSnapshot { stream: stream.clone(), schema_version, snapshot };
        let place = self.record.begin(self.number, call(Ok(None)));
        let snapshot = self.store.load_snapshot(stream, schema_version).await;
        self.record.end(place, call(snapshot.clone()));
        snapshot
    }
}

/// A recorded subscription.
#[derive(Debug)]
pub struct Subscriber {
    subscription: Subscription,
    record: Arc<Record>,
    client: u32,
    number: u32,
    /// When the delivery that is still to come was first asked for.
    asked: Option<u64>,
}

impl Subscriber {
    /// [`Subscription::next`]; what is not waited for is not recorded.
    pub async fn next(&mut self) -> Option<Result<Delivery, SubscribeError>> {
        let asked = *self.asked.get_or_insert_with(|| self.record.now());
        let delivery = self.subscription.next().await;
        self.asked = None;
        self.note(Call::Delivery { subscription: self.number, asked, delivery: delivery.clone() });
        delivery
    }

    /// Notes that a delivery is due, for its client was given events behind the last one or asked for what is beyond the head, and that it
    /// did not come.
    pub fn give_up(&self) {
        self.note(Call::Stalled { subscription: self.number });
    }

    fn note(&self, call: Call) {
        let place = self.record.begin(self.client, call.clone());
        self.record.end(place, call);
    }

    /// The subscription itself, to acknowledge.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }
}
