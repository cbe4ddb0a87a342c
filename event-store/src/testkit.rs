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
//! [`conformance::run`] asks a fresh store the questions of the contract, one a case. It ends with random histories of several
//! clients, which the checker judges. A back end that loses something only under load is found by longer ones:
//!
//! ```
//! use std::sync::Arc;
//! use event_store::MemoryStore;
//! use event_store::testkit::{Exercise, check, exercise_in_threads};
//!
//! let store = Arc::new(MemoryStore::new());
//! let history = exercise_in_threads(&store, Exercise { seed: 7, clients: 4, operations: 500 });
//! let summary = check(&history).expect("no anomalies");
//! assert!(summary.appended > 0 && summary.reads > 0);
//! ```

mod checker;
pub mod conformance;
mod exercise;
mod history;
mod order;

pub use checker::{Anomaly, Summary, check};
pub use exercise::{Exercise, exercise, exercise_in_threads};
pub use history::{Call, Client, History, Operation, Recorder, Subscriber};
pub use order::Order;
