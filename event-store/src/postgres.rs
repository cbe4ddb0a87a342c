//! The store on PostgreSQL.

mod append;
mod call;
mod connector;
mod feed;
mod guard;
mod options;
mod queue;
mod read;
mod read_model;
mod remove;
mod rows;
mod schema;
mod selection;
mod snapshots;
mod statistics;
mod verify;
mod wake;

use std::fmt;
use std::sync::Arc;

use deadpool_postgres::Pool;
use futures_core::Stream;
use tokio::runtime::Handle;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use self::feed::PgFeed;
use self::guard::Lessor;
pub use self::options::{PgError, PgOptions};
use self::queue::Queue;
use self::read::PgRead;
pub use self::read_model::{PgReadModel, PgTx};
pub use self::statistics::{PgProjection, PgStatistics};
pub use self::verify::{PgFault, PgVerification};
use self::wake::Wake;
use crate::append::{Append, Appended};
use crate::error::{AppendError, ReadError, RemoveError};
use crate::event::{Position, StreamVersion};
use crate::name::StreamId;
use crate::read::Read;
use crate::recorded::RecordedEvent;
use crate::snapshot::{Snapshot, SnapshotError, SnapshotStore};
use crate::store::EventStore;
use crate::subscription::{Subscribe, Subscription};

/// An event store in PostgreSQL 15 or newer: any number of processes append to one order.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use event_store::deadpool_postgres::{Manager, Pool};
/// use event_store::tokio_postgres::NoTls;
/// use event_store::{Append, EventStore, EventType, ExpectedVersion, NewEvent, PgOptions, PostgresStore, StreamId};
///
/// let config: event_store::tokio_postgres::Config = "postgresql://postgres@localhost/shop".parse()?;
/// let pool = Pool::builder(Manager::new(config.clone(), NoTls)).max_size(16).build()?;
/// let store = PostgresStore::connect(pool, PgOptions::new().listen(config)).await?;
/// store.migrate().await?;
///
/// let placed = NewEvent::new(EventType::new("OrderPlaced")?, r#"{"total":42}"#);
/// store.append(Append::stream(StreamId::new("order-1")?, ExpectedVersion::NoStream, [placed])).await?;
/// # Ok(()) }
/// ```
///
/// # Order
/// One row holds the head. An append locks it first, is judged by what it sees then, and releases it by its commit, after the flush of the log:
/// positions are dense and in the order of commits, so that a reader that goes on behind the last position it has seen misses nothing.
///
/// # Performance
/// An append is one round trip and one flush. Appends that come while one is under way share the next call: one transaction, one flush, each
/// judged in its turn.
///
/// # Cancellation
/// The future of an append may be dropped at any await point: before it has its turn nothing happens, afterwards it may have happened, and the
/// same ids tell. A connection whose query was given up is cancelled and discarded; the next user of the pool gets another one.
///
/// # Connections
/// An append, a read and a subscription use a connection of the pool while they wait for an answer, and none in between: a few suffice. A future
/// that has asked and is not polled keeps its connection until it is polled or dropped; no other append waits for it, if the pool has one more.
/// Reads and subscriptions hold the store's inside, so they may outlive a borrow of it, but not the store.
///
/// The pool's connections lead to one server. One that is behind what a subscription has seen, as after a switch to a replica that had not
/// received everything, ends it with [`SubscribeError::BeyondHead`](crate::SubscribeError::BeyondHead).
pub struct PostgresStore {
    shared: Arc<Shared>,
}

/// What the store and its subscriptions have in common.
pub(crate) struct Shared {
    lessor: Lessor,
    options: PgOptions,
    /// The lock's time-out as the server reads it.
    lock_timeout: String,
    queue: Queue,
    wake: Wake,
    runtime: Handle,
}

impl PostgresStore {
    /// A store over `pool`, whose connections lead to one database, into a schema that is first in their search path. Looks at the server and
    /// at the tables, if there are any; [`PostgresStore::migrate`] makes them.
    ///
    /// The store's tasks run on the current runtime: the calls of groups, and the watch for what other processes append.
    ///
    /// # Errors
    /// [`PgError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(pool: Pool, options: PgOptions) -> Result<Self, PgError> {
        let options = options.checked()?;
        let runtime = Handle::current();
        let lessor = Lessor::new(pool, options.pool_timeout, options.connector.clone(), runtime.clone());
        let lease = lessor.lease().await.map_err(PgError::Pool)?;
        schema::check(&lease).await?;
        drop(lease);
        let lock_timeout = format!("{}ms", options.lock_timeout.as_millis());
        let (queue, wake) = (Queue::new(options.queue), Wake::default());
        Ok(Self { shared: Arc::new(Shared { lessor, options, lock_timeout, queue, wake, runtime }) })
    }

    /// Makes the tables and functions, or brings them up to date: one transaction. Several processes may do so at once; nothing happens if there
    /// is nothing to do.
    ///
    /// # Errors
    /// [`PgError::NewerSchema`] if the tables are of a later version of this crate; [`PgError::Pool`], [`PgError::Server`].
    pub async fn migrate(&self) -> Result<(), PgError> {
        let mut lease = self.shared.lessor.lease().await.map_err(PgError::Pool)?;
        schema::migrate(&mut lease).await
    }

    /// As [`EventStore::append`], in a transaction of the caller's: events and whatever else it writes are committed together, or neither.
    ///
    /// Call it last: from here to the end of the transaction every other append, of any process, waits. A refusal leaves the transaction
    /// usable; [`AppendError::Unavailable`] does not. The transaction should be READ COMMITTED, as PostgreSQL's are unless told otherwise;
    /// in a stricter one an append that has come in between is `Unavailable`. Subscriptions learn of the events by asking; after the
    /// commit [`PostgresStore::announce`] tells them at once.
    ///
    /// Cancel safety: if the future is dropped, roll back.
    ///
    /// # Errors
    /// [`AppendError`], never [`AppendError::Unknown`]: nothing is applied before the commit, whose outcome is the caller's to know.
    pub async fn append_in_tx(&self, transaction: &Transaction<'_>, append: Append) -> Result<Appended, AppendError> {
        self.shared.append_in(transaction, &append).await
    }

    /// The store's connections, for what is done beside it in its database, and for transactions that end with
    /// [`PostgresStore::append_in_tx`].
    #[must_use]
    pub fn connections(&self) -> PgConnections {
        PgConnections { lessor: self.shared.lessor.clone() }
    }

    /// Read models in the database of the store: projections with their checkpoints in the transactions of what they change.
    #[must_use]
    pub fn read_model(&self) -> PgReadModel {
        PgReadModel::new(self.shared.lessor.clone(), self.shared.options.answer_timeout)
    }

    /// Lets subscriptions look for events that a transaction of the caller's has committed: those of this process now, those of others soon.
    pub fn announce(&self, appended: &Appended) {
        if let Some((_, last)) = appended.positions {
            self.shared.suggest(last.get());
        }
    }
}

/// The pool of a store. A clone is the same.
#[derive(Debug, Clone)]
pub struct PgConnections {
    lessor: Lessor,
}

impl PgConnections {
    /// How many connections there may be at a time.
    #[must_use]
    pub fn size(&self) -> usize {
        self.lessor.max_size()
    }

    /// A connection.
    ///
    /// # Errors
    /// [`PgError::Pool`] if there is none in the time that [`PgOptions::pool_timeout`] allows; nothing was sent.
    pub async fn get(&self) -> Result<PgConnection, PgError> {
        Ok(PgConnection { lease: self.lessor.lease().await.map_err(PgError::Pool)? })
    }
}

/// A connection of a store's pool. It goes back when it is told [`PgConnection::give_back`]; dropped before, it is cancelled and closed, so that
/// nothing of what was under way is waited for, or seen by its next user.
#[derive(Debug)]
pub struct PgConnection {
    lease: guard::Lease,
}

impl PgConnection {
    /// The connection.
    pub fn client(&mut self) -> &mut deadpool_postgres::ClientWrapper {
        self.lease.client_mut()
    }

    /// Gives it back to the pool: every query has its answer, and no transaction is open.
    pub fn give_back(self) {
        self.lease.end();
    }
}

impl Drop for PostgresStore {
    /// Ends the subscriptions: each delivers what there is, and then no more.
    fn drop(&mut self) {
        self.shared.wake.close();
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl EventStore for PostgresStore {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.shared.append(append).await
    }

    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        PgRead::new(Arc::clone(&self.shared), read)
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        Subscription::new(subscribe, PgFeed::new(Arc::clone(&self.shared)))
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.shared.head().await
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        let statement = "SELECT version FROM es_events WHERE stream = $1 ORDER BY version DESC LIMIT 1";
        let last: Option<i64> = self.shared.value(statement, &[(&stream.as_str(), Type::TEXT)]).await?;
        Ok(last.and_then(|last| u64::try_from(last).ok()).map(StreamVersion::new))
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        self.shared.remove(stream, Some(before)).await
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        self.shared.remove(stream, None).await
    }

    fn postgres(&self) -> Option<&PostgresStore> {
        Some(self)
    }
}

impl SnapshotStore for PostgresStore {
    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), SnapshotError> {
        self.shared.save_snapshot(&snapshot).await
    }

    async fn load_snapshot(&self, stream: &StreamId, schema_version: u16) -> Result<Option<Snapshot>, SnapshotError> {
        self.shared.load_snapshot(stream, schema_version).await
    }
}
