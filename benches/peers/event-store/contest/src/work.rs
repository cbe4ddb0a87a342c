//! What the contenders are asked to do, and what it is called.

use std::fmt;

/// One work of the contest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// One call with `batch` events: single events into a growing stream, more into a new stream each time.
    Save {
        /// Events of one call.
        batch: u64,
    },
    /// As [`Work::Save`], and what the store's own call needs is built from the events within the timing.
    SaveFromEvents {
        /// Events of one call.
        batch: u64,
    },
    /// Visit every event of a stream once, without keeping writers waiting meanwhile.
    Load {
        /// Events of the stream.
        events: u64,
    },
    /// Get a list of the events of a stream that outlives the call, and look at each payload's length.
    LoadOwned {
        /// Events of the stream.
        events: u64,
    },
    /// As [`Work::LoadOwned`], and every event of the list is a value of its own, which may leave it.
    LoadRecorded {
        /// Events of the stream.
        events: u64,
    },
    /// One event to each of ten streams, five a thread, two threads at once.
    Concurrent,
}

/// All works, in the order of the reports.
#[must_use]
pub fn works() -> [Work; 12] {
    [
        Work::Save { batch: 1 },
        Work::Save { batch: 100 },
        Work::Save { batch: 10_000 },
        Work::SaveFromEvents { batch: 1 },
        Work::SaveFromEvents { batch: 100 },
        Work::SaveFromEvents { batch: 10_000 },
        Work::Load { events: 1 },
        Work::Load { events: 100 },
        Work::Load { events: 10_000 },
        Work::LoadOwned { events: 10_000 },
        Work::LoadRecorded { events: 10_000 },
        Work::Concurrent,
    ]
}

impl Work {
    /// The id of this work's benchmark for one contender.
    #[must_use]
    pub fn id(self, peer: &str) -> String {
        format!("peers/event-store/{self}/{peer}")
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Save { batch } => write!(f, "save/{batch}"),
            Self::SaveFromEvents { batch } => write!(f, "save-from-events/{batch}"),
            Self::Load { events } => write!(f, "load/{events}"),
            Self::LoadOwned { events } => write!(f, "load-owned/{events}"),
            Self::LoadRecorded { events } => write!(f, "load-recorded/{events}"),
            Self::Concurrent => f.write_str("concurrent/save-10"),
        }
    }
}
