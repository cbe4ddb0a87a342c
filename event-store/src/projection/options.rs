//! How a runner goes about it, and what it has done.

use std::time::Duration;

use crate::event::Position;

/// How a [`ProjectionRunner`](super::ProjectionRunner) goes about it.
///
/// ```
/// use std::time::Duration;
/// use event_store::ProjectionOptions;
///
/// let options = ProjectionOptions::default().batch_events(500).linger(Duration::from_millis(20)).attempts(3);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionOptions {
    pub(super) batch_events: usize,
    pub(super) linger: Duration,
    pub(super) attempts: u32,
    pub(super) first_pause: Duration,
    pub(super) longest_pause: Duration,
    pub(super) max_failures: u32,
    pub(super) max_parked: u64,
    pub(super) idle_events: u64,
    pub(super) activates_when_caught_up: bool,
}

impl Default for ProjectionOptions {
    fn default() -> Self {
        Self {
            batch_events: 256,
            linger: Duration::ZERO,
            attempts: 5,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            max_failures: 20,
            max_parked: 1_000,
            idle_events: 1_000,
            activates_when_caught_up: false,
        }
    }
}

impl ProjectionOptions {
    /// Most events of a transaction, 256 unless set; 0 counts as 1. What one event was split into is never torn, so it may be a few more.
    #[must_use]
    pub fn batch_events(self, events: usize) -> Self {
        Self { batch_events: events.max(1), ..self }
    }

    /// How long a batch waits for more events after its first one. Zero unless set: a batch takes what is there.
    #[must_use]
    pub fn linger(self, linger: Duration) -> Self {
        Self { linger, ..self }
    }

    /// How often an event is tried before it is parked, 5 unless set; 0 counts as 1. They are counted in the process: after a restart an
    /// event is tried as often again.
    #[must_use]
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts: attempts.max(1), ..self }
    }

    /// How long the runner waits after a failure: `first`, then twice as long each time up to `longest`. 100 ms and 30 s unless set.
    #[must_use]
    pub fn pauses(self, first: Duration, longest: Duration) -> Self {
        Self { first_pause: first, longest_pause: longest, ..self }
    }

    /// After how many failures in a row of store or read model a run ends with an error, 20 unless set; 0 counts as 1.
    #[must_use]
    pub fn max_failures(self, failures: u32) -> Self {
        Self { max_failures: failures.max(1), ..self }
    }

    /// Most parked events, 1,000 unless set. When there are as many and one more fails, the run ends with an error.
    #[must_use]
    pub fn max_parked(self, events: u64) -> Self {
        Self { max_parked: events, ..self }
    }

    /// How many events that are not for the projection go by before a checkpoint is saved for them alone, 1,000 unless set. Ends of runs save one
    /// in any case.
    #[must_use]
    pub fn idle_events(self, events: u64) -> Self {
        Self { idle_events: events, ..self }
    }

    /// Makes this version the active one as soon as it has caught up for the first time, if an older one is active and nothing is parked. Off
    /// unless set. The first version of a projection becomes active with its first transaction anyway.
    #[must_use]
    pub fn activate_when_caught_up(self) -> Self {
        Self { activates_when_caught_up: true, ..self }
    }

    /// How long to wait after the failure number `failures`, from 1.
    pub(super) fn pause(&self, failures: u32) -> Duration {
        let times = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_pause.saturating_mul(times).min(self.longest_pause)
    }
}

/// What a runner has done since it was made, and how far behind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProjectionStats {
    /// The last checkpoint that the runner has seen saved.
    pub checkpoint: Option<Position>,
    /// The head of the store when the figures were taken.
    pub head: Option<Position>,
    /// How many positions the head is ahead of what the runner has dealt with.
    pub lag: u64,
    /// Events that were applied, in transactions that were committed.
    pub applied: u64,
    /// Transactions that were committed.
    pub commits: u64,
    /// Attempts at an event that failed.
    pub event_failures: u64,
    /// Of these, panics.
    pub panics: u64,
    /// Events that were parked.
    pub parked: u64,
    /// Failures of the store.
    pub store_failures: u64,
    /// Failures of the read model, or of what [`ApplyError::Unavailable`](super::ApplyError::Unavailable) stands for.
    pub model_failures: u64,
}
