//! A table by type that is read all the time and changed rarely.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

/// One bus has its own: a `static` in a generic function would be shared by all.
pub(crate) struct ByType<V: ?Sized> {
    entries: ArcSwap<HashMap<TypeId, Arc<V>, BuildHasherDefault<TypeHash>>>,
    changing: Mutex<()>,
}

impl<V: ?Sized> ByType<V> {
    pub(crate) fn new() -> Self {
        Self { entries: ArcSwap::from_pointee(HashMap::default()), changing: Mutex::new(()) }
    }

    /// What `look` makes of the entry.
    #[inline]
    pub(crate) fn with<R>(&self, key: TypeId, look: impl FnOnce(&Arc<V>) -> R) -> Option<R> {
        self.entries.load().get(&key).map(look)
    }

    /// The entry, which is made if there is none.
    pub(crate) fn get_or_insert(&self, key: TypeId, make: impl FnOnce() -> Arc<V>) -> Arc<V> {
        if let Some(value) = self.with(key, Arc::clone) {
            return value;
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = self.with(key, Arc::clone) {
            return value;
        }
        let value = make();
        let mut entries = HashMap::clone(&self.entries.load());
        entries.insert(key, Arc::clone(&value));
        self.entries.store(Arc::new(entries));
        value
    }

    pub(crate) fn values(&self) -> Vec<Arc<V>> {
        self.entries.load().values().cloned().collect()
    }
}

/// A `TypeId` is a hash already.
#[derive(Default)]
pub(crate) struct TypeHash(u64);

impl Hasher for TypeHash {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
