//! Windows: which items count together.

use std::time::Duration;

use event_store::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::OptionsError;

/// Longest window, slide, gap and lateness: 100 years.
pub const MAX_WINDOW: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Which items count together. Windows of time go by the event time of items and begin at multiples of their length since 1970; they hold
/// their beginning and not their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Windowing {
    /// All items, for ever.
    Global,
    /// Windows of one length, side by side.
    Tumbling(Duration),
    /// A window of `size` every `slide`. Items are added once, to a slice as long as the greatest common divisor of both.
    Sliding {
        /// Length of a window.
        size: Duration,
        /// From the beginning of one to that of the next; at most `size`.
        slide: Duration,
    },
    /// Items of a group, each less than the gap after the one before. The window ends a gap after its last item.
    Session(Duration),
    /// So many items, by their arrival. Event time and watermark do not matter, and nothing is late.
    Count(u64),
}

/// A window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// All items.
    Global,
    /// Items with an event time from `start` to before `end`, in microseconds since 1970.
    Time {
        /// The first microsecond.
        start: i64,
        /// The first microsecond after it.
        end: i64,
    },
    /// The `number`th window of so many items, from 0.
    Count {
        /// Which.
        number: u64,
    },
}

impl Window {
    /// Where a window of time begins.
    #[must_use]
    pub fn start(self) -> Option<Timestamp> {
        match self {
            Self::Time { start, .. } => Some(Timestamp::from_micros(start)),
            Self::Global | Self::Count { .. } => None,
        }
    }

    /// Where a window of time ends.
    #[must_use]
    pub fn end(self) -> Option<Timestamp> {
        match self {
            Self::Time { end, .. } => Some(Timestamp::from_micros(end)),
            Self::Global | Self::Count { .. } => None,
        }
    }
}

/// Why a pane was fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Firing {
    /// Before the end of its window, by [`ReducerBuilder::early_every`](super::ReducerBuilder::early_every).
    Early,
    /// The watermark passed its end, or a count window is full, or the reducer was finished.
    OnTime,
    /// An item came after that, within the allowed lateness.
    Late,
}

/// When panes are fired besides the end of their window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Trigger {
    /// Also after so many items since it was last fired.
    pub(super) early_every: Option<u64>,
    /// What late items do.
    pub(super) late: LateFiring,
}

/// When panes to which late items came are fired again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LateFiring {
    /// At each late item.
    #[default]
    Each,
    /// Once, when the lateness is over.
    AtExpiry,
}

/// What a pane holds that is fired again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Accumulation {
    /// All items of the window so far: the last firing is the whole.
    #[default]
    Accumulating,
    /// The items since it was last fired: the firings add up to the whole.
    Discarding,
}

pub(super) fn micros(what: &'static str, time: Duration) -> Result<i64, OptionsError> {
    let micros = time.as_micros();
    if time > MAX_WINDOW || (micros == 0 && what != "lateness") {
        return Err(OptionsError::Duration { what, micros });
    }
    Ok(i64::try_from(micros).expect("100 years are below 2^63 us"))
}
