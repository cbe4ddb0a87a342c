//! An alarm that is precise to tens of microseconds: the runtime's own timers count milliseconds.
//!
//! On Linux it is a timer of the kernel's that the runtime waits for as for a socket (`timerfd`): setting it takes a system call and no
//! hand-over, and whoever waits for it is woken by the runtime itself. Elsewhere, and in a runtime that was built without I/O, it is a
//! thread that sleeps.

mod thread;

#[cfg(all(target_os = "linux", not(any(swarm_batcher_loom, swarm_batcher_shuttle))))]
#[path = "timer/kernel.rs"]
mod kernel;
#[cfg(not(all(target_os = "linux", not(any(swarm_batcher_loom, swarm_batcher_shuttle)))))]
#[path = "timer/no_kernel.rs"]
mod kernel;

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use thread::ThreadAlarm;

/// Goes off once, at the last time that was set.
#[derive(Debug)]
pub(crate) enum Alarm {
    Kernel(kernel::KernelAlarm),
    Thread(ThreadAlarm),
}

impl Alarm {
    pub(crate) fn new() -> Self {
        kernel::KernelAlarm::new().map_or_else(Self::of_a_thread, Self::Kernel)
    }

    pub(crate) fn of_a_thread() -> Self {
        Self::Thread(ThreadAlarm::start())
    }

    /// Sets it to `nanos` after `clock`.
    pub(crate) fn set(&self, clock: Instant, nanos: u64) {
        let due = clock + Duration::from_nanos(nanos);
        match self {
            Self::Kernel(alarm) => alarm.set(due),
            Self::Thread(alarm) => alarm.set(due),
        }
    }

    /// A way to wait for it in the runtime that runs the caller, or nothing where there is none.
    pub(crate) fn watch(&self) -> Option<Watch> {
        match self {
            Self::Kernel(alarm) => kernel::KernelWatch::new(alarm).map(Watch::Kernel),
            Self::Thread(alarm) => Some(Watch::Thread(alarm.watch())),
        }
    }
}

/// Waits for an alarm.
#[derive(Debug)]
pub(crate) enum Watch {
    Kernel(kernel::KernelWatch),
    Thread(thread::ThreadWatch),
}

impl Watch {
    /// Ready when it has gone off since the last time that this was ready.
    pub(crate) fn poll_fired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Kernel(watch) => watch.poll_fired(context),
            Self::Thread(watch) => watch.poll_fired(context),
        }
    }
}
