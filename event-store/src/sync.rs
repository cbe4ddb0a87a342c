//! The one place that decides whose atomics and locks the crate uses: the standard library's; loom's under the crate's own
//! `--cfg event_store_loom` (loom's global cfg would reach dependencies that do not build under it); shuttle's under
//! `--cfg event_store_shuttle`.

#[cfg(not(any(event_store_loom, event_store_shuttle)))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

#[cfg(not(any(event_store_loom, event_store_shuttle)))]
pub(crate) use arc_swap::ArcSwap;

/// Hash seeds: random, but for models, which must run alike every time.
#[cfg(not(any(event_store_loom, event_store_shuttle)))]
pub(crate) use foldhash::quality::RandomState as HashSeed;

#[cfg(any(event_store_loom, event_store_shuttle))]
pub(crate) use foldhash::quality::FixedState as HashSeed;

/// In place of arc-swap, whose own synchronisation a model cannot follow.
#[cfg(any(event_store_loom, event_store_shuttle))]
#[derive(Debug)]
pub(crate) struct ArcSwap<T>(Mutex<std::sync::Arc<T>>);

#[cfg(any(event_store_loom, event_store_shuttle))]
impl<T> ArcSwap<T> {
    pub(crate) fn new(value: std::sync::Arc<T>) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn load(&self) -> std::sync::Arc<T> {
        std::sync::Arc::clone(&self.0.lock().expect("a model does not panic under this lock"))
    }

    pub(crate) fn load_full(&self) -> std::sync::Arc<T> {
        self.load()
    }

    pub(crate) fn store(&self, value: std::sync::Arc<T>) {
        *self.0.lock().expect("a model does not panic under this lock") = value;
    }
}

#[cfg(event_store_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

#[cfg(all(event_store_shuttle, not(event_store_loom)))]
pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};
