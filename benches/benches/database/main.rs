//! What a pool and a query really cost: alone, under contention, when the pool is exhausted, and after the server was restarted. Every row
//! runs on a throw-away server that waits for its disk; its report is printed.

mod faults;
mod floors;
mod pgbench;
mod pool;
mod queries;
mod setting;

use std::process::ExitCode;

use harness::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new()
        .bench("database/pool/acquire", pool::acquire)
        .bench("database/pool/acquire-verified", pool::acquire_verified);
    for (workers, size) in pool::CELLS {
        let id = format!("database/pool/grid-{workers}x{size}");
        suite = suite.bench(&id, move |bench| pool::grid(bench, workers, size));
    }
    suite
        .bench("database/query/select-1", queries::select_1)
        .bench("database/query/insert", queries::insert)
        .bench("database/faults/exhausted", faults::exhausted)
        .bench("database/faults/restarted", faults::restarted)
        .bench("database/floor/pgbench-select-1", floors::pgbench_select)
        .bench("database/floor/pgbench-insert", floors::pgbench_insert)
        .run()
}
