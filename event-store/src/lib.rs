#![doc = include_str!("../README.md")]

/// The workspace's front page, so that its example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct FrontPage;

mod aggregate;
mod append;
mod batch;
#[cfg(feature = "cloudevents")]
pub mod cloudevents;
mod error;
mod event;
mod memory;
mod name;
#[cfg(any(feature = "metrics", feature = "tracing"))]
mod observed;
mod panics;
#[cfg(feature = "postgres")]
mod postgres;
mod projection;
mod query;
mod read;
mod recorded;
mod snapshot;
mod store;
mod subscription;
mod sync;
#[cfg(feature = "testkit")]
pub mod testkit;
mod upcast;

pub use aggregate::{
    Aggregate, BoxError, DomainEvent, Executed, Loaded, Repository, RepositoryError, SnapshotOutcome, SnapshotState,
    SnapshotUse, UserCode,
};
pub use append::{Append, AppendCondition, Appended, ExpectedVersion};
pub use error::{AppendError, Clause, ReadError, RemoveError};
pub use event::{EventId, NewEvent, Position, StreamVersion, Timestamp};
pub use memory::{EventRef, Events, EventsIter, MemoryOptions, MemoryStore, OptionsError, Removed};
pub use name::{EventType, MAX_NAME_BYTES, NameError, StreamId, Tag, Tags};
#[cfg(any(feature = "metrics", feature = "tracing"))]
pub use observed::Observed;
#[cfg(feature = "postgres")]
pub use postgres::{
    PgConnection, PgConnections, PgError, PgFault, PgOptions, PgProjection, PgReadModel, PgStatistics, PgTx,
    PgVerification, PostgresStore,
};
pub use projection::{
    ApplyError, MemoryReadModel, MemoryTx, ParkedEvent, Progress, Projection, ProjectionId, ProjectionOptions,
    ProjectionRunner, ProjectionStats, ReadModel, ReadModelError, RetryError, RunOutcome, RunnerError,
};
pub use query::{Query, QueryError, QueryItem, QueryItems};
pub use read::{Read, Source};
pub use recorded::RecordedEvent;
pub use snapshot::{Snapshot, SnapshotError, SnapshotPolicy, SnapshotStore};
pub use store::{BoxFuture, BoxStream, DynEventStore, EventStore};
pub use subscription::{
    AcknowledgeError, Acknowledger, Delivery, Feed, More, Page, Start, Subscribe, SubscribeError, Subscription,
};
pub use upcast::{Piece, Upcast, Upcasters, UpcastersBuilder, UpcastersError, Upcasting};

#[cfg(feature = "postgres")]
pub use {deadpool_postgres, tokio_postgres};
