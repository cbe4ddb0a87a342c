//! The works that balancers, circuit breakers, failure detectors and state machines are compared by, defined once: every contender does the
//! same.
//!
//! A contender is a binary of its own, whose `main` runs the suite of a [`Contest`]; its benchmarks are
//! `peers/bridge-orchestrator/<work>/<peer>`. Everything is on one thread.

mod balancing;
mod breaking;
mod contest;
mod detecting;
mod transition;

pub use balancing::Balances;
pub use breaking::Breaks;
pub use contest::Contest;
pub use detecting::Detects;
pub use transition::{Event, Steps};
