//! Leases as rows of a table. Each is changed by one statement on one row: there is no order of locks to be wrong about.

use std::time::Duration;

use event_store::tokio_postgres::types::ToSql;
use event_store::tokio_postgres::{self, Row};
use event_store::{BoxFuture, PgConnections, PgError, PostgresStore};
use tokio::time::timeout;
use uuid::Uuid;

use crate::engine::{Ownership, Seen};
use crate::error::Error;

const SCHEMA: &str = include_str!("schema.sql");

/// Names the lock under which the table is made.
const SCHEMA_LOCK: i32 = 0x77_66_31;

/// One for a transaction, one for the append that it may have to wait for.
const SMALLEST_POOL: usize = 2;

/// How long an answer is waited for, at least.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Leases {
    connections: PgConnections,
    /// As seconds.
    duration: f64,
    patience: Duration,
}

impl Leases {
    /// Makes the table and its function where they are not.
    pub(crate) async fn prepare(store: &PostgresStore, duration: Duration) -> Result<Self, Error> {
        let connections = store.connections();
        if connections.size() < SMALLEST_POOL {
            let message = format!("a pool of {} connections, where {SMALLEST_POOL} are needed", connections.size());
            return Err(Error::Invalid(message));
        }
        let mut connection = connections.get().await.map_err(|error| pool(&error))?;
        let is_there = "SELECT to_regclass('wf_lease') IS NOT NULL";
        let client = connection.client();
        if !client.query_one(is_there, &[]).await.map_err(|error| server(&error))?.get::<_, bool>(0) {
            let transaction = client.transaction().await.map_err(|error| server(&error))?;
            let lock = "SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))";
            transaction.execute(lock, &[&SCHEMA_LOCK]).await.map_err(|error| server(&error))?;
            if !transaction.query_one(is_there, &[]).await.map_err(|error| server(&error))?.get::<_, bool>(0) {
                transaction.batch_execute(SCHEMA).await.map_err(|error| server(&error))?;
            }
            transaction.commit().await.map_err(|error| server(&error))?;
        }
        connection.give_back();
        Ok(Self { connections, duration: duration.as_secs_f64(), patience: duration.max(PATIENCE) })
    }

    async fn rows(&self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let asked = async {
            let mut connection = self.connections.get().await.map_err(|error| pool(&error))?;
            let client = connection.client();
            let prepared = client.prepare_cached(statement).await.map_err(|error| server(&error))?;
            let rows = client.query(&prepared, parameters).await.map_err(|error| server(&error))?;
            connection.give_back();
            Ok(rows)
        };
        let late = |_| Error::Leases(format!("no answer in {:?}", self.patience));
        timeout(self.patience, asked).await.map_err(late)?
    }
}

fn pool(error: &PgError) -> Error {
    Error::Leases(error.to_string())
}

fn server(error: &tokio_postgres::Error) -> Error {
    let why = error.as_db_error().map_or_else(|| error.to_string(), |answer| answer.message().to_owned());
    Error::Leases(why)
}

impl Ownership for Leases {
    fn transactions_at_once(&self) -> usize {
        // One is left for appends and, where there are enough, one for leases.
        let size = self.connections.size();
        if size > 3 { size - 2 } else { size - 1 }
    }

    fn register(&self, owner: Uuid) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let statement = "INSERT INTO wf_lease (owner, epoch, expires_at)
                VALUES ($1, 1, wf_now() + make_interval(secs => $2)) ON CONFLICT (owner) DO NOTHING";
            self.rows(statement, &[&owner, &self.duration]).await.map(|_| ())
        })
    }

    fn renew(&self, owner: Uuid, epoch: i64) -> BoxFuture<'_, Result<Option<Vec<Seen>>, Error>> {
        Box::pin(async move {
            let statement = "WITH renewed AS (
                    UPDATE wf_lease SET expires_at = wf_now() + make_interval(secs => $3), beats = beats + 1
                    WHERE owner = $1 AND epoch = $2 RETURNING owner)
                SELECT EXISTS (SELECT FROM renewed), other.owner, other.epoch, other.beats,
                    other.expires_at <= wf_now(), other.expires_at = '-infinity'
                FROM (SELECT 1) AS one LEFT JOIN wf_lease AS other ON other.owner <> $1";
            let rows = self.rows(statement, &[&owner, &epoch, &self.duration]).await?;
            if !rows.first().is_some_and(|row| row.get(0)) {
                return Ok(None);
            }
            let seen = |row: &Row| {
                let owner = row.get::<_, Option<Uuid>>(1)?;
                let (epoch, beats) = (row.get(2), row.get(3));
                Some(Seen { owner, epoch, beats, has_run_out: row.get(4), is_given_up: row.get(5) })
            };
            Ok(Some(rows.iter().filter_map(seen).collect()))
        })
    }

    fn take(&self, seen: Seen) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move {
            let statement = "UPDATE wf_lease
                SET epoch = epoch + 1, beats = beats + 1, expires_at = wf_now() + make_interval(secs => $4)
                WHERE owner = $1 AND epoch = $2 AND beats = $3 RETURNING owner";
            let rows = self.rows(statement, &[&seen.owner, &seen.epoch, &seen.beats, &self.duration]).await?;
            Ok(!rows.is_empty())
        })
    }

    fn end(&self, owner: Uuid, epoch: i64, is_empty: bool) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let statement = if is_empty {
                "DELETE FROM wf_lease WHERE owner = $1 AND epoch = $2"
            } else {
                "UPDATE wf_lease SET expires_at = '-infinity', beats = beats + 1 WHERE owner = $1 AND epoch = $2"
            };
            self.rows(statement, &[&owner, &epoch]).await.map(|_| ())
        })
    }

    fn lives(&self, owner: Uuid) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move {
            let statement = "SELECT FROM wf_lease WHERE owner = $1 AND epoch = 1 AND expires_at > '-infinity'";
            Ok(!self.rows(statement, &[&owner]).await?.is_empty())
        })
    }
}
