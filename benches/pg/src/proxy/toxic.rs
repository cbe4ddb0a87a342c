//! What is done to bytes on their way; the names are those of toxiproxy.

use std::time::Duration;

/// A way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What is done to the bytes of a direction, of connections that are open and those to come.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Toxic {
    /// Every piece of data waits for `latency`, and up to `jitter` more; pieces do not overtake one another.
    Latency {
        /// The least.
        latency: Duration,
        /// What may come on top, evenly.
        jitter: Duration,
    },
    /// At most so many bytes a second, from 1.
    Bandwidth {
        /// Bytes a second.
        rate: u64,
    },
    /// Data comes in small pieces.
    Slicer {
        /// Bytes of a piece on average, from 1.
        average: usize,
        /// How much less or more a piece may have.
        variation: usize,
        /// The time between two pieces.
        delay: Duration,
    },
    /// After so many bytes in this direction, counted from when the toxic was added, both sides are closed. With 0 bytes the first piece
    /// that comes cuts the connection, and is not delivered: an answer that is lost.
    LimitData {
        /// Bytes that pass.
        bytes: u64,
    },
    /// As [`LimitData`](Self::LimitData), but both sides see a reset (RST).
    ResetAfter {
        /// Bytes that pass.
        bytes: u64,
    },
    /// Nothing is delivered, the end of a stream neither: the other side has gone silent. What has come meanwhile is delivered when the
    /// toxic is removed, as after a network that was parted.
    BlackHole,
    /// The end of a stream is passed on so much later.
    SlowClose {
        /// How much later.
        delay: Duration,
    },
}

impl Toxic {
    /// Whether its numbers make sense.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Bandwidth { rate: 0 } => Err("a bandwidth of 0 bytes a second is a BlackHole"),
            Self::Slicer { average: 0, .. } => Err("pieces of 0 bytes"),
            Self::Slicer { average, variation, .. } if variation >= average => {
                Err("pieces vary by more than they have")
            }
            _ => Ok(()),
        }
    }
}
