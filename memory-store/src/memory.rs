//! What goes into a store and what comes out.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::decay::RetentionClass;
use crate::error::Error;

/// Names a memory in its store. Ids are given in ascending order, begin at 1 and are never given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct MemoryId(pub u64);

/// A vector with its payload, on its way into a store.
#[derive(Debug, Clone)]
#[must_use = "a memory is stored by `write`"]
pub struct Memory<'a, P> {
    pub(crate) vector: &'a [f32],
    pub(crate) payload: Arc<P>,
    pub(crate) payload_bytes: u32,
    pub(crate) at: Option<Timestamp>,
    pub(crate) class: RetentionClass,
    pub(crate) importance: f32,
    pub(crate) incident: Option<&'a str>,
    pub(crate) is_distinct: bool,
}

impl<'a, P> Memory<'a, P> {
    /// `vector` with `payload`, of medium class and importance 0.5.
    pub fn new(vector: &'a [f32], payload: P) -> Self {
        Self::shared(vector, Arc::new(payload))
    }

    /// As [`new`](Self::new), with a payload that others hold too: no copy of it is made.
    pub fn shared(vector: &'a [f32], payload: Arc<P>) -> Self {
        let (class, importance) = (RetentionClass::Medium, 0.5);
        Self { vector, payload, payload_bytes: 0, at: None, class, importance, incident: None, is_distinct: false }
    }

    /// When it was seen, instead of now.
    pub fn at(mut self, moment: Timestamp) -> Self {
        self.at = Some(moment);
        self
    }

    /// How long it is to be kept.
    pub fn class(mut self, class: RetentionClass) -> Self {
        self.class = class;
        self
    }

    /// Of the class [`Critical`](RetentionClass::Critical): it is never evicted, and pruned only on demand.
    pub fn critical(self) -> Self {
        self.class(RetentionClass::Critical)
    }

    /// How important it is by itself, 0 to 1.
    pub fn importance(mut self, importance: f32) -> Self {
        self.importance = importance + 0.0; // there is one zero
        self
    }

    /// The incident that it belongs to. The empty name is none.
    pub fn incident(mut self, incident: &'a str) -> Self {
        self.incident = Some(incident).filter(|name| !name.is_empty());
        self
    }

    /// A memory of its own: no duplicate is looked for, whatever the store does by [`Dedup`](crate::Dedup). For what is known to be new,
    /// such as an import: the search is nearly all that a write costs.
    pub fn distinct(mut self) -> Self {
        self.is_distinct = true;
        self
    }

    /// What its payload takes, in bytes, for the [capacity in bytes](crate::Capacity::max_bytes).
    pub fn payload_bytes(mut self, bytes: u32) -> Self {
        self.payload_bytes = bytes;
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check_importance(self.importance)
    }
}

pub(crate) fn check_importance(importance: f32) -> Result<(), Error> {
    if (0.0..=1.0).contains(&importance) {
        return Ok(());
    }
    Err(Error::InvalidValue { what: "importance", value: importance.into(), allowed: "0 to 1" })
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Written {
    /// It is a memory of its own.
    Inserted(MemoryId),
    /// It was merged into a memory that was there.
    Merged {
        /// That memory.
        id: MemoryId,
        /// How often it has been seen by now.
        recurrence: u32,
        /// The cosine of the two vectors.
        similarity: f64,
    },
}

impl Written {
    /// The memory that now stands for the write.
    #[must_use]
    pub fn id(&self) -> MemoryId {
        match *self {
            Self::Inserted(id) | Self::Merged { id, .. } => id,
        }
    }

    /// Whether it was merged.
    #[must_use]
    pub fn is_merged(&self) -> bool {
        matches!(self, Self::Merged { .. })
    }
}

/// A memory as it stands. Beside a write that changes it, each value is of some moment of the call; vector and payload belong together. What it holds of the store is its payload alone.
#[derive(Debug)]
pub struct Recalled<P> {
    /// Its name.
    pub id: MemoryId,
    /// What was stored with it.
    pub payload: Arc<P>,
    /// When it was first written.
    pub first_seen: Timestamp,
    /// When it was last written, or touched where the store counts that ([`Recency::LastAccessed`](crate::Recency)).
    pub last_seen: Timestamp,
    /// How often it was written.
    pub recurrence: u32,
    /// Its class, the highest of all its writes.
    pub class: RetentionClass,
    /// Whether it is kept whatever happens.
    pub pinned: bool,
    /// Its importance, 0 to 1, the highest of all its writes.
    pub importance: f32,
    /// The product of its boosts and suppressions.
    pub weight: f32,
    /// The incident that it belongs to.
    pub incident: Option<Arc<str>>,
}

impl<P> Clone for Recalled<P> {
    fn clone(&self) -> Self {
        Self { payload: Arc::clone(&self.payload), incident: self.incident.clone(), ..*self }
    }
}
