//! What has become of the items.

/// Counts since the batcher was built, taken at one moment. They add up: see [`Stats::is_balanced`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Items that were taken.
    pub accepted: u64,
    /// Items that the handler answered with an output.
    pub succeeded: u64,
    /// Items that ran and have no output: an error of the handler's, a panic, no reply.
    pub failed: u64,
    /// Items whose caller left before they ran; they did not run, or not again.
    pub cancelled: u64,
    /// Items whose deadline passed before they ran.
    pub expired: u64,
    /// Items that made room for later ones.
    pub shed: u64,
    /// Items that were answered [`BatchError::Closed`](crate::BatchError::Closed).
    pub closed: u64,
    /// Items given up otherwise: without a runtime, or because the handler waited for its own batcher.
    pub given_up: u64,
    /// Items that wait for their batch, for room, or for a retry.
    pub queued: u64,
    /// Items in batches that run.
    pub in_flight: u64,
    /// Batches that have ended.
    pub batches: u64,
    /// Runs of items again, retries and halves together.
    pub reruns: u64,
    /// Items that had no caller and no output, and went to the dead-letter sink.
    pub dead_lettered: u64,
    /// Items that had no caller and no output, and no sink took them (there is none, or it panicked).
    pub unclaimed: u64,
    /// Items that share another one's run.
    pub coalesced: u64,
    /// Items that were not taken.
    pub rejected: u64,
}

impl Stats {
    /// `accepted = succeeded + failed + cancelled + expired + shed + closed + given_up + queued + in_flight`.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let ended =
            self.succeeded + self.failed + self.cancelled + self.expired + self.shed + self.closed + self.given_up;
        self.accepted == ended + self.queued + self.in_flight
    }
}
