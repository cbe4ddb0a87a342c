//! What PostgreSQL's own load generator needs for the same statements.

use harness::{Bench, BenchError};

use crate::pgbench::{ROUNDS, TRANSACTIONS, pgbench};
use crate::queries::TABLE;
use crate::setting::Setting;

/// `SELECT 1`, prepared.
pub(crate) fn pgbench_select(bench: &mut Bench) -> Result<(), BenchError> {
    pgbench(bench, &Setting::alone(), "SELECT 1;")
}

/// An insert that waits for the disk, prepared.
pub(crate) fn pgbench_insert(bench: &mut Bench) -> Result<(), BenchError> {
    let setting = Setting::alone();
    let client = setting.client();
    setting.runtime.block_on(client.batch_execute(TABLE)).expect("made");
    pgbench(bench, &setting, "INSERT INTO telemetry (source, value) VALUES ('pgbench', 1.5);")?;
    let count = "SELECT count(*) FROM telemetry";
    let committed = setting.runtime.block_on(client.query_one(count, &[])).expect("counted").get::<_, i64>(0);
    assert_eq!(committed as u64, ROUNDS * TRANSACTIONS, "pgbench has done what it says");
    Ok(())
}
