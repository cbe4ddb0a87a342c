//! What is due when.

use std::sync::Arc;

use super::{Aftermath, State};
use crate::arena::{Caller, Content, Id};
use crate::error::BatchError;
use crate::options::Options;
use crate::timer::Alarm;

/// What happens at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The oldest item that lingers in a lane has done so for long enough.
    Lane(u32),
    /// An item has to be answered.
    Deadline(Id),
    /// Items run again.
    Rerun(u64),
    /// A batch may be tried again.
    Breaker,
}

impl<I, O, E> State<I, O, E> {
    pub(super) fn add_timer(&mut self, options: &Options<I, O, E>, when: u64, due: Due) {
        self.timers.insert((when, due));
        self.arm(options);
    }

    /// Sets the alarm, unless it goes off in time anyway. Going off too early does no harm.
    fn arm(&mut self, options: &Options<I, O, E>) {
        if let Some(&(first, _)) = self.timers.first()
            && first < self.armed
        {
            self.armed = first;
            let alarm = self.alarm.get_or_insert_with(|| Arc::new(Alarm::new()));
            alarm.set(options.clock, first);
        }
    }

    /// The alarm, if somebody has to wait for it.
    pub(super) fn alarm(&self) -> Option<&Arc<Alarm>> {
        self.alarm.as_ref().filter(|_| !self.timers.is_empty())
    }

    /// The alarm cannot be waited for where the runner runs: another kind takes its place.
    pub(crate) fn use_other_alarm(&mut self, options: &Options<I, O, E>) {
        self.alarm = Some(Arc::new(Alarm::of_a_thread()));
        self.armed = u64::MAX;
        self.arm(options);
    }

    /// The alarm went off.
    pub(crate) fn fire(&mut self, options: &Options<I, O, E>, after: &mut Aftermath<I, O, E>) {
        let now = options.now();
        self.armed = u64::MAX;
        while let Some(&(when, due)) = self.timers.first()
            && when <= now
        {
            self.timers.pop_first();
            match due {
                Due::Lane(lane) => {
                    self.lanes.at(lane).timer = None;
                    self.seal(lane);
                }
                Due::Deadline(id) => self.expire(id, after),
                Due::Rerun(number) => self.rested(number),
                Due::Breaker => {}
            }
        }
        self.admit(options, after);
        self.arm(options);
    }

    /// The deadline at `id` is no longer of interest.
    #[inline]
    pub(super) fn forget_deadline(&mut self, id: Id) {
        if let Some(deadline) = self.arena.at(id).deadline.take() {
            self.timers.remove(&(deadline.get(), Due::Deadline(id)));
        }
    }

    /// The deadline at `id` has passed.
    fn expire(&mut self, id: Id, after: &mut Aftermath<I, O, E>) {
        let place = self.arena.at(id);
        place.deadline = None;
        match place.content {
            Content::Item(_) => {
                self.counts.expired += 1;
                self.end_unstarted(id, || BatchError::Deadline { started: false }, after);
            }
            Content::Follows(item) => {
                let started = self.arena.at(item).running;
                let count = if started { &mut self.counts.failed } else { &mut self.counts.expired };
                *count += 1;
                self.step_away(id, item);
                self.end_follower(id, BatchError::Deadline { started }, after);
                self.without_follower(item, after);
            }
            Content::Empty if place.running && place.caller == Caller::Reply => {
                let seat = place.seat;
                after.told(self.seats.reply_early(seat, Err(BatchError::Deadline { started: true })));
            }
            Content::Empty | Content::Block(_) => {}
        }
    }
}
