//! The event store on PostgreSQL, beside what a driver alone does on the same server. Every row runs on a throw-away server that waits for its
//! disk; its report is printed.

#[path = "../database/pgbench.rs"]
mod pgbench;
#[path = "../database/setting.rs"]
#[allow(dead_code, reason = "the suite of pools uses the rest")]
mod setting;

mod appends;
mod flushes;
mod groups;
mod reads;
mod stores;

use std::process::ExitCode;

use harness::Suite;

fn main() -> ExitCode {
    Suite::new()
        .bench("event-store/postgres/append-1", appends::one)
        .bench("event-store/floor/postgres-pgbench-insert", appends::pgbench_insert)
        .bench("event-store/postgres/append-100", appends::hundred)
        .bench("event-store/postgres/writers-64", groups::writers)
        .bench("event-store/postgres/events-per-flush", groups::events_per_flush)
        .bench("event-store/postgres/catch-up", reads::catch_up)
        .bench("event-store/postgres/wake", reads::wake)
        .run()
}
