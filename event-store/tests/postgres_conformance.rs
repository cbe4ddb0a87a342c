//! The conformance suite, unchanged, and recorded histories: on PostgreSQL.

mod postgres;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_store::testkit::conformance::{self, Setting};
use event_store::testkit::{Exercise, check, exercise, exercise_in_threads_by};
use event_store::{PgOptions, PostgresStore};
use tokio::runtime::{Handle, Runtime};

fn setting() -> Setting {
    let handle = Handle::current();
    Setting::default().limit(Duration::from_secs(60)).block_on(move |future| handle.block_on(future))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs the suite, each case on a database of its own.
async fn run(options: impl Fn() -> PgOptions) -> conformance::Report {
    let server = postgres::server().await;
    // They go when the suite is over.
    let databases = Mutex::new(Vec::new());
    let make = || async {
        let database = server.database().await.expect("a database");
        let store = postgres::store_with(&database, options().listen(database.config().clone())).await;
        databases.lock().expect("nobody panics").push(database);
        store
    };
    conformance::run_with(&setting(), make).await
}

#[test]
fn the_store_conforms() {
    runtime().block_on(async {
        let report = run(PgOptions::new).await;
        report.assert_passed();
        assert_eq!(report.passed.len(), conformance::cases::<PostgresStore>().len());
    });
}

#[test]
fn the_store_conforms_by_polling_alone() {
    runtime().block_on(async {
        let server = postgres::server().await;
        let databases = Mutex::new(Vec::new());
        let make = || async {
            let database = server.database().await.expect("a database");
            let store = postgres::store_with(&database, PgOptions::new().notify(false)).await;
            databases.lock().expect("nobody panics").push(database);
            store
        };
        conformance::run_with(&setting(), make).await.assert_passed();
    });
}

/// On one task and on threads, `SEEDS` times: judged by the checker.
#[test]
fn histories_have_no_anomalies() {
    runtime().block_on(async {
        let server = postgres::server().await;
        let mut appended = 0;
        for seed in 0..postgres::count("SEEDS", 3) {
            let plan = Exercise { seed, operations: 150, ..Exercise::default() };
            let database = server.database().await.expect("a database");
            let store = Arc::new(postgres::store(&database).await);
            let history = exercise(&store, plan).await;
            appended += check(&history).unwrap_or_else(|found| panic!("seed {seed}: {found:#?}")).appended;

            let database = server.database().await.expect("a database");
            let store = Arc::new(postgres::store(&database).await);
            let handle = Handle::current();
            let working = tokio::task::spawn_blocking(move || {
                exercise_in_threads_by(&|future| handle.block_on(future), &store, plan)
            });
            let history = working.await.expect("no panic");
            appended += check(&history).unwrap_or_else(|found| panic!("seed {seed}: {found:#?}")).appended;
        }
        assert!(appended > 500, "{appended}");
    });
}
