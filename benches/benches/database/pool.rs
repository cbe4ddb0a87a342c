//! Taking a connection and giving it back.

use std::time::Instant;

use deadpool_postgres::{Pool, RecyclingMethod};
use harness::{Bench, BenchError};

use crate::setting::{OPEN, SIZE, Setting};

/// Tasks, and connections: the grid of deadpool's own benchmark.
pub(crate) const CELLS: [(usize, usize); 9] =
    [(8, 2), (8, 4), (8, 8), (16, 4), (16, 8), (16, 16), (32, 8), (32, 16), (32, 32)];

/// Connections that all tasks of a cell take together.
const GETS: usize = 32_768;

/// One task, a warm pool whose connections are looked at and not asked.
pub(crate) fn acquire(bench: &mut Bench) -> Result<(), BenchError> {
    one_task(bench, RecyclingMethod::Fast)
}

/// The same with a query to every connection before it is handed out.
pub(crate) fn acquire_verified(bench: &mut Bench) -> Result<(), BenchError> {
    one_task(bench, RecyclingMethod::Verified)
}

fn one_task(bench: &mut Bench, method: RecyclingMethod) -> Result<(), BenchError> {
    const PER_ROUND: u64 = 200;
    let setting = Setting::alone();
    let pool = setting.pool(SIZE, OPEN, method);
    let take = |taken: &mut u64, _| {
        let connection = setting.runtime.block_on(pool.get()).expect("a connection");
        *taken += u64::from(!connection.is_closed());
    };
    let rounds = bench.ops(PER_ROUND, || 0, take, |taken| taken)?;
    bench.proof(rounds * PER_ROUND, bench.observed());
    assert_eq!(pool.status().size, OPEN, "it is the connection of before");
    Ok(())
}

/// Many tasks that take a connection and give it back, over and over: the time of one of them is that of all by their number.
pub(crate) fn grid(bench: &mut Bench, workers: usize, size: usize) -> Result<(), BenchError> {
    let setting = Setting::threaded();
    let pool = setting.pool(size, size, RecyclingMethod::Fast);
    let mut taken = 0;
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        taken += setting.runtime.block_on(all(&pool, workers));
        (start.elapsed(), GETS as u64)
    })?;
    bench.proof(rounds * GETS as u64, taken);
    assert_eq!((pool.status().size, pool.status().available), (size, size), "every connection has come back");
    Ok(())
}

async fn all(pool: &Pool, workers: usize) -> u64 {
    let worker = || {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut taken = 0;
            for _ in 0..GETS / workers {
                let connection = pool.get().await.expect("within the patience");
                taken += u64::from(!connection.is_closed());
            }
            taken
        })
    };
    let tasks: Vec<_> = (0..workers).map(|_| worker()).collect();
    let mut taken = 0;
    for task in tasks {
        taken += task.await.expect("no panic");
    }
    taken
}
