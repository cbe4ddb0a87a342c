//! Whose atomics the protocols between readers and the writer use: the standard library's, or loom's under the crate's own
//! `--cfg memory_store_loom` (loom's global cfg would reach dependencies that do not build under it).

#[cfg(not(memory_store_loom))]
pub(crate) use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

#[cfg(memory_store_loom)]
pub(crate) use loom::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
