//! What time it is.

use event_store::Timestamp;

/// Tells the time that journals have. Waiting is tokio's: until a moment of this clock comes, a task sleeps for the difference.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
