//! The most that any row of a group can be worth.

use crate::clock::Timestamp;
use crate::decay::DecayTable;
use crate::scoring::Upper;
use crate::sync::{AtomicI64, AtomicU8, AtomicU32, Ordering};

/// What a row counts for beside its vector, at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// What its age is counted from.
    pub(crate) seen: Timestamp,
    pub(crate) recurrence: u32,
    pub(crate) importance: f32,
    pub(crate) weight: f32,
    pub(crate) class: u8,
}

/// Bounds over the rows of a group. They only rise while the group lives, and rise before any row does, so that whoever has seen a row's
/// new value never skips its group by the old bounds.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Maxima {
    seen: AtomicI64,
    recurrence: AtomicU32,
    importance: AtomicU32,
    weight: AtomicU32,
    /// The least alignment of a row with its signs: `f32` bits.
    alignment: AtomicU32,
    /// A bit for each class that a row has or had.
    classes: AtomicU8,
}

/// Changes what a row counts for by `put`, after all bounds over it have made room for that: in the other order a reader could see the change,
/// and skip the row afterwards. Only the writer calls it.
pub(crate) fn raise_then(bounds: &[&Maxima], row: &Standing, put: impl FnOnce()) {
    bounds.iter().for_each(|bounds| bounds.raise(row));
    put();
}

impl Maxima {
    pub(crate) fn new() -> Self {
        Self {
            seen: AtomicI64::new(i64::MIN),
            recurrence: AtomicU32::new(0),
            importance: AtomicU32::new(0),
            weight: AtomicU32::new(0),
            alignment: AtomicU32::new(1f32.to_bits()),
            classes: AtomicU8::new(0),
        }
    }

    /// Makes room for a row. Only the writer calls it.
    pub(crate) fn raise(&self, row: &Standing) {
        if self.seen.load(Ordering::Relaxed) < row.seen.0 {
            self.seen.store(row.seen.0, Ordering::Release);
        }
        let most = |bound: &AtomicU32, value: u32| {
            // Of floats that are not negative the order is that of their bits.
            if bound.load(Ordering::Relaxed) < value {
                bound.store(value, Ordering::Release);
            }
        };
        most(&self.recurrence, row.recurrence);
        most(&self.importance, row.importance.to_bits());
        most(&self.weight, row.weight.to_bits());
        let classes = self.classes.load(Ordering::Relaxed);
        if classes >> row.class & 1 == 0 {
            self.classes.store(classes | 1 << row.class, Ordering::Release);
        }
    }

    /// Makes room for a row that is `alignment` aligned with its signs. Only the writer calls it.
    pub(crate) fn align(&self, alignment: f32) {
        if f32::from_bits(self.alignment.load(Ordering::Relaxed)) > alignment {
            self.alignment.store(alignment.to_bits(), Ordering::Release);
        }
    }

    pub(crate) fn upper(&self, decay: &DecayTable, now: Timestamp) -> Upper {
        let seen = Timestamp(self.seen.load(Ordering::Acquire));
        Upper {
            temporal: decay.highest_weight(self.classes.load(Ordering::Acquire), seen, now),
            recurrence: self.recurrence.load(Ordering::Acquire),
            importance: f32::from_bits(self.importance.load(Ordering::Acquire)).into(),
            weight: f32::from_bits(self.weight.load(Ordering::Acquire)).into(),
        }
    }

    pub(crate) fn alignment(&self) -> f32 {
        f32::from_bits(self.alignment.load(Ordering::Acquire))
    }
}
