//! The works that request batchers are compared by, defined once: every contender answers the same numbers by the same handler.
//!
//! A contender is a binary of its own, whose `main` runs the suite of a [`Contest`]; its benchmarks are
//! `peers/swarm-batcher/<work>/<peer>`. The runtime, the batcher and the callers are there before the clock starts. Every caller
//! checks each of its replies and adds them up; a benchmark with a wrong reply or a wrong sum has no result.

mod calls;
mod contest;
mod handler;
mod idle;
mod replies;
#[cfg(feature = "telemetry")]
pub mod telemetry;
mod work;

pub use calls::Calls;
pub use contest::Contest;
pub use handler::{Handler, answer};
pub use work::{BATCH, Work};
