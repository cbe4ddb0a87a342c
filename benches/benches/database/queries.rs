//! A connection taken, a query, the connection given back; beside the same query on a connection of its own.

use std::time::Instant;

use deadpool_postgres::RecyclingMethod;
use harness::{Bench, BenchError};

use crate::setting::{OPEN, SIZE, Setting};

/// What the rows insert into, and how.
pub(crate) const TABLE: &str =
    "CREATE TABLE telemetry (id bigserial PRIMARY KEY, source text NOT NULL, value float8 NOT NULL)";
const INSERT: &str = "INSERT INTO telemetry (source, value) VALUES ($1, $2)";

/// Prepared on both sides, and one task.
pub(crate) fn select_1(bench: &mut Bench) -> Result<(), BenchError> {
    const PER_ROUND: u64 = 100;
    const SELECT: &str = "SELECT 1";
    let setting = Setting::alone();
    let (pool, client) = (setting.pool(SIZE, OPEN, RecyclingMethod::Fast), setting.client());
    let prepared = setting.runtime.block_on(client.prepare(SELECT)).expect("prepared");
    let (mut pooled, mut bare) = (0, 0);
    let rounds = bench.against(
        "database/floor/select-1",
        || {
            let start = Instant::now();
            pooled += setting.runtime.block_on(async {
                let mut sum = 0;
                for _ in 0..PER_ROUND {
                    let connection = pool.get().await.expect("a connection");
                    let select = connection.prepare_cached(SELECT).await.expect("prepared");
                    sum += connection.query_one(&select, &[]).await.expect("an answer").get::<_, i32>(0);
                }
                sum as u64
            });
            (start.elapsed(), PER_ROUND)
        },
        || {
            let start = Instant::now();
            bare += setting.runtime.block_on(async {
                let mut sum = 0;
                for _ in 0..PER_ROUND {
                    sum += client.query_one(&prepared, &[]).await.expect("an answer").get::<_, i32>(0);
                }
                sum as u64
            });
            (start.elapsed(), PER_ROUND)
        },
    )?;
    bench.proof(2 * rounds * PER_ROUND, pooled + bare);
    Ok(())
}

/// Every insert is a transaction that waits for the disk.
pub(crate) fn insert(bench: &mut Bench) -> Result<(), BenchError> {
    const PER_ROUND: u64 = 20;
    let setting = Setting::alone();
    let (pool, client) = (setting.pool(SIZE, OPEN, RecyclingMethod::Fast), setting.client());
    let prepared = setting.runtime.block_on(async {
        client.batch_execute(TABLE).await.expect("made");
        client.prepare(INSERT).await.expect("prepared")
    });
    let rounds = bench.against(
        "database/floor/insert",
        || {
            let start = Instant::now();
            setting.runtime.block_on(async {
                for value in 0..PER_ROUND {
                    let connection = pool.get().await.expect("a connection");
                    let insert = connection.prepare_cached(INSERT).await.expect("prepared");
                    connection.execute(&insert, &[&"pooled", &(value as f64)]).await.expect("committed");
                }
            });
            (start.elapsed(), PER_ROUND)
        },
        || {
            let start = Instant::now();
            setting.runtime.block_on(async {
                for value in 0..PER_ROUND {
                    client.execute(&prepared, &[&"bare", &(value as f64)]).await.expect("committed");
                }
            });
            (start.elapsed(), PER_ROUND)
        },
    )?;
    let committed = setting.runtime.block_on(async {
        let fsync = client.query_one("SHOW fsync", &[]).await.expect("shown");
        assert_eq!(fsync.get::<_, String>(0), "on");
        client.query_one("SELECT count(*) FROM telemetry", &[]).await.expect("counted").get::<_, i64>(0)
    });
    bench.proof(2 * rounds * PER_ROUND, committed);
    Ok(())
}
