//! What a back end is held to (feature `testkit`): a conformance suite, a recorder of histories, and a checker that finds what a
//! history shows to be wrong.
//!
//! ```
//! # futures::executor::block_on(async {
//! use event_store::MemoryStore;
//! use event_store::testkit::conformance;
//!
//! let report = conformance::run(|| async { MemoryStore::new() }).await;
//! report.assert_passed();
//! # });
//! ```
//!
//! # What to run
//! [`conformance::run`] asks a fresh store the questions of the contract, one a case, with random histories of several clients among
//! them, which the checker judges. [`conformance::run_events`] is for stores without snapshots, and a [`conformance::Setting`] says
//! how long a case may take and how its threads drive the futures of a store that needs its runtime. A back end that loses something only under load is found by longer ones:
//!
//! ```
//! use std::sync::Arc;
//! use event_store::MemoryStore;
//! use event_store::testkit::{Exercise, check, exercise_in_threads};
//!
//! let store = Arc::new(MemoryStore::new());
//! let history = exercise_in_threads(&store, Exercise { seed: 7, operations: 500, ..Exercise::default() });
//! let summary = check(&history).expect("no anomalies");
//! assert!(summary.appended > 0 && summary.reads > 0);
//! ```

mod checker;
pub mod conformance;
mod exercise;
mod given;
mod history;
mod order;
mod with_snapshots;

pub use checker::{Anomaly, Summary, check};
pub use exercise::{Exercise, exercise, exercise_in_threads, exercise_in_threads_by};
pub use given::{Given, When, given};
pub use history::{Call, Client, History, Operation, Recorder, Subscriber};
pub use order::Order;
pub use with_snapshots::WithSnapshots;
