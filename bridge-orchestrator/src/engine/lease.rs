//! The right of a process to its executions.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use event_listener::Event;
use uuid::Uuid;

/// The name under which a process owns executions, and how long it may be sure of them. One that is lost is never won back: its process goes
/// on under another name.
#[derive(Debug)]
pub(crate) struct Lease {
    owner: Uuid,
    began: Instant,
    /// Microseconds behind `began`; until then nobody else takes anything over.
    sure_for: AtomicU64,
    is_lost: AtomicBool,
    changed: Event,
}

/// Somebody else owns what this process did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost;

impl Lease {
    /// One that nobody contests.
    pub(crate) fn for_ever() -> Self {
        Self {
            owner: Uuid::now_v7(),
            began: Instant::now(),
            sure_for: AtomicU64::new(u64::MAX),
            is_lost: AtomicBool::new(false),
            changed: Event::new(),
        }
    }

    /// One that is sure for `duration` from `asked` on.
    pub(crate) fn from(asked: Instant, duration: Duration) -> Self {
        Self { began: asked, sure_for: AtomicU64::new(micros(duration)), ..Self::for_ever() }
    }

    pub(crate) fn owner(&self) -> Uuid {
        self.owner
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// Whether what is begun now is begun by the owner. By the clock that no one can set.
    pub(crate) fn is_sure(&self) -> bool {
        match self.sure_for.load(Ordering::Acquire) {
            u64::MAX => true,
            sure_for => !self.is_lost() && micros(self.began.elapsed()) < sure_for,
        }
    }

    /// It was asked for at `asked`, and granted. Returns whether it had run out.
    pub(crate) fn renew(&self, asked: Instant, duration: Duration) -> bool {
        let had_run_out = !self.is_sure();
        self.sure_for.store(micros(asked.duration_since(self.began) + duration), Ordering::Release);
        self.changed.notify(usize::MAX);
        had_run_out
    }

    pub(crate) fn lose(&self) {
        self.is_lost.store(true, Ordering::Release);
        self.changed.notify(usize::MAX);
    }

    /// Waits until it is sure.
    pub(crate) async fn sure(&self) -> Result<(), Lost> {
        loop {
            if self.is_sure() {
                return Ok(());
            }
            if self.is_lost() {
                return Err(Lost);
            }
            let changed = self.changed.listen();
            if !self.is_sure() && !self.is_lost() {
                changed.await;
            }
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX - 1)
}
