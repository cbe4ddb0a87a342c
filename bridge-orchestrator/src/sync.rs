//! The one place that decides whose atomics the crate uses: the standard library's, or loom's under the crate's own `--cfg
//! bridge_orchestrator_loom` (loom's global cfg would reach dependencies that do not build under it).

#[cfg(bridge_orchestrator_loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(bridge_orchestrator_loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
