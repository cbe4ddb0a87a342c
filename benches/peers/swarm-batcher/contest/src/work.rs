//! What the contenders are asked to do, and what it is called.

use std::fmt;

use crate::Handler;

/// Items that a batch holds at most, everywhere.
pub const BATCH: usize = 100;

/// Calls of a round where few callers share the cost of a hand-over between tasks: a slow contender's round takes a fraction of a second.
const FEW: u64 = 1 << 14;
/// Calls of a round of many callers: starting and stopping them disturbs little.
const MANY: u64 = 1 << 17;
/// Calls of each caller that waits a millisecond or more for company that does not come.
const LINGERING: u64 = 32;

/// One work of the contest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// So many callers, tasks of one runtime, each of which makes one call after another.
    Call {
        /// Tasks.
        callers: usize,
    },
    /// One caller on a runtime of one thread, with nobody beside it.
    Idle,
    /// As [`Work::Call`], with a handler that yields once before it answers.
    Yielding {
        /// Tasks.
        callers: usize,
    },
    /// Telemetry records become the bytes of one upload.
    Encode {
        /// Records of an upload.
        items: usize,
    },
}

impl Work {
    /// What every batcher does.
    pub const CALLS: [Self; 7] = [
        Self::Call { callers: 1 },
        Self::Call { callers: 8 },
        Self::Call { callers: 64 },
        Self::Call { callers: 512 },
        Self::Call { callers: 4096 },
        Self::Idle,
        Self::Yielding { callers: 512 },
    ];
    /// What a sink for telemetry does.
    pub const ENCODE: Self = Self::Encode { items: 100 };

    /// The id of this work's benchmark for one contender.
    #[must_use]
    pub fn id(self, peer: &str) -> String {
        format!("peers/swarm-batcher/{self}/{peer}")
    }

    /// The handler of this work.
    pub(crate) fn handler(self) -> Handler {
        match self {
            Self::Yielding { .. } => Handler::YIELDING,
            _ => Handler::IMMEDIATE,
        }
    }

    /// Tasks that call at the same time.
    pub(crate) fn callers(self) -> usize {
        match self {
            Self::Call { callers } | Self::Yielding { callers } => callers,
            Self::Idle => 1,
            Self::Encode { .. } => unreachable!("nobody calls"),
        }
    }

    /// Calls that each caller makes in a round. Too few callers to fill a batch make fewer where the contender lingers.
    pub(crate) fn calls_each(self, lingers: bool) -> u64 {
        let callers = self.callers();
        match callers {
            _ if lingers && callers < BATCH => LINGERING,
            1..64 => FEW / callers as u64,
            _ => MANY / callers as u64,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { callers } => write!(f, "call/{callers}"),
            Self::Idle => f.write_str("idle"),
            Self::Yielding { callers } => write!(f, "yielding/{callers}"),
            Self::Encode { items } => write!(f, "encode/{items}-items"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_works_differ() {
        let mut ids: Vec<String> = Work::CALLS.into_iter().chain([Work::ENCODE]).map(|work| work.id("ours")).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 8);
    }

    #[test]
    fn every_caller_of_every_work_has_calls_to_make() {
        for work in Work::CALLS {
            for lingers in [false, true] {
                assert!(work.calls_each(lingers) >= 32, "{work}");
            }
        }
    }
}
