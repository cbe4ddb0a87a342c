//! The one place that decides whose locks and atomics the batcher uses: the standard library's; loom's under the crate's own `--cfg
//! swarm_batcher_loom` (loom's global cfg would reach dependencies that do not build under it); shuttle's under `--cfg
//! swarm_batcher_shuttle`.

#[cfg(swarm_batcher_loom)]
pub(crate) use loom::{
    sync::atomic::{AtomicU32, Ordering},
    sync::{Mutex, MutexGuard},
    thread_local,
};
#[cfg(all(swarm_batcher_shuttle, not(swarm_batcher_loom)))]
pub(crate) use shuttle::{
    sync::atomic::{AtomicU32, Ordering},
    sync::{Mutex, MutexGuard},
    thread_local,
};
#[cfg(not(any(swarm_batcher_loom, swarm_batcher_shuttle)))]
pub(crate) use std::{
    sync::atomic::{AtomicU32, Ordering},
    sync::{Mutex, MutexGuard},
    thread_local,
};

use std::sync::PoisonError;

/// Locks, whatever happened to who held the lock before: user code under it is the comparison of keys alone, and that changes nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
