//! A pool that has nothing to give, and a pool whose server was restarted.

use std::time::{Duration, Instant};

use deadpool_postgres::{PoolError, RecyclingMethod, TimeoutType, Timeouts};
use ephemeral_postgres::StopMode;
use harness::{Bench, BenchError};

use crate::setting::{SIZE, Setting};

/// From the end of the patience to the error, while all connections are out; then one comes back, and the next get has it.
pub(crate) fn exhausted(bench: &mut Bench) -> Result<(), BenchError> {
    const WAIT: Duration = Duration::from_millis(20);
    let setting = Setting::alone();
    let pool = setting.pool(SIZE, SIZE, RecyclingMethod::Fast);
    let mut seen = 0;
    let rounds = bench.rounds(|| {
        setting.runtime.block_on(async {
            let mut out = Vec::new();
            for _ in 0..SIZE {
                out.push(pool.get().await.expect("a connection"));
            }
            let impatient = Timeouts { wait: Some(WAIT), ..Timeouts::default() };
            let start = Instant::now();
            let refused = pool.timeout_get(&impatient).await;
            let late = start.elapsed().saturating_sub(WAIT);
            assert!(
                matches!(refused, Err(PoolError::Timeout(TimeoutType::Wait))),
                "refused, and as a matter of waiting"
            );
            out.pop();
            let connection = pool.get().await.expect("the one that came back");
            seen += connection.query_one("SELECT 1", &[]).await.expect("an answer").get::<_, i32>(0) as u64;
            (late.max(Duration::from_nanos(1)), 1)
        })
    })?;
    bench.proof(rounds, seen);
    assert_eq!((pool.status().size, pool.status().waiting), (SIZE, 0), "nobody is left waiting");
    Ok(())
}

/// From the moment when a restarted server answers to the first answer through a pool whose connections are all dead.
pub(crate) fn restarted(bench: &mut Bench) -> Result<(), BenchError> {
    let setting = Setting::alone();
    let pool = setting.pool(SIZE, SIZE, RecyclingMethod::Fast);
    let mut seen = 0;
    let rounds = bench.rounds(|| {
        setting.runtime.block_on(async {
            setting.server.restart(StopMode::Immediate).await.expect("restarted");
            let start = Instant::now();
            let answer = loop {
                // A connection may be handed out whose end is not known yet.
                if let Ok(connection) = pool.get().await
                    && let Ok(answer) = connection.query_one("SELECT 1", &[]).await
                {
                    break answer;
                }
            };
            seen += answer.get::<_, i32>(0) as u64;
            (start.elapsed(), 1)
        })
    })?;
    bench.proof(rounds, seen);
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let client = setting.client();
    let open = setting.runtime.block_on(client.query_one(open, &[])).expect("counted").get::<_, i64>(0);
    assert!(open <= SIZE as i64, "{open} connections of a pool of {SIZE}");
    Ok(())
}
