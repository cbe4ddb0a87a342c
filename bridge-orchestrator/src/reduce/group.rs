//! What items are grouped by.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::error::ReduceError;
use super::item::Item;

/// Writes the key of an item's group into the text, which is empty.
type WriteKey = Arc<dyn Fn(&Item<'_>, &mut String) + Send + Sync>;

/// What the items of a group have in common.
#[derive(Clone)]
#[non_exhaustive]
pub enum GroupBy {
    /// The namespace.
    Namespace,
    /// The content type.
    FileType,
    /// The size of the file, by ascending bounds in bytes: `[1024, 4096]` makes `..1024`, `1024..4096` and `4096..`; a bound itself
    /// belongs to the bucket that begins with it.
    SizeBuckets(Vec<u64>),
    /// The workflow.
    Workflow,
    /// Whatever a function says; see [`GroupBy::custom`].
    Custom(CustomKey),
}

impl GroupBy {
    /// Groups by the key that `write_key` writes into the text that it is given, which is empty. It is called once an item and must say the
    /// same of the same item.
    #[must_use]
    pub fn custom(write_key: impl Fn(&Item<'_>, &mut String) + Send + Sync + 'static) -> Self {
        Self::Custom(CustomKey(Arc::new(write_key)))
    }
}

impl fmt::Debug for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace => f.write_str("Namespace"),
            Self::FileType => f.write_str("FileType"),
            Self::SizeBuckets(bounds) => f.debug_tuple("SizeBuckets").field(bounds).finish(),
            Self::Workflow => f.write_str("Workflow"),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// A caller's function: made by [`GroupBy::custom`].
#[derive(Clone)]
pub struct CustomKey(WriteKey);

impl fmt::Debug for CustomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomKey")
    }
}

/// Keys of items, ready to be asked for one after the other.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    by: GroupBy,
    /// The names of buckets.
    buckets: Vec<String>,
    /// The keys of a call that a caller's function wrote, one after the other, and where each ends.
    written: String,
    ends: Vec<usize>,
}

impl Keys {
    pub(super) fn new(by: GroupBy) -> Self {
        let mut buckets = Vec::new();
        if let GroupBy::SizeBuckets(bounds) = &by {
            let name = |bound: Option<&u64>| bound.map_or_else(String::new, u64::to_string);
            buckets = (0..=bounds.len())
                .map(|place| {
                    let from = place.checked_sub(1).and_then(|place| bounds.get(place));
                    format!("{}..{}", name(from), name(bounds.get(place)))
                })
                .collect();
        }
        Self { by, buckets, written: String::new(), ends: Vec::new() }
    }

    /// Calls the caller's function, if there is one, for all items of a call before any of them counts.
    pub(super) fn prepare(&mut self, items: &[Item<'_>]) -> Result<(), ReduceError> {
        let GroupBy::Custom(CustomKey(write_key)) = &self.by else { return Ok(()) };
        self.written.clear();
        self.ends.clear();
        let mut key = String::new();
        for (index, item) in items.iter().enumerate() {
            key.clear();
            catch_unwind(AssertUnwindSafe(|| write_key(item, &mut key)))
                .map_err(|_| ReduceError::GroupByPanicked { index })?;
            self.written.push_str(&key);
            self.ends.push(self.written.len());
        }
        Ok(())
    }

    /// The key of the item at `index` of those prepared.
    #[inline]
    pub(super) fn of<'k>(&'k self, index: usize, item: &Item<'k>) -> &'k str {
        match &self.by {
            GroupBy::Namespace => item.namespace,
            GroupBy::FileType => item.content_type,
            GroupBy::Workflow => item.workflow_id,
            GroupBy::SizeBuckets(bounds) => &self.buckets[bounds.partition_point(|bound| *bound <= item.file_size)],
            GroupBy::Custom(_) => {
                let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
                &self.written[start..self.ends[index]]
            }
        }
    }
}
