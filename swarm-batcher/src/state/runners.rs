//! Who runs batches: tasks that are there to be used again, at most one more than may run batches, so that one is always free to wait
//! for the alarm.

use std::sync::Arc;
use std::task::Waker;

use super::{Aftermath, Phase, State, Trash};
use crate::engine::Engine;
use crate::options::Options;
use crate::timer::Alarm;

#[derive(Default)]
pub(super) struct Runners {
    /// How many there are.
    count: usize,
    /// Those that have nothing to do.
    idle: Vec<(u64, Waker)>,
    /// One that was called and has not come yet. It calls the next one if there is more to do.
    called: Option<u64>,
    /// The one that waits for the alarm.
    watcher: Option<u64>,
    /// The next one's number.
    next: u64,
}

impl Runners {
    pub(super) fn wake_all<I, O, E>(&mut self, after: &mut Aftermath<I, O, E>) {
        after.wakers.extend(self.idle.drain(..).map(|(_, waker)| waker));
        self.watcher = None;
    }

    /// One that has nothing to do, rather not the one that waits for the alarm.
    fn pop_idle(&mut self) -> Option<(u64, Waker)> {
        let place = self.idle.iter().rposition(|(id, _)| Some(*id) != self.watcher);
        let found = self.idle.swap_remove(place.or_else(|| self.idle.len().checked_sub(1))?);
        self.leave_watch(found.0);
        Some(found)
    }

    fn leave_watch(&mut self, id: u64) {
        if self.watcher == Some(id) {
            self.watcher = None;
        }
    }
}

/// What a runner does next.
pub(crate) enum Next<I, O, E> {
    /// Polls a batch that a caller began.
    Handed(Engine<I, O, E>),
    /// Runs the batch that was put into its core.
    Run,
    /// Sleeps.
    Sleep,
    /// Waits for the alarm.
    Watch(Arc<Alarm>),
    /// Ends.
    End,
}

impl<I, O, E> State<I, O, E> {
    /// Calls a runner if there is something to do and none is on its way.
    pub(crate) fn kick(&mut self, options: &Options<I, O, E>, after: &mut Aftermath<I, O, E>) {
        if self.is_over() {
            self.runners.wake_all(after);
            return;
        }
        if self.runners.called.is_some() {
            return;
        }
        let work = !self.handed.is_empty() || self.can_start(options);
        let watch = self.runners.watcher.is_none() && !self.timers.is_empty();
        if !work && !watch {
            return;
        }
        if let Some((id, waker)) = self.runners.pop_idle() {
            self.runners.called = Some(id);
            after.wakers.push(waker);
        } else if self.runners.count <= options.max_in_flight {
            let id = self.runners.next;
            self.runners.next += 1;
            self.runners.count += 1;
            self.runners.called = Some(id);
            after.spawn = Some(id);
        }
    }

    /// Whether nothing is left to be done, for ever. Whoever was answered early may have left a batch that still runs.
    fn is_over(&self) -> bool {
        self.phase != Phase::Open && self.held == 0 && self.permits == 0 && self.handed.is_empty()
    }

    pub(crate) fn has_runners(&self) -> bool {
        self.runners.count > 0
    }

    /// A batch that a caller began goes on without it.
    pub(crate) fn hand(&mut self, options: &Options<I, O, E>, engine: Engine<I, O, E>, after: &mut Aftermath<I, O, E>) {
        self.handed.push_back(engine);
        self.kick(options, after);
    }

    /// What the runner `id` does next, whose own engine is free.
    pub(crate) fn next(
        &mut self,
        options: &Options<I, O, E>,
        id: u64,
        engine: &mut Engine<I, O, E>,
        waker: &Waker,
        after: &mut Aftermath<I, O, E>,
    ) -> Next<I, O, E> {
        if self.runners.called == Some(id) {
            self.runners.called = None;
        }
        let next = if let Some(engine) = self.handed.pop_front() {
            Next::Handed(engine)
        } else if self.take(options, engine.core(), after) {
            Next::Run
        } else if self.is_over() {
            Next::End
        } else {
            self.sleep(id, waker, after)
        };
        if matches!(next, Next::Handed(_) | Next::Run) {
            self.runners.leave_watch(id);
            if let Some(place) = self.runners.idle.iter().position(|(idle, _)| *idle == id) {
                after.drop_waker(Some(self.runners.idle.swap_remove(place).1));
            }
        }
        self.kick(options, after);
        next
    }

    fn sleep(&mut self, id: u64, waker: &Waker, after: &mut Aftermath<I, O, E>) -> Next<I, O, E> {
        match self.runners.idle.iter_mut().find(|(idle, _)| *idle == id) {
            Some((_, known)) if known.will_wake(waker) => {}
            Some((_, known)) => after.drop_waker(Some(std::mem::replace(known, waker.clone()))),
            None => self.runners.idle.push((id, waker.clone())),
        }
        let watches = *self.runners.watcher.get_or_insert(id) == id;
        match self.alarm() {
            Some(alarm) if watches => Next::Watch(Arc::clone(alarm)),
            _ => {
                self.runners.leave_watch(id);
                Next::Sleep
            }
        }
    }

    /// The runner `id` is gone: it has ended, or its runtime was dropped, or there was none. With the last one everything ends that it
    /// might have run, and a later item calls a runner where it comes from.
    ///
    /// One that never came found no runtime here, and nor would another: what it was to do is left to those that are there.
    pub(crate) fn runner_gone(
        &mut self,
        options: &Options<I, O, E>,
        id: u64,
        came: bool,
        after: &mut Aftermath<I, O, E>,
    ) {
        self.runners.count -= 1;
        self.runners.leave_watch(id);
        if self.runners.called == Some(id) {
            self.runners.called = None;
        }
        if let Some(place) = self.runners.idle.iter().position(|(idle, _)| *idle == id) {
            after.drop_waker(Some(self.runners.idle.swap_remove(place).1));
        }
        if self.runners.count == 0 {
            after.trash.extend(self.handed.drain(..).map(Trash::Engine));
            self.end_all_unstarted(after);
        } else if came || !self.runners.idle.is_empty() {
            self.kick(options, after);
        }
    }
}
