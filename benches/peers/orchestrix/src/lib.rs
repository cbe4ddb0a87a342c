//! Runs works of contests for the Python library orchestrix 0.1.0 under Python 3.12, timed inside Python: its loop is running,
//! logging is off, and no garbage is collected within the timing.
//!
//! The environment is made once in `orchestrix-venv` below the target folder, by `pip`. Without Python 3.12 or the package,
//! [`measure`] fails and says so.

mod python;
mod script;

pub use script::{Outcome, measure};
