//! Reading the tables of stamping workflows: 10,000 workflows of 100 sessions, 1,000 windows of 100 namespaces.

use std::time::Duration;

use bridge_orchestrator::stamping::tables::StampingTables;
use deadpool_postgres::RecyclingMethod;
use event_store::Timestamp;
use harness::{Bench, BenchError};

use crate::setting::Setting;

const WORKFLOWS: u64 = 10_000;
const SESSIONS: u64 = 100;
const NAMESPACES: u64 = 100;
const WINDOWS: u64 = 1_000;
const PER_ROUND: u64 = 100;
/// Workflows of each kind of analysis.
const ANALYSES: u64 = WORKFLOWS / 500;

/// Rows as the projection writes them, without the journals that it would read.
const FILL: &str = r#"
    INSERT INTO stamping_v1.workflow_executions
    SELECT 'workflow-' || n, 'metadata_stamping', 'COMPLETED', 'namespace-' || n % 100, 'session-' || n % 100, 'stamp-' || n,
        md5(n::text) || md5((-n)::text), '/in/' || n, 4096, 'text/plain',
        jsonb_build_array(
            jsonb_build_object('step_id', 'validate_input', 'step_type', 'validation', 'status', 'success', 'duration_ms', 0.001),
            jsonb_build_object('step_id', 'hash_generation', 'step_type', 'hash_generation', 'status', 'success', 'duration_ms', 0.01,
                'file_hash', md5(n::text) || md5((-n)::text), 'file_size_bytes', 4096),
            jsonb_build_object('step_id', 'stamp_creation', 'step_type', 'stamp_creation', 'status', 'success', 'duration_ms', 0.1,
                'stamp_id', 'stamp-' || n, 'stamp_data', '{}'::jsonb)),
        3, jsonb_build_object('analysis_type', 'analysis-' || n % 500, 'confidence_score', '0.85', 'recommendations', 'none'), 0.01, 1.5,
        NULL, NULL, '{}', now() + n * interval '1 ms', now(), now(), now()
    FROM generate_series(0, 9999) AS n;
    INSERT INTO stamping_v1.bridge_states
    SELECT 'namespace-' || n % 100 || '@' || n, 'namespace-' || n % 100, 'time_window',
        'epoch'::timestamptz + n * interval '5 s', 'epoch'::timestamptz + (n + 1) * interval '5 s', 'COMPLETED', 10, 10, 40960,
        ARRAY['text/plain'], ARRAY['workflow-' || n], now(), '{}', '{}', 10, now(), now()
    FROM generate_series(0, 999) AS n;
    ANALYZE stamping_v1.workflow_executions; ANALYZE stamping_v1.bridge_states
"#;

struct World {
    setting: Setting,
    tables: StampingTables,
}

impl World {
    fn new() -> Self {
        let setting = Setting::alone();
        let tables = StampingTables::new(setting.pool(2, 1, RecyclingMethod::Fast), 1);
        let database = setting.client();
        setting.runtime.block_on(async {
            tables.create().await.expect("made");
            database.batch_execute(FILL).await.expect("filled");
        });
        Self { setting, tables }
    }

    /// Times reads that each find `expected` rows; `read` is given numbers that go all over the table.
    fn reads(
        &self,
        bench: &mut Bench,
        expected: u64,
        read: impl AsyncFn(&StampingTables, u64) -> u64,
    ) -> Result<(), BenchError> {
        let mut next = 0;
        let rounds = bench.ops(
            PER_ROUND,
            || 0,
            move |found, _| {
                // Steps of a prime come to every row in turn.
                next = (next + 7_919) % WORKFLOWS;
                *found += self.setting.runtime.block_on(read(&self.tables, next));
            },
            |found| found,
        )?;
        bench.proof(rounds * PER_ROUND * expected, bench.observed());
        Ok(())
    }
}

pub(crate) fn workflow_by_correlation(bench: &mut Bench) -> Result<(), BenchError> {
    World::new().reads(bench, 1, async |tables, n| {
        let id = format!("workflow-{n}");
        let row = tables.workflow(&id).await.expect("read").expect("it is there");
        u64::from(row.correlation_id == id && row.workflow_steps.len() == 3)
    })
}

pub(crate) fn workflow_by_stamp(bench: &mut Bench) -> Result<(), BenchError> {
    World::new().reads(bench, 1, async |tables, n| {
        let row = tables.workflow_by_stamp(&format!("stamp-{n}")).await.expect("read").expect("it is there");
        u64::from(row.correlation_id == format!("workflow-{n}"))
    })
}

pub(crate) fn workflows_of_session(bench: &mut Bench) -> Result<(), BenchError> {
    World::new().reads(bench, WORKFLOWS / SESSIONS, async |tables, n| {
        let session = format!("session-{}", n % SESSIONS);
        let rows = tables.workflows_of_session(&session, 1_000).await.expect("read");
        assert!(rows.is_sorted_by(|a, b| a.created_at > b.created_at), "the latest first");
        rows.iter().filter(|row| row.session_id.as_deref() == Some(&session)).count() as u64
    })
}

pub(crate) fn workflows_by_intelligence(bench: &mut Bench) -> Result<(), BenchError> {
    World::new().reads(bench, ANALYSES, async |tables, n| {
        let wanted = format!("analysis-{}", n % 500);
        let part = serde_json::json!({ "analysis_type": wanted });
        let rows = tables.workflows_by_intelligence(&part, 1_000).await.expect("read");
        let has = |said: &serde_json::Value| said["analysis_type"] == *wanted;
        rows.iter().filter(|row| row.intelligence_data.as_ref().is_some_and(has)).count() as u64
    })
}

pub(crate) fn bridge_state(bench: &mut Bench) -> Result<(), BenchError> {
    World::new().reads(bench, 1, async |tables, n| {
        let namespace = format!("namespace-{}", n % NAMESPACES);
        let row = tables.bridge_state(&namespace).await.expect("read").expect("it is there");
        u64::from(row.namespace == namespace && row.bridge_id == format!("{namespace}@{}", 900 + n % NAMESPACES))
    })
}

pub(crate) fn bridge_states_of_window(bench: &mut Bench) -> Result<(), BenchError> {
    let end = Duration::from_secs(5 * WINDOWS).as_micros() as i64;
    World::new().reads(bench, WINDOWS, async |tables, _| {
        let rows = tables.bridge_states(Timestamp::from_micros(0), Timestamp::from_micros(end), 10_000).await;
        rows.expect("read").len() as u64
    })
}
