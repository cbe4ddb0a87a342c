//! What the ring refuses.

/// Why a publish was refused. Nothing of it was delivered to anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A subscriber has as many messages to read as it may fall behind, and nobody waits for it.
    #[error("a subscriber is full")]
    Full,
    /// A subscriber stayed full for as long as its [`Pressure`](super::Pressure) lets a publisher wait.
    #[error("a subscriber stayed full until the publisher's patience ended")]
    Timeout,
    /// The ring is closed.
    #[error("the ring is closed")]
    Closed,
    /// A batch larger than the ring, or than the capacity of one of its subscribers: it could never be accepted whole.
    #[error("the batch is larger than the ring or than the capacity of a subscriber")]
    TooLarge,
}

/// A message that was not published, and why.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not published: {reason}")]
pub struct PublishError<T> {
    /// Why.
    pub reason: Refused,
    /// The message, unharmed.
    pub message: T,
}

impl<T> std::fmt::Debug for PublishError<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublishError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

/// A capacity that the ring cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// A ring holds 1 to 2³² messages.
    #[error("a ring holds 1 to 2^32 messages, not {0}")]
    Ring(usize),
    /// A subscriber may fall behind by 1 message to as many as the ring holds.
    #[error("a subscriber may fall behind by 1 to {ring} messages, not {asked}")]
    Subscriber {
        /// What was asked for.
        asked: usize,
        /// What the ring holds.
        ring: usize,
    },
    /// The ring is closed: nothing would ever arrive.
    #[error("the ring is closed")]
    Closed,
}
