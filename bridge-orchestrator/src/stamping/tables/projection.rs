//! The projection that keeps the tables.

use std::collections::BTreeMap;
use std::time::Duration;

use event_store::tokio_postgres::types::ToSql;
use event_store::{ApplyError, PgTx, Projection, Query, RecordedEvent};

use super::StampingTables;
use super::text::{json, text};
use crate::stamping::journal::{Began, Change, change, query};
use crate::stamping::response::{StepOutcome, StepResult};
use crate::stamping::state::StampState;
use crate::stamping::workflow::Stamping;
use crate::workflow::{Failure, Workflow as _};

/// The statements of one schema.
#[derive(Debug, Clone)]
struct Statements {
    began: String,
    resumed: String,
    steps: String,
    ended: String,
}

/// Keeps the tables of [`StampingTables`]: run by a [`ProjectionRunner`](event_store::ProjectionRunner) on
/// [`PostgresStore::read_model`](event_store::PostgresStore::read_model). Made by [`StampingTables::projection`].
///
/// Each record of a journal is one statement. A record whose workflow has no row is that of another type and changes nothing.
#[derive(Debug, Clone)]
pub struct StampingProjection {
    version: u32,
    window: i64,
    statements: Statements,
}

/// A time in a statement, from microseconds.
fn time(parameter: &str) -> String {
    format!("('epoch'::timestamptz + {parameter}::bigint * interval '1 microsecond')")
}

/// The states that lead to `target`, for `current_state = ANY (…)`.
fn before(target: StampState) -> Vec<&'static str> {
    StampState::ALL.into_iter().filter(|state| state.advance(target).is_ok()).map(StampState::as_str).collect()
}

impl Statements {
    fn of(schema: &str) -> Self {
        let (at, start, end) = (time("$2"), time("$5"), time("$6"));
        let began = format!(
            "INSERT INTO {schema}.workflow_executions AS w (correlation_id, created_at, updated_at, started_at, workflow_type, current_state,
                namespace, session_id, file_path, file_size_bytes, content_type, metadata, workflow_steps, workflow_steps_executed)
            VALUES ($1, {at}, {at}, CASE WHEN $4 = 'PROCESSING' THEN {at} END, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, '[]', 0)
            ON CONFLICT (correlation_id) DO UPDATE SET created_at = excluded.created_at, updated_at = excluded.updated_at,
                started_at = excluded.started_at, workflow_type = excluded.workflow_type, current_state = excluded.current_state,
                namespace = excluded.namespace, session_id = excluded.session_id, file_path = excluded.file_path,
                file_size_bytes = excluded.file_size_bytes, content_type = excluded.content_type, metadata = excluded.metadata,
                workflow_steps = '[]', workflow_steps_executed = 0, stamp_id = NULL, file_hash = NULL, intelligence_data = NULL,
                hash_generation_time_ms = NULL, execution_time_ms = NULL, error_code = NULL, error_message = NULL, completed_at = NULL"
        );
        let resumed = format!(
            "UPDATE {schema}.workflow_executions SET current_state = 'PROCESSING', started_at = {at}, updated_at = {at}
            WHERE correlation_id = $1 AND current_state = ANY ($3)"
        );
        let steps = format!(
            "UPDATE {schema}.workflow_executions SET
                current_state = CASE WHEN current_state = ANY ($3) THEN 'PROCESSING' ELSE current_state END,
                started_at = coalesce(started_at, {at}), updated_at = {at},
                workflow_steps = workflow_steps || $4::text::jsonb, workflow_steps_executed = workflow_steps_executed + $5,
                file_hash = coalesce($6, file_hash), hash_generation_time_ms = coalesce($7, hash_generation_time_ms),
                intelligence_data = coalesce($8::text::jsonb, intelligence_data), stamp_id = coalesce($9, stamp_id)
            WHERE correlation_id = $1"
        );
        // The row of the window is changed in the same statement, for the workflow that has ended just now and no other.
        let ended = format!(
            "WITH ended AS (
                UPDATE {schema}.workflow_executions SET current_state = $3, completed_at = {at}, updated_at = {at},
                    execution_time_ms = extract(epoch FROM {at} - coalesce(started_at, {at})) * 1000,
                    error_code = $7, error_message = $8
                WHERE correlation_id = $1 AND current_state = ANY ($4)
                RETURNING namespace, correlation_id, content_type, file_size_bytes, ($3 = 'COMPLETED') AS is_stamped)
            INSERT INTO {schema}.bridge_states AS b (bridge_id, namespace, aggregation_type, window_start, window_end, current_fsm_state,
                total_workflows_processed, total_items_aggregated, total_size_bytes, unique_file_types, sample_workflows,
                last_aggregation_timestamp, aggregation_metadata, configuration, version, created_at, updated_at)
            SELECT namespace || '@' || $5::bigint, namespace, 'time_window', {start}, {end}, $3, 1, is_stamped::int,
                CASE WHEN is_stamped THEN file_size_bytes ELSE 0 END,
                CASE WHEN is_stamped AND content_type <> '' THEN ARRAY[content_type] ELSE ARRAY[]::text[] END,
                ARRAY[correlation_id], {at}, '{{}}', '{{}}', 1, {at}, {at} FROM ended
            ON CONFLICT (bridge_id) DO UPDATE SET current_fsm_state = excluded.current_fsm_state,
                total_workflows_processed = b.total_workflows_processed + 1,
                total_items_aggregated = b.total_items_aggregated + excluded.total_items_aggregated,
                total_size_bytes = b.total_size_bytes + excluded.total_size_bytes,
                unique_file_types = CASE WHEN b.unique_file_types @> excluded.unique_file_types OR cardinality(b.unique_file_types) >= 100
                    THEN b.unique_file_types ELSE b.unique_file_types || excluded.unique_file_types END,
                sample_workflows = CASE WHEN b.sample_workflows @> excluded.sample_workflows OR cardinality(b.sample_workflows) >= 100
                    THEN b.sample_workflows ELSE b.sample_workflows || excluded.sample_workflows END,
                last_aggregation_timestamp = excluded.last_aggregation_timestamp, updated_at = excluded.updated_at,
                version = b.version + 1"
        );
        Self { began, resumed, steps, ended }
    }
}

impl StampingProjection {
    pub(super) fn new(tables: &StampingTables, window: Duration) -> Self {
        let window = i64::try_from(window.as_micros()).unwrap_or(i64::MAX).max(1);
        Self { version: tables.version, window, statements: Statements::of(&tables.schema) }
    }

    async fn began(&self, tx: &PgTx, execution: &str, at: i64, began: &Began) -> Result<(), ApplyError> {
        let state = if began.is_processing { StampState::Processing } else { StampState::Pending };
        let request = &began.request;
        let input = request.input_data.as_ref();
        let size = input.and_then(|input| input.content.as_ref()).map_or(0, String::len) as i64;
        let path = text(input.map_or("", |input| &input.file_path));
        let content_type = text(input.map_or("", |input| &input.content_type));
        let metadata = json(input.map_or(&BTreeMap::new(), |input| &input.metadata))?;
        let (namespace, session) = (text(request.namespace()), request.session_id.as_deref().map(text));
        let values: [&(dyn ToSql + Sync); 10] = [
            &execution,
            &at,
            &Stamping::TYPE,
            &state.as_str(),
            &namespace,
            &session,
            &path,
            &size,
            &content_type,
            &metadata,
        ];
        tx.execute(&self.statements.began, &values).await.map(drop)
    }

    async fn steps(&self, tx: &PgTx, execution: &str, at: i64, results: &[StepResult]) -> Result<(), ApplyError> {
        let (mut hash, mut hash_ms, mut said, mut stamp) = (None, None, None, None);
        for result in results {
            match &result.outcome {
                StepOutcome::HashGeneration { file_hash, .. } => {
                    (hash, hash_ms) = (Some(text(file_hash)), Some(result.duration_ms));
                }
                StepOutcome::OnextreeIntelligence { intelligence_data, .. } => said = Some(json(intelligence_data)?),
                StepOutcome::StampCreation { stamp_id, .. } => stamp = Some(text(stamp_id)),
                StepOutcome::Validation => {}
            }
        }
        let (written, count) = (json(results)?, results.len() as i32);
        let from = before(StampState::Processing);
        let values: [&(dyn ToSql + Sync); 9] =
            [&execution, &at, &from, &written, &count, &hash, &hash_ms, &said, &stamp];
        tx.execute(&self.statements.steps, &values).await.map(drop)
    }

    async fn ended(&self, tx: &PgTx, execution: &str, at: i64, failure: Option<&Failure>) -> Result<(), ApplyError> {
        let state = if failure.is_some() { StampState::Failed } else { StampState::Completed };
        let start = at - at.rem_euclid(self.window);
        let end = start.saturating_add(self.window);
        let (code, message) =
            (failure.map(|failure| failure.code.as_str()), failure.map(|failure| text(&failure.message)));
        let from = before(state);
        let values: [&(dyn ToSql + Sync); 8] = [&execution, &at, &state.as_str(), &from, &start, &end, &code, &message];
        tx.execute(&self.statements.ended, &values).await.map(drop)
    }
}

impl Projection for StampingProjection {
    type Tx = PgTx;

    fn name(&self) -> &str {
        "stamping-tables"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn query(&self) -> Query {
        query()
    }

    async fn apply(&self, tx: &mut PgTx, event: &RecordedEvent) -> Result<(), ApplyError> {
        let Some((execution, change)) = change(event)? else { return Ok(()) };
        let at = event.time().as_micros();
        match change {
            Change::Began(began) => self.began(tx, execution, at, &began).await,
            Change::BeganOther => Ok(()),
            Change::Resumed => {
                let from = before(StampState::Processing);
                let values: [&(dyn ToSql + Sync); 3] = [&execution, &at, &from];
                tx.execute(&self.statements.resumed, &values).await.map(drop)
            }
            Change::Steps(results) => self.steps(tx, execution, at, &results).await,
            Change::Completed => self.ended(tx, execution, at, None).await,
            Change::Failed(failure) => self.ended(tx, execution, at, Some(&failure)).await,
        }
    }
}
