//! Adaptive memory store.

mod error;

pub use error::{Error, Outcome};
