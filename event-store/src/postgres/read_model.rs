//! Read models of projections, in the database of the store.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::error::{Error, SqlState};
use tokio_postgres::types::ToSql;

use super::call::{number, position_at};
use super::guard::{Lease, Lessor};
use crate::error::describe;
use crate::event::Position;
use crate::name::EventType;
use crate::projection::{ApplyError, ParkedEvent, Progress, ProjectionId, ReadModel, ReadModelError};

/// Where projections keep tables of their own in the database of a [`PostgresStore`](crate::PostgresStore), and their checkpoints with them: a
/// change and the checkpoint behind it are one transaction, so each event counts once.
///
/// The tables that a projection changes are its own to make and to drop, one set a version: [`ReadModel::remove`] removes the checkpoint and
/// the parked events alone.
///
/// ```no_run
/// # async fn example(store: std::sync::Arc<event_store::PostgresStore>) -> Result<(), Box<dyn std::error::Error>> {
/// use event_store::{ApplyError, PgTx, Projection, ProjectionRunner, RecordedEvent};
///
/// /// How many events there are of each type.
/// struct Counts;
///
/// impl Projection for Counts {
///     type Tx = PgTx;
///
///     fn name(&self) -> &str {
///         "counts"
///     }
///     async fn apply(&self, tx: &mut PgTx, event: &RecordedEvent) -> Result<(), ApplyError> {
///         let count = "INSERT INTO counts VALUES ($1, 1) ON CONFLICT (type) DO UPDATE SET events = counts.events + 1";
///         tx.execute(count, &[&event.event_type().as_str()]).await?;
///         Ok(())
///     }
/// }
///
/// let model = std::sync::Arc::new(store.read_model());
/// let runner = ProjectionRunner::new(store, model, Counts, tokio::time::sleep);
/// runner.run().await?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct PgReadModel {
    lessor: Lessor,
    patience: Duration,
}

/// A transaction of a [`PgReadModel`], READ COMMITTED. Dropped before it is committed it is rolled back: its connection is closed.
pub struct PgTx {
    lease: Lease,
    patience: Duration,
    id: ProjectionId,
}

impl PgTx {
    /// Executes a statement, which is prepared once a connection; how many rows it changed.
    ///
    /// # Errors
    /// [`ApplyError`] for [`Projection::apply`](crate::Projection::apply) to return, as it must: the transaction can do nothing any more.
    /// What the server says of the statement lies with the event; a connection that is lost, no answer in time, a deadlock, a statement
    /// that was prepared before its table was altered, and the like do not.
    pub async fn execute(&self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64, ApplyError> {
        let client = self.client();
        self.apply(async {
            let statement = client.prepare_cached(statement).await?;
            client.execute(&statement, parameters).await
        })
        .await
    }

    /// The rows of a query, which is prepared once a connection.
    ///
    /// # Errors
    /// As [`PgTx::execute`].
    pub async fn query(&self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, ApplyError> {
        let client = self.client();
        self.apply(async {
            let statement = client.prepare_cached(statement).await?;
            client.query(&statement, parameters).await
        })
        .await
    }

    /// The connection, inside of the transaction, for what the methods above do not do. Errors become [`ApplyError`]s by
    /// [`PgTx::apply_error`]. Neither commit nor roll back.
    #[must_use]
    pub fn client(&self) -> &ClientWrapper {
        self.lease.client()
    }

    /// What an error of the connection is to a projection: see [`PgTx::execute`].
    #[must_use]
    pub fn apply_error(error: Error) -> ApplyError {
        if lies_with_the_statement(&error) { ApplyError::event(error) } else { ApplyError::unavailable(error) }
    }

    async fn apply<T>(&self, asking: impl Future<Output = Result<T, Error>>) -> Result<T, ApplyError> {
        match timeout(self.patience, asking).await {
            Ok(answer) => answer.map_err(Self::apply_error),
            Err(_) => Err(ApplyError::unavailable(format!("no answer in {:?}", self.patience))),
        }
    }

    /// For the read model's own statements.
    async fn ask(&self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, ReadModelError> {
        let client = self.client();
        let asking = async {
            let statement = client.prepare_cached(statement).await?;
            client.query(&statement, parameters).await
        };
        match timeout(self.patience, asking).await {
            // The index of active versions is the only one that can refuse a row: another version became active meanwhile.
            Ok(Err(error)) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Err(ReadModelError::Conflict),
            Ok(rows) => rows.map_err(|error| refused(&error)),
            Err(_) => Err(ReadModelError::Unavailable(format!("no answer in {:?}", self.patience))),
        }
    }

    fn version(&self) -> i64 {
        i64::from(self.id.version)
    }
}

impl fmt::Debug for PgTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgTx").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whether another connection would be told the same.
fn lies_with_the_statement(error: &Error) -> bool {
    let Some(answer) = error.as_db_error() else {
        // The driver could not make sense of the parameters or the rows, and the connection is as good as it was.
        return !error.is_closed() && error.code().is_none() && !is_of_the_socket(error);
    };
    let code = answer.code();
    // Connections, resources, the operator, the system; and what the server gave up for the sake of others.
    let is_elsewhere = ["08", "53", "57", "58", "XX"].iter().any(|class| code.code().starts_with(class));
    let is_contended = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ];
    // What this connection has prepared is gone, or is about a table that was changed since.
    let is_stale = code == &SqlState::INVALID_SQL_STATEMENT_NAME
        || code == &SqlState::FEATURE_NOT_SUPPORTED && answer.routine() == Some("RevalidateCachedQuery");
    !is_elsewhere && !is_stale && !is_contended.contains(code)
}

fn is_of_the_socket(error: &Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// What an answer to one of the read model's own statements says. Nothing is changed before the commit.
fn refused(error: &Error) -> ReadModelError {
    match error.code() {
        Some(code) if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) => {
            ReadModelError::Conflict
        }
        _ => ReadModelError::Unavailable(describe(error)),
    }
}

const ROW: &str = "SELECT position FROM es_checkpoints WHERE projection = $1 AND version = $2 FOR UPDATE";
const NEW_ROW: &str = "INSERT INTO es_checkpoints (projection, version) VALUES ($1, $2) ON CONFLICT DO NOTHING";
/// As of after the row was locked.
const BESIDE: &str = "SELECT (SELECT count(*) FROM es_parked WHERE projection = $1 AND version = $2),
    (SELECT version FROM es_checkpoints WHERE projection = $1 AND is_active)";
const SAVE: &str = "UPDATE es_checkpoints SET position = $3 WHERE projection = $1 AND version = $2";
const PARK: &str = "INSERT INTO es_parked (projection, version, position, type, error, attempts) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (projection, version, position) DO UPDATE SET type = excluded.type, error = excluded.error, attempts = excluded.attempts";
const UNPARK: &str =
    "DELETE FROM es_parked WHERE projection = $1 AND version = $2 AND position = $3 RETURNING position";
const PARKED: &str = "SELECT position, type, error, attempts FROM es_parked WHERE projection = $1 AND version = $2
    ORDER BY position LIMIT $3";
const DEACTIVATE: &str =
    "UPDATE es_checkpoints SET is_active = false WHERE projection = $1 AND is_active AND version <> $2";
const ACTIVATE: &str = "UPDATE es_checkpoints SET is_active = true WHERE projection = $1 AND version = $2";
const IS_ACTIVE: &str = "SELECT is_active FROM es_checkpoints WHERE projection = $1 AND version = $2 FOR UPDATE";
const REMOVE: &str = "WITH parked AS (DELETE FROM es_parked WHERE projection = $1 AND version = $2)
    DELETE FROM es_checkpoints WHERE projection = $1 AND version = $2";

impl PgReadModel {
    pub(super) fn new(lessor: Lessor, patience: Duration) -> Self {
        Self { lessor, patience }
    }

    /// The active version of the projection `name`.
    ///
    /// # Errors
    /// [`ReadModelError::Unavailable`], [`ReadModelError::Name`].
    pub async fn active_version(&self, name: &str) -> Result<Option<u32>, ReadModelError> {
        let tx = self.begin(&ProjectionId { name: name.to_owned(), version: 0 }).await?;
        let rows = tx.ask(BESIDE, &[&name, &0_i64]).await?;
        self.roll_back(tx).await;
        active(&rows)
    }

    async fn end(&self, tx: &mut PgTx, how: &str) -> Result<(), ReadModelError> {
        match timeout(self.patience, tx.client().batch_execute(how)).await {
            Ok(Ok(())) => {
                tx.lease.end();
                Ok(())
            }
            Ok(Err(error)) if is_refusal(&error) => Err(refused(&error)),
            Ok(Err(error)) => Err(ReadModelError::Unknown(describe(&error))),
            Err(_) => Err(ReadModelError::Unknown(format!("no answer in {:?}", self.patience))),
        }
    }
}

/// Whether the server says that it has not committed, and is there to say so.
fn is_refusal(error: &Error) -> bool {
    error.as_db_error().is_some_and(|answer| {
        answer.parsed_severity() == Some(tokio_postgres::error::Severity::Error)
            && !answer.code().code().starts_with("57P")
    })
}

fn malformed(error: &dyn std::error::Error) -> ReadModelError {
    ReadModelError::Unavailable(format!("what is stored is not what this store writes: {}", describe(error)))
}

fn active(rows: &[Row]) -> Result<Option<u32>, ReadModelError> {
    let version = rows.first().map_or(Ok(None), |row| row.try_get::<_, Option<i64>>(1));
    let version = version.map_err(|error| malformed(&error))?;
    version.map(u32::try_from).transpose().map_err(|error| malformed(&error))
}

impl ReadModel for PgReadModel {
    type Tx = PgTx;

    async fn begin(&self, id: &ProjectionId) -> Result<PgTx, ReadModelError> {
        id.check()?;
        let lease = self.lessor.lease().await.map_err(ReadModelError::Unavailable)?;
        let beginning = timeout(self.patience, lease.begin().batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED"));
        match beginning.await {
            Ok(Ok(())) => Ok(PgTx { lease, patience: self.patience, id: id.clone() }),
            Ok(Err(error)) => Err(ReadModelError::Unavailable(describe(&error))),
            Err(_) => Err(ReadModelError::Unavailable(format!("no answer in {:?}", self.patience))),
        }
    }

    async fn load(&self, tx: &mut PgTx) -> Result<Progress, ReadModelError> {
        let mut rows = tx.ask(ROW, &[&tx.id.name, &tx.version()]).await?;
        if rows.is_empty() {
            tx.ask(NEW_ROW, &[&tx.id.name, &tx.version()]).await?;
            rows = tx.ask(ROW, &[&tx.id.name, &tx.version()]).await?;
        }
        let position = rows.first().map_or(Ok(None), |row| row.try_get::<_, Option<i64>>(0));
        let checkpoint = position.map_err(|error| malformed(&error))?.and_then(position_at);
        let beside = tx.ask(BESIDE, &[&tx.id.name, &tx.version()]).await?;
        let parked = beside.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0));
        let parked = parked.map_err(|error| malformed(&error))?.unsigned_abs();
        Ok(Progress { checkpoint, parked, active: active(&beside)? })
    }

    async fn save(&self, tx: &mut PgTx, checkpoint: Position) -> Result<(), ReadModelError> {
        tx.ask(SAVE, &[&tx.id.name, &tx.version(), &number(checkpoint.get())]).await.map(drop)
    }

    async fn park(&self, tx: &mut PgTx, event: ParkedEvent) -> Result<(), ReadModelError> {
        let (position, attempts) = (number(event.position.get()), i64::from(event.attempts));
        // A text of PostgreSQL holds every character but one.
        let error = event.error.replace('\0', "\u{fffd}");
        let values: [&(dyn ToSql + Sync); 6] =
            [&tx.id.name, &tx.version(), &position, &event.event_type.as_str(), &error, &attempts];
        tx.ask(PARK, &values).await.map(drop)
    }

    async fn unpark(&self, tx: &mut PgTx, position: Position) -> Result<bool, ReadModelError> {
        let removed = tx.ask(UNPARK, &[&tx.id.name, &tx.version(), &number(position.get())]).await?;
        Ok(!removed.is_empty())
    }

    async fn parked(&self, tx: &mut PgTx, limit: usize) -> Result<Vec<ParkedEvent>, ReadModelError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = tx.ask(PARKED, &[&tx.id.name, &tx.version(), &limit]).await?;
        rows.iter().map(parked_event).collect()
    }

    async fn activate(&self, tx: &mut PgTx) -> Result<(), ReadModelError> {
        for statement in [DEACTIVATE, ACTIVATE] {
            tx.ask(statement, &[&tx.id.name, &tx.version()]).await?;
        }
        Ok(())
    }

    async fn remove(&self, id: &ProjectionId) -> Result<(), ReadModelError> {
        let tx = self.begin(id).await?;
        let rows = tx.ask(IS_ACTIVE, &[&id.name, &tx.version()]).await?;
        let is_active = rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(|error| malformed(&error))?;
        if is_active {
            self.roll_back(tx).await;
            return Err(ReadModelError::IsActive(id.clone()));
        }
        tx.ask(REMOVE, &[&id.name, &tx.version()]).await?;
        self.commit(tx).await
    }

    /// The connection goes back to the pool.
    async fn roll_back(&self, mut tx: PgTx) {
        // One that does not answer is closed instead.
        let _ = self.end(&mut tx, "ROLLBACK").await;
    }

    async fn commit(&self, mut tx: PgTx) -> Result<(), ReadModelError> {
        // A COMMIT alone of a transaction in which a statement has failed is a ROLLBACK, and no error.
        self.end(&mut tx, "SELECT; COMMIT").await
    }
}

fn parked_event(row: &Row) -> Result<ParkedEvent, ReadModelError> {
    let read = || {
        let (position, event_type, error, attempts) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        Ok((position, event_type, error, attempts))
    };
    let (position, event_type, error, attempts): (i64, &str, String, i64) =
        read().map_err(|error: Error| malformed(&error))?;
    let position = position_at(position).ok_or_else(|| malformed(&std::io::Error::other("a position of 0")))?;
    let event_type = EventType::new(event_type).map_err(|error| malformed(&error))?;
    Ok(ParkedEvent { position, event_type, error, attempts: u32::try_from(attempts).unwrap_or(u32::MAX) })
}
