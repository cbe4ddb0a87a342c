//! The works that balancers, circuit breakers, failure detectors, state machines, reducers and durable workflows are compared by, defined once:
//! every contender does the same.
//!
//! A contender is a binary of its own, whose `main` runs the suite of a [`Contest`]; its benchmarks are
//! `peers/bridge-orchestrator/<work>/<peer>`. Everything is called from one thread but for the workflows of many clients. Workflows are behind the
//! feature `workflows`: they start a PostgreSQL server.

mod balancing;
mod breaking;
mod contest;
mod detecting;
#[cfg(feature = "workflows")]
mod orchestrating;
mod random;
mod reducing;
mod transition;

pub use balancing::Balances;
pub use breaking::Breaks;
pub use contest::Contest;
pub use detecting::Detects;
#[cfg(feature = "workflows")]
pub use event_store_postgres_contest::Database;
#[cfg(feature = "workflows")]
pub use orchestrating::{Orchestrates, STEPS, step};
pub use reducing::{Group, Item, Reduces};
pub use transition::{Event, Steps};
