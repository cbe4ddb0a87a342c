//! Runs works of contests for rivals written in Python, under Python 3.12 and timed inside it: its loop is running, and no garbage
//! is collected within the timing.
//!
//! An [`Environment`] is made once in `<name>-venv` below the target folder, by `pip`. Without Python 3.12 or its packages,
//! [`Environment::measure`] fails and says so.

mod environment;
mod interpreter;
mod script;

pub use environment::Environment;
pub use script::Outcome;
