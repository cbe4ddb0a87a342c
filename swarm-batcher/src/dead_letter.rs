//! Where items go that nobody waits for and that could not be handled.

use std::fmt;

use crate::error::BatchError;

/// An item that was [pushed](crate::Batcher::push), hence has no caller, and could not be handled.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeadLetter<I, E> {
    /// The item, unless the handler took it out of its batch.
    pub item: Option<I>,
    /// Why it was given up.
    pub error: BatchError<E>,
}

impl<I, E: fmt::Debug> fmt::Debug for DeadLetter<I, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("DeadLetter");
        debug.field("has_item", &self.item.is_some()).field("error", &self.error).finish_non_exhaustive()
    }
}

/// Takes dead letters, or says that it does not.
pub(crate) type Sink<I, E> = Box<dyn Fn(DeadLetter<I, E>) -> bool + Send + Sync>;
