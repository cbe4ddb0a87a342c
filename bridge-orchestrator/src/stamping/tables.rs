//! The original's two tables on PostgreSQL: `workflow_executions`, a row a workflow, and `bridge_states`, a row a namespace and window.
//!
//! ```no_run
//! # async fn example(store: std::sync::Arc<event_store::PostgresStore>, pool: event_store::deadpool_postgres::Pool)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! use bridge_orchestrator::stamping::tables::StampingTables;
//! use event_store::ProjectionRunner;
//!
//! let tables = StampingTables::new(pool, 1);
//! tables.create().await?;
//! let runner = ProjectionRunner::new(Arc::clone(&store), Arc::new(store.read_model()), tables.projection(), tokio::time::sleep);
//! tokio::spawn(async move { runner.run().await });
//! let row = tables.workflow("c-7").await?;
//! # Ok(()) }
//! ```
//!
//! # Consistency
//! The journals are the truth, the tables what was made of them: a change of a row and the checkpoint behind it are one transaction, so each
//! record counts once. They lag by what the runner has not applied yet. A version of them is a schema, `stamping_v{version}`: the next one is built
//! beside the live one.
//!
//! Rows stay when an engine removes the journals of what has ended. So a runner has to come by more often than
//! [`retention`](crate::EngineBuilder::retention) says, and a version that is built anew knows the journals that are still there.

mod projection;
mod rows;
mod text;

use std::time::Duration;

use event_store::Timestamp;
use event_store::deadpool_postgres::{Pool, PoolError};
use event_store::tokio_postgres::types::ToSql;
use event_store::tokio_postgres::{Error, Row};
use serde_json::Value;

pub use self::projection::StampingProjection;
pub use self::rows::{BridgeState, WorkflowRow};

/// How long a window of `bridge_states` is unless told otherwise: the original's.
pub const DEFAULT_WINDOW: Duration = Duration::from_millis(5_000);
/// Rows of an answer, at most.
pub const MAX_ROWS: u32 = 10_000;

/// Why the tables could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TablesError {
    /// No connection could be had. Nothing was changed.
    #[error("no connection: {0}")]
    Pool(#[from] PoolError),
    /// The server said no, or nothing. A change may have been made, if the connection was lost.
    #[error("the database: {0}")]
    Database(#[from] Error),
    /// A row is not what the projection writes.
    #[error("a row that the projection does not write: {0}")]
    Malformed(String),
    /// The row is of another version than was expected. Nothing was changed.
    #[error("{bridge_id} is of version {}, not {expected}", .found.map_or_else(|| "none".to_owned(), |found| found.to_string()))]
    VersionConflict {
        /// Which row.
        bridge_id: String,
        /// The version that was expected.
        expected: u64,
        /// The version that it has; `None` if there is no such row.
        found: Option<u64>,
    },
}

/// One version of the tables: makes them, says what keeps them, reads them.
///
/// # Cost
/// A call is a connection of the pool and one prepared statement. Every look-up goes by an index.
#[derive(Debug, Clone)]
pub struct StampingTables {
    pool: Pool,
    version: u32,
    schema: String,
}

impl StampingTables {
    /// The tables of `version` in the database of `pool`, which is that of the store.
    #[must_use]
    pub fn new(pool: Pool, version: u32) -> Self {
        Self { pool, version, schema: format!("stamping_v{version}") }
    }

    /// Makes the tables, if they are not there.
    ///
    /// # Errors
    /// [`TablesError`]; all of them were made or none.
    pub async fn create(&self) -> Result<(), TablesError> {
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let schema = &self.schema;
        // Two that make them at once would collide in the catalogue.
        let prepare = format!(
            "SELECT pg_advisory_xact_lock(hashtext('{schema}'));
            CREATE SCHEMA IF NOT EXISTS {schema}; SET LOCAL search_path TO {schema}"
        );
        tx.batch_execute(&prepare).await?;
        tx.batch_execute(include_str!("tables/schema.sql")).await?;
        Ok(tx.commit().await?)
    }

    /// Drops the tables, for a version that another one has taken the place of.
    ///
    /// # Errors
    /// [`TablesError`].
    pub async fn drop(&self) -> Result<(), TablesError> {
        let client = self.pool.get().await?;
        Ok(client.batch_execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", self.schema)).await?)
    }

    /// What keeps these tables, with windows of [`DEFAULT_WINDOW`].
    #[must_use]
    pub fn projection(&self) -> StampingProjection {
        self.projection_with_window(DEFAULT_WINDOW)
    }

    /// The same with windows of another length, at least a microsecond. A version keeps to its window: another one is for the next version.
    #[must_use]
    pub fn projection_with_window(&self, window: Duration) -> StampingProjection {
        StampingProjection::new(self, window)
    }

    /// The workflow of this id.
    ///
    /// # Errors
    /// [`TablesError`].
    pub async fn workflow(&self, correlation_id: &str) -> Result<Option<WorkflowRow>, TablesError> {
        let rows = self.workflows("correlation_id = $1", &[&correlation_id]).await?;
        Ok(rows.into_iter().next())
    }

    /// The workflow that made this stamp.
    ///
    /// # Errors
    /// [`TablesError`].
    pub async fn workflow_by_stamp(&self, stamp_id: &str) -> Result<Option<WorkflowRow>, TablesError> {
        let rows = self.workflows("stamp_id = $1 LIMIT 1", &[&stamp_id]).await?;
        Ok(rows.into_iter().next())
    }

    /// The last workflows of a session, the latest first; at most `limit` and [`MAX_ROWS`].
    ///
    /// # Errors
    /// [`TablesError`].
    pub async fn workflows_of_session(&self, session_id: &str, limit: u32) -> Result<Vec<WorkflowRow>, TablesError> {
        let order = "session_id = $1 ORDER BY created_at DESC, correlation_id LIMIT $2";
        self.workflows(order, &[&session_id, &i64::from(limit.min(MAX_ROWS))]).await
    }

    /// Workflows whose `intelligence_data` contain `part`, in the sense of `jsonb @>`; at most `limit` and [`MAX_ROWS`], in no order.
    ///
    /// # Errors
    /// [`TablesError`].
    pub async fn workflows_by_intelligence(&self, part: &Value, limit: u32) -> Result<Vec<WorkflowRow>, TablesError> {
        self.containing("intelligence_data", part, limit).await
    }

    /// Workflows whose `workflow_steps` contain `part`, such as `[{"status": "degraded"}]`; at most `limit` and [`MAX_ROWS`], in no order.
    ///
    /// # Errors
    /// [`TablesError`].
    pub async fn workflows_by_steps(&self, part: &Value, limit: u32) -> Result<Vec<WorkflowRow>, TablesError> {
        self.containing("workflow_steps", part, limit).await
    }

    /// The latest window of a namespace.
    ///
    /// # Errors
    /// [`TablesError`].
    pub async fn bridge_state(&self, namespace: &str) -> Result<Option<BridgeState>, TablesError> {
        let latest = "namespace = $1 ORDER BY window_start DESC LIMIT 1";
        let rows = self.bridges(latest, &[&namespace]).await?;
        Ok(rows.into_iter().next())
    }

    /// All windows that begin at `from` or later and before `to`, in their order; at most `limit` and [`MAX_ROWS`].
    ///
    /// # Errors
    /// [`TablesError`].
    pub async fn bridge_states(
        &self,
        from: Timestamp,
        to: Timestamp,
        limit: u32,
    ) -> Result<Vec<BridgeState>, TablesError> {
        let window = "window_start >= 'epoch'::timestamptz + $1::bigint * interval '1 microsecond'
            AND window_start < 'epoch'::timestamptz + $2::bigint * interval '1 microsecond'
            ORDER BY window_start, namespace LIMIT $3";
        self.bridges(window, &[&from.as_micros(), &to.as_micros(), &i64::from(limit.min(MAX_ROWS))]).await
    }

    /// Sets what belongs to the application in a row that is of version `expected`; returns the version that it then has. The projection
    /// counts on meanwhile, and each of its changes is a version, too: read again and try again.
    ///
    /// # Errors
    /// [`TablesError::VersionConflict`] if the row has changed since, or is not there; nothing was changed then.
    pub async fn configure_bridge(
        &self,
        bridge_id: &str,
        expected: u64,
        configuration: &Value,
        aggregation_metadata: &Value,
    ) -> Result<u64, TablesError> {
        let change = format!(
            "WITH changed AS (UPDATE {0}.bridge_states SET configuration = $3::text::jsonb, aggregation_metadata = $4::text::jsonb,
                version = version + 1, updated_at = clock_timestamp() WHERE bridge_id = $1 AND version = $2 RETURNING version)
            SELECT (SELECT version FROM changed), (SELECT version FROM {0}.bridge_states WHERE bridge_id = $1)",
            self.schema
        );
        // A version that no row can have is refused by the server as any other.
        let wanted = i64::try_from(expected).unwrap_or(-1);
        let (configuration, metadata) = (configuration.to_string(), aggregation_metadata.to_string());
        let rows = self.ask(&change, &[&bridge_id, &wanted, &configuration, &metadata]).await?;
        let row = rows.first().ok_or_else(|| TablesError::Malformed("no answer".to_owned()))?;
        let (changed, found): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        match changed {
            Some(version) => Ok(version.unsigned_abs()),
            None => Err(TablesError::VersionConflict {
                bridge_id: bridge_id.to_owned(),
                expected,
                found: found.map(i64::unsigned_abs),
            }),
        }
    }

    async fn containing(&self, column: &str, part: &Value, limit: u32) -> Result<Vec<WorkflowRow>, TablesError> {
        let condition = format!("{column} @> $1::text::jsonb LIMIT $2");
        self.workflows(&condition, &[&part.to_string(), &i64::from(limit.min(MAX_ROWS))]).await
    }

    async fn workflows(&self, rest: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<WorkflowRow>, TablesError> {
        let query = format!("SELECT {} FROM {}.workflow_executions WHERE {rest}", rows::WORKFLOW, self.schema);
        self.ask(&query, values).await?.iter().map(WorkflowRow::read).collect()
    }

    async fn bridges(&self, rest: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<BridgeState>, TablesError> {
        let query = format!("SELECT {} FROM {}.bridge_states WHERE {rest}", rows::BRIDGE, self.schema);
        self.ask(&query, values).await?.iter().map(BridgeState::read).collect()
    }

    async fn ask(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, TablesError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(statement).await?;
        Ok(client.query(&statement, values).await?)
    }
}
