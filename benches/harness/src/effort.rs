//! How long a benchmark may take: set by the gate for all suites alike.

use std::time::Duration;

/// The time that one benchmark spends, by profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Work before anything is recorded.
    pub warm_up: Duration,
    /// Work that is recorded.
    pub measure: Duration,
    /// Samples of a criterion benchmark, or at least this many rounds of an interleaved one.
    pub samples: usize,
}

impl Effort {
    /// What every suite takes when no gate asks for less: all suites of a workspace fit minutes on two cores.
    pub const FULL: Self =
        Self { warm_up: Duration::from_millis(500), measure: Duration::from_millis(1_500), samples: 60 };
    /// A first answer: enough to catch a limit missed by far.
    pub const QUICK: Self =
        Self { warm_up: Duration::from_millis(150), measure: Duration::from_millis(450), samples: 30 };
    /// Once through, to see that the benchmark works; nothing is recorded.
    pub const TEST: Self = Self { warm_up: Duration::ZERO, measure: Duration::from_millis(1), samples: 1 };

    /// The effort that the gate asks for: `GATE_PROFILE=quick` or full, doubled when `GATE_ATTEMPT` says that this is a repeat
    /// of a row whose interval was too wide.
    #[must_use]
    pub fn from_environment() -> Self {
        let effort = match std::env::var("GATE_PROFILE").as_deref() {
            Ok("quick") => Self::QUICK,
            _ => Self::FULL,
        };
        let repeat = std::env::var("GATE_ATTEMPT").is_ok_and(|attempt| attempt != "0");
        if repeat { Self { measure: effort.measure * 2, ..effort } } else { effort }
    }
}
