//! The windows that are open, of whatever kind.

use super::changes::{Changes, Fired};
use super::intern::Interner;
use super::sessions::Sessions;
use super::slices::{Slices, Timing};
use super::summary::{Group, Pane, Row};
use super::window::{Accumulation, Firing, LateFiring, Trigger, Window};

#[derive(Debug, Clone)]
pub(super) enum Store {
    Global(Pane),
    Count(CountWindow),
    Slices(Slices),
    Sessions(Sessions),
}

/// The window that is being filled.
#[derive(Debug, Clone)]
pub(super) struct CountWindow {
    pub(super) pane: Pane,
    pub(super) size: u64,
    pub(super) items: u64,
    pub(super) number: u64,
}

/// What is true of all items of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) watermark: i64,
    pub(super) lateness: i64,
    pub(super) trigger: Trigger,
    pub(super) accumulation: Accumulation,
    /// The number of the call, from 1.
    pub(super) call: u64,
}

/// Where an item goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Group(usize),
    Slice { slot: usize, group: usize },
    Session { key: u32, start: i64 },
}

impl Rules {
    /// Whether a pane with so many items since it was last fired is to be fired early.
    #[inline]
    pub(super) fn is_early(&self, since_fired: u64) -> bool {
        self.trigger.early_every.is_some_and(|every| since_fired >= every)
    }

    /// Whether each late item fires what it belongs to.
    pub(super) fn fires_each_late(&self) -> bool {
        self.trigger.late == LateFiring::Each
    }
}

impl Store {
    /// Where an item of `key` and `time` goes; `None` if it is dropped: then nothing has changed.
    #[inline]
    pub(super) fn place(
        &mut self,
        key: &str,
        time: i64,
        rules: &Rules,
        keys: &mut Interner,
    ) -> Option<(Timing, Place)> {
        match self {
            Self::Global(pane) | Self::Count(CountWindow { pane, .. }) => {
                Some((Timing::OnTime, Place::Group(pane.group(key, keys))))
            }
            Self::Slices(slices) => {
                let (timing, slot) = slices.place(time, rules)?;
                let group = slices.pane(slot).group(key, keys);
                Some((timing, Place::Slice { slot, group }))
            }
            Self::Sessions(sessions) => {
                let known = keys.find(key);
                if known.is_none_or(|key| !sessions.reaches(key, time)) && sessions.is_over(time, rules) {
                    return None;
                }
                let (key, _) = keys.intern(key);
                let (timing, start) = sessions.place(key, time, rules, keys);
                Some((timing, Place::Session { key, start }))
            }
        }
    }

    /// Adds an item where [`Store::place`] said.
    #[inline]
    pub(super) fn add(&mut self, place: Place, row: Row<'_>, timing: Timing, rules: &Rules, changes: &mut Changes) {
        match (self, place) {
            (Self::Global(pane), Place::Group(group)) => {
                pane.add(group, row, rules.call);
                if rules.is_early(pane.since_fired) {
                    let pane = pane.shown(Window::Global, rules.accumulation, changes);
                    changes.fired.push(Fired { window: Window::Global, firing: Firing::Early, pane });
                }
            }
            (Self::Count(count), Place::Group(group)) => {
                count.pane.add(group, row, rules.call);
                count.items += 1;
                let window = count.window();
                if count.items == count.size {
                    count.pane.report(window, changes);
                    changes.fired.push(count.close());
                } else if rules.is_early(count.pane.since_fired) {
                    let pane = count.pane.shown(window, rules.accumulation, changes);
                    changes.fired.push(Fired { window, firing: Firing::Early, pane });
                }
            }
            (Self::Slices(slices), Place::Slice { slot, group }) => {
                slices.add(slot, group, row, timing, rules, changes);
            }
            (Self::Sessions(sessions), Place::Session { key, start }) => {
                sessions.add((key, start), row, timing, rules, changes);
            }
            _ => unreachable!("a place is one of the store that gave it"),
        }
    }

    /// Reports what changed in the call.
    pub(super) fn report(&mut self, changes: &mut Changes) {
        match self {
            Self::Global(pane) => pane.report(Window::Global, changes),
            Self::Count(count) => count.pane.report(Window::Count { number: count.number }, changes),
            Self::Slices(slices) => slices.report(changes),
            Self::Sessions(sessions) => sessions.report(changes),
        }
    }

    pub(super) fn each_group(&self, see: impl FnMut(&Group)) {
        match self {
            Self::Global(pane) | Self::Count(CountWindow { pane, .. }) => pane.groups.iter().for_each(see),
            Self::Slices(slices) => slices.open().flat_map(|(_, pane)| &pane.groups).for_each(see),
            Self::Sessions(sessions) => sessions.iter().map(|(_, session)| &session.group).for_each(see),
        }
    }

    pub(super) fn each_group_mut(&mut self, change: impl FnMut(&mut Group)) {
        match self {
            Self::Global(pane) | Self::Count(CountWindow { pane, .. }) => pane.groups.iter_mut().for_each(change),
            Self::Slices(slices) => slices.groups_mut().for_each(change),
            Self::Sessions(sessions) => sessions.groups_mut().for_each(change),
        }
    }

    /// Gives texts the numbers that the lists have in the place of theirs.
    pub(super) fn renumber(&mut self, keys: &[u32], types: &[u32], workflows: &[u32]) {
        match self {
            Self::Sessions(sessions) => sessions.renumber(keys, types, workflows),
            Self::Global(_) | Self::Count(_) | Self::Slices(_) => {
                self.each_group_mut(|group| group.renumber(keys, types, workflows));
            }
        }
    }
}

impl CountWindow {
    pub(super) fn new(size: u64) -> Self {
        Self { pane: Pane::default(), size, items: 0, number: 0 }
    }

    pub(super) fn window(&self) -> Window {
        Window::Count { number: self.number }
    }

    /// Ends the window; the next one is empty.
    pub(super) fn close(&mut self) -> Fired {
        let window = self.window();
        (self.items, self.number) = (0, self.number + 1);
        Fired { window, firing: Firing::OnTime, pane: std::mem::take(&mut self.pane) }
    }
}
