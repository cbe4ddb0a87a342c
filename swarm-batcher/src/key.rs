//! Keys of any type behind one face: the batcher's type names neither the key of its lanes nor the one by which items are shared.

use std::any::Any;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;

/// A key whose type only its maker knows.
pub(crate) trait AnyKey: Any + Send {
    fn same(&self, other: &dyn AnyKey) -> bool;
    fn boxed(&self) -> Box<dyn AnyKey>;
    fn as_any(&self) -> &dyn Any;
}

impl<K: Clone + Eq + Send + 'static> AnyKey for K {
    fn same(&self, other: &dyn AnyKey) -> bool {
        other.as_any().downcast_ref::<K>() == Some(self)
    }

    fn boxed(&self) -> Box<dyn AnyKey> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Makes the key of an item.
pub(crate) trait KeyOf<I>: Send + Sync {
    /// Calls `visit` with the key of `item` and its hash, once. The key lives no longer.
    fn with(&self, item: &I, visit: &mut dyn FnMut(u64, &dyn AnyKey));
}

/// A function of the user's, and a seed of our own: keys may come from outside.
struct Function<F> {
    function: F,
    seed: RandomState,
}

impl<I, K, F> KeyOf<I> for Function<F>
where
    K: Hash + Eq + Clone + Send + 'static,
    F: Fn(&I) -> K + Send + Sync,
{
    fn with(&self, item: &I, visit: &mut dyn FnMut(u64, &dyn AnyKey)) {
        let key = (self.function)(item);
        visit(self.seed.hash_one(&key), &key);
    }
}

pub(crate) fn key_of<I, K, F>(function: F) -> Box<dyn KeyOf<I>>
where
    K: Hash + Eq + Clone + Send + 'static,
    F: Fn(&I) -> K + Send + Sync + 'static,
{
    Box::new(Function { function, seed: RandomState::default() })
}
