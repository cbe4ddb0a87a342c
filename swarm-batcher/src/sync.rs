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

use std::sync::{PoisonError, TryLockError};

const LOOKS: u32 = 12;
const MOST_PAUSES: u32 = 8;

/// Locks, whatever happened to who held the lock before: user code under it is the comparison of keys alone, and that changes nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same for a lock that is held for a moment at a time, by many: looks again and again before it sleeps, for to sleep and to be woken
/// takes a hundred times as long as what the lock is held for.
#[inline]
pub(crate) fn lock_busy<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.try_lock() {
        Ok(guard) => guard,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => lock_contended(mutex),
    }
}

#[cold]
fn lock_contended<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    for round in 0..LOOKS {
        for _ in 0..1 << round.min(MOST_PAUSES) {
            std::hint::spin_loop();
        }
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
    }
    lock(mutex)
}
