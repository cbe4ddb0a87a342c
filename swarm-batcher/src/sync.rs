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
use std::time::{Duration, Instant};

/// How long who finds a busy lock taken stays away before it looks again, and how often it does so before it sleeps.
const AWAY: Duration = Duration::from_micros(4);
const LOOKS: u32 = 4;

/// Locks, whatever happened to who held the lock before: user code under it is that of keys (compared, cloned, dropped) and the clone of
/// a waker, and they change nothing.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same for a lock that many take for a moment each. Who finds it taken stays away for as long as some forty such moments take: if it
/// looked at once, lock and state would go from core to core with every item, which takes longer than all that is done with them. To
/// sleep takes longer still.
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
    // Time does not pass in a model.
    let looks = if cfg!(any(swarm_batcher_loom, swarm_batcher_shuttle)) { 0 } else { LOOKS };
    for _ in 0..looks {
        let since = Instant::now();
        while since.elapsed() < AWAY {
            (0..16).for_each(|_| std::hint::spin_loop());
        }
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
    }
    lock(mutex)
}
