//! What the contenders are asked to do, and what it is called.

use std::fmt;
use std::ops::Range;

/// Messages that a queue holds, everywhere.
pub const CAPACITY: usize = 1024;

/// Messages of a round of a stream: milliseconds, far above what starting and stopping disturbs.
const STREAMED: u64 = 1 << 18;
/// Messages of a round of a fan-out.
const FANNED_OUT: u64 = 1 << 16;

/// One work of the contest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Publish one event and wait until its handlers have run; each adds the event's number to a sum.
    Inline {
        /// Handlers of the event.
        handlers: u64,
    },
    /// Messages from one producer to one consumer; who has nothing to do sleeps, where the contender can.
    Stream {
        /// Messages that are sent and received at a time.
        batch: usize,
    },
    /// Every message from one producer to each subscriber; who has nothing to do sleeps, where the contender can.
    FanOut {
        /// Subscribers.
        subscribers: usize,
    },
    /// As [`Work::Stream`] between two threads that never sleep.
    SpinningStream {
        /// Messages that are sent and received at a time.
        batch: usize,
    },
    /// As [`Work::FanOut`] between two threads that never sleep: one publishes, one serves all subscribers in turn.
    SpinningFanOut {
        /// Subscribers.
        subscribers: usize,
    },
}

impl Work {
    /// Publishes with completed handlers.
    pub const INLINE: [Self; 2] = [Self::Inline { handlers: 1 }, Self::Inline { handlers: 10 }];
    /// One producer, one consumer.
    pub const STREAMS: [Self; 2] = [Self::Stream { batch: 1 }, Self::Stream { batch: 32 }];
    /// One producer, ten subscribers.
    pub const FAN_OUT: [Self; 1] = [Self::FanOut { subscribers: 10 }];

    /// What two threads that never sleep do.
    pub const SPINNING: [Self; 3] = [
        Self::SpinningStream { batch: 1 },
        Self::SpinningStream { batch: 32 },
        Self::SpinningFanOut { subscribers: 10 },
    ];

    /// The id of this work's benchmark for one contender.
    #[must_use]
    pub fn id(self, peer: &str) -> String {
        format!("peers/message-bus/{self}/{peer}")
    }

    /// How messages flow in a work that has a producer and consumers, and how many these are.
    pub(crate) fn flow(self) -> (Flow, usize) {
        match self {
            Self::Inline { .. } => unreachable!("handlers are no consumers"),
            Self::Stream { batch } | Self::SpinningStream { batch } => {
                (Flow { messages: STREAMED, send: batch, receive: batch }, 1)
            }
            // Nobody says how many a subscriber takes at a time: all there is.
            Self::FanOut { subscribers } | Self::SpinningFanOut { subscribers } => {
                (Flow { messages: FANNED_OUT, send: 1, receive: CAPACITY }, subscribers)
            }
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline { handlers } => write!(f, "inline/{handlers}"),
            Self::Stream { batch } => write!(f, "stream/{batch}"),
            // Nobody says how many a subscriber takes at a time: all there is.
            Self::FanOut { subscribers } => write!(f, "fan-out/{subscribers}"),
            Self::SpinningStream { batch } => write!(f, "spinning/{batch}"),
            Self::SpinningFanOut { subscribers } => write!(f, "spinning/fan-out-{subscribers}"),
        }
    }
}

/// How the messages of a round flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Messages in all, numbered from 0; a multiple of `send`.
    pub messages: u64,
    /// Messages to send in one call, where the contender has a call for several.
    pub send: usize,
    /// Messages to take in one call at most, where the contender has a call for several.
    pub receive: usize,
}

impl Flow {
    /// The numbers of the messages of each batch to send.
    pub fn batches(self) -> impl Iterator<Item = Range<u64>> {
        let size = self.send as u64;
        (0..self.messages / size).map(move |batch| batch * size..(batch + 1) * size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_a_flow_are_its_messages_in_order() {
        for work in Work::STREAMS.into_iter().chain(Work::FAN_OUT).chain(Work::SPINNING) {
            let (flow, _) = work.flow();
            assert!(flow.batches().flatten().eq(0..flow.messages), "{work}");
            assert!(flow.send <= CAPACITY && flow.receive <= CAPACITY, "{work}");
        }
    }

    #[test]
    fn ids_of_works_differ() {
        let works = Work::INLINE.into_iter().chain(Work::STREAMS).chain(Work::FAN_OUT).chain(Work::SPINNING);
        let mut ids: Vec<String> = works.map(|work| work.id("ours")).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!((ids.len(), count), (8, 8));
    }
}
