//! The kernel's timer, waited for by the runtime's poller.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;

use crate::engine::discard;

#[derive(Debug)]
pub(crate) struct KernelAlarm {
    timer: OwnedFd,
}

impl KernelAlarm {
    /// Nothing if the process may open no more files.
    pub(crate) fn new() -> Option<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
        Some(Self { timer })
    }

    pub(crate) fn set(&self, due: Instant) {
        // A time of zero would switch it off.
        let wait = due.saturating_duration_since(Instant::now()).as_nanos().max(1);
        let it_value = Timespec { tv_sec: (wait / 1_000_000_000) as i64, tv_nsec: (wait % 1_000_000_000) as _ };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })
            .expect("a timer of ours takes any time that is not negative");
    }
}

/// The timer once more, read as a pipe is: eight bytes come when it has gone off. What the runtime offers for descriptors of any kind is
/// `unsafe`, and this is not.
#[derive(Debug)]
pub(crate) struct KernelWatch {
    timer: pipe::Receiver,
}

impl KernelWatch {
    /// Nothing if the process may open no more files, or the runtime waits for none.
    pub(crate) fn new(alarm: &KernelAlarm) -> Option<Self> {
        let timer = alarm.timer.try_clone().ok()?;
        // A runtime without I/O says so by a panic, and cannot be asked before.
        match catch_unwind(AssertUnwindSafe(|| pipe::Receiver::from_owned_fd_unchecked(timer))) {
            Ok(timer) => timer.ok().map(|timer| Self { timer }),
            Err(payload) => {
                discard(payload);
                None
            }
        }
    }

    pub(crate) fn poll_fired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut expirations = [0; 8];
        match Pin::new(&mut self.timer).poll_read(context, &mut ReadBuf::new(&mut expirations)) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            // An error is the runtime's that shuts down: this task will not be polled again.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}
