//! A tick that comes when it is due.

use std::time::{Duration, Instant};

/// Ticks of the kernel's, where there are any, waited for by the runtime's poller: the runtime's own timers tell whole milliseconds, counted from
/// another moment, and come up to two of them late.
#[derive(Debug)]
pub(super) enum Ticks {
    #[cfg(target_os = "linux")]
    Kernel(kernel::Timer),
    Runtime(tokio::time::Interval),
}

impl Ticks {
    /// The first tick is due one `interval` after the moment that is returned.
    pub(super) fn every(interval: Duration) -> (Self, Instant) {
        #[cfg(target_os = "linux")]
        if let Some(timer) = kernel::Timer::every(interval) {
            return (Self::Kernel(timer), Instant::now());
        }
        let start = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval_at(start + interval, interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        (Self::Runtime(ticks), start.into_std())
    }

    /// Waits for the next tick that has not been told, and any that have come due with it.
    pub(super) async fn next(&mut self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Kernel(timer) => timer.next().await,
            Self::Runtime(ticks) => drop(ticks.tick().await),
        }
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe;

    /// Read as a pipe is: eight bytes come when ticks are due. What the runtime offers for descriptors of any kind is `unsafe`.
    #[derive(Debug)]
    pub(in super::super) struct Timer(pipe::Receiver);

    impl Timer {
        /// Nothing if the process may open no more files, or the runtime waits for none.
        pub(super) fn every(interval: Duration) -> Option<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
            let descriptor = timer.try_clone().ok()?;
            // A runtime without I/O says so by a panic, and cannot be asked before.
            let pipe =
                catch_unwind(AssertUnwindSafe(|| pipe::Receiver::from_owned_fd_unchecked(descriptor))).ok()?.ok()?;
            let every = Timespec { tv_sec: interval.as_secs() as i64, tv_nsec: interval.subsec_nanos() as _ };
            let ticks = Itimerspec { it_interval: every, it_value: every };
            timerfd_settime(&timer, TimerfdTimerFlags::empty(), &ticks).ok()?;
            Some(Self(pipe))
        }

        pub(super) async fn next(&mut self) {
            // How many are due is told by the clock as well. An error is that of a runtime which shuts down: this task ends with it.
            if self.0.read_u64().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
