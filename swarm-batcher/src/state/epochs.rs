//! Barriers: a flush ends one epoch and begins another; it is over when everything of the epochs before has ended.

use std::collections::VecDeque;
use std::task::Waker;

use super::Aftermath;

/// What a flush waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FlushReport {
    /// Items that had been accepted and had not ended when the flush began.
    pub items: u64,
    /// How many of them have ended without an output.
    pub failed: u64,
}

/// See the module.
pub(crate) struct Epochs {
    /// The number of the oldest.
    first: u32,
    /// Never empty; items enter the last.
    open: VecDeque<Epoch>,
    flushes: Vec<Flush>,
    /// How many flushes there were.
    count: u64,
}

#[derive(Default)]
struct Epoch {
    items: u64,
    failed: u64,
}

struct Flush {
    number: u64,
    /// The last epoch that it waits for.
    last: u32,
    waker: Option<Waker>,
    report: FlushReport,
    /// Failures of those epochs from before the flush.
    failed_before: u64,
    over: bool,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { first: 0, open: VecDeque::from([Epoch::default()]), flushes: Vec::new(), count: 0 }
    }
}

impl Epochs {
    /// An item enters the epoch that is returned.
    #[inline]
    pub(crate) fn enter(&mut self) -> u32 {
        let last = self.open.len() - 1;
        self.open[last].items += 1;
        self.first.wrapping_add(last as u32)
    }

    /// The epoch that items enter.
    #[inline]
    pub(crate) fn current(&self) -> u32 {
        self.first.wrapping_add(self.open.len() as u32 - 1)
    }

    /// Items enter the current epoch, which `epoch` is.
    pub(crate) fn enter_many(&mut self, epoch: u32, items: u64) {
        debug_assert_eq!(epoch, self.current());
        self.open.back_mut().expect("there is one").items += items;
    }

    /// Items entered the current epoch, and have ended without an output.
    #[inline]
    pub(crate) fn failed_many(&mut self, failed: u64) {
        self.open.back_mut().expect("there is one").failed += failed;
    }

    /// An item of `epoch` has ended.
    #[inline]
    pub(crate) fn leave<I, O, E>(&mut self, epoch: u32, failed: bool, after: &mut Aftermath<I, O, E>) {
        self.leave_many(epoch, 1, u64::from(failed), after);
    }

    /// Items of `epoch` have ended, so many of them without an output.
    #[inline]
    pub(crate) fn leave_many<I, O, E>(&mut self, epoch: u32, items: u64, failed: u64, after: &mut Aftermath<I, O, E>) {
        let epoch = &mut self.open[epoch.wrapping_sub(self.first) as usize];
        epoch.items -= items;
        epoch.failed += failed;
        if epoch.items == 0 && self.open.len() > 1 {
            self.close(after);
        }
    }

    #[cold]
    fn close<I, O, E>(&mut self, after: &mut Aftermath<I, O, E>) {
        while self.open.len() > 1 && self.open[0].items == 0 {
            let failed = self.open.pop_front().expect("there is more than one").failed;
            let closed = self.first;
            self.first = self.first.wrapping_add(1);
            for flush in self.flushes.iter_mut().filter(|flush| !flush.over) {
                flush.report.failed += failed;
                if flush.last == closed {
                    flush.over = true;
                    flush.report.failed -= flush.failed_before;
                    after.wake(flush.waker.take());
                }
            }
        }
    }

    /// A flush of everything that is there, or its report if that is nothing.
    pub(crate) fn flush(&mut self, waker: &Waker) -> Result<u64, FlushReport> {
        let items = self.open.iter().map(|epoch| epoch.items).sum();
        if items == 0 {
            return Err(FlushReport::default());
        }
        if self.open.back().is_some_and(|epoch| epoch.items > 0) {
            self.open.push_back(Epoch::default());
        }
        let last = self.first.wrapping_add(self.open.len() as u32 - 2);
        let failed_before = self.open.iter().take(self.open.len() - 1).map(|epoch| epoch.failed).sum();
        let report = FlushReport { items, failed: 0 };
        let number = self.count;
        self.count += 1;
        self.flushes.push(Flush { number, last, waker: Some(waker.clone()), report, failed_before, over: false });
        Ok(number)
    }

    /// The report of a flush that is over; else `waker` is told.
    pub(crate) fn poll_flush(&mut self, number: u64, waker: &Waker) -> (Option<FlushReport>, Option<Waker>) {
        let place = self.place(number);
        let flush = &mut self.flushes[place];
        if flush.over {
            return (Some(self.flushes.swap_remove(place).report), None);
        }
        (None, flush.waker.replace(waker.clone()))
    }

    /// Whoever waited for the flush is gone.
    pub(crate) fn forget_flush(&mut self, number: u64) -> Option<Waker> {
        let place = self.place(number);
        self.flushes.swap_remove(place).waker
    }

    fn place(&self, number: u64) -> usize {
        self.flushes.iter().position(|flush| flush.number == number).expect("a flush is there until its future is gone")
    }
}
