//! How a reducer is made.

use std::sync::Arc;
use std::time::Duration;

use super::error::OptionsError;
use super::group::{GroupBy, Keys};
use super::reducer::Reducer;
use super::sessions::Sessions;
use super::slices::Slices;
use super::store::{CountWindow, Rules, Store};
use super::summary::Pane;
use super::window::{Accumulation, LateFiring, Trigger, Windowing, micros};
use crate::fsm::{Machine, workflow};

/// Options of a [`Reducer`]: made by [`Reducer::builder`].
#[derive(Debug, Clone)]
pub struct ReducerBuilder {
    group_by: GroupBy,
    windowing: Windowing,
    lateness: Duration,
    trigger: Trigger,
    accumulation: Accumulation,
    machine: Arc<Machine>,
    max_workflows: usize,
}

impl ReducerBuilder {
    pub(super) fn new(group_by: GroupBy) -> Self {
        Self {
            group_by,
            windowing: Windowing::Global,
            lateness: Duration::ZERO,
            trigger: Trigger::default(),
            accumulation: Accumulation::default(),
            machine: workflow(),
            max_workflows: 1_000_000,
        }
    }

    /// Which items count together. [`Windowing::Global`] unless set.
    #[must_use]
    pub fn windowing(self, windowing: Windowing) -> Self {
        Self { windowing, ..self }
    }

    /// How long after the end of their window, by the watermark, items are still taken. None unless set; at most
    /// [`MAX_WINDOW`](super::MAX_WINDOW).
    #[must_use]
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        Self { lateness, ..self }
    }

    /// Fires a pane also after every `items` items, before its window ends. Never unless set.
    #[must_use]
    pub fn early_every(self, items: u64) -> Self {
        Self { trigger: Trigger { early_every: Some(items), ..self.trigger }, ..self }
    }

    /// What late items do. [`LateFiring::Each`] unless set.
    #[must_use]
    pub fn late_firing(self, late: LateFiring) -> Self {
        Self { trigger: Trigger { late, ..self.trigger }, ..self }
    }

    /// What a pane holds that is fired again. [`Accumulation::Accumulating`] unless set.
    #[must_use]
    pub fn accumulation(self, accumulation: Accumulation) -> Self {
        Self { accumulation, ..self }
    }

    /// The machine whose transitions are legal. [`workflow`] unless set.
    #[must_use]
    pub fn machine(self, machine: Arc<Machine>) -> Self {
        Self { machine, ..self }
    }

    /// Most workflows that are tracked while they are in a state that is not terminal. More are counted
    /// ([`WorkflowCounts::untracked`](super::WorkflowCounts::untracked)) and not tracked. 1,000,000 unless set.
    #[must_use]
    pub fn max_workflows(self, most: usize) -> Self {
        Self { max_workflows: most, ..self }
    }

    /// Makes the reducer.
    ///
    /// # Errors
    /// [`OptionsError`].
    pub fn build(self) -> Result<Reducer, OptionsError> {
        if let GroupBy::SizeBuckets(bounds) = &self.group_by
            && !bounds.is_sorted_by(|a, b| a < b)
        {
            return Err(OptionsError::Buckets);
        }
        if self.trigger.early_every == Some(0) {
            return Err(OptionsError::NoItems("trigger"));
        }
        let store = match self.windowing {
            Windowing::Global => Store::Global(Pane::default()),
            Windowing::Count(0) => return Err(OptionsError::NoItems("window")),
            Windowing::Count(size) => Store::Count(CountWindow::new(size)),
            Windowing::Tumbling(size) => {
                let size = micros("window", size)?;
                Store::Slices(Slices::new(size, size))
            }
            Windowing::Sliding { size, slide } => {
                if slide > size {
                    return Err(OptionsError::SlideBeyondSize);
                }
                let slides_over = slide != size;
                if slides_over && (self.accumulation == Accumulation::Discarding || self.trigger.early_every.is_some())
                {
                    return Err(OptionsError::Shared);
                }
                Store::Slices(Slices::new(micros("window", size)?, micros("slide", slide)?))
            }
            Windowing::Session(gap) => Store::Sessions(Sessions::new(micros("gap", gap)?)),
        };
        let rules = Rules {
            watermark: i64::MIN,
            lateness: micros("lateness", self.lateness)?,
            trigger: self.trigger,
            accumulation: self.accumulation,
            call: 0,
        };
        Ok(Reducer::new(Keys::new(self.group_by), store, rules, self.machine, self.max_workflows))
    }
}
