//! Windows of fixed length: an item is added to one slice, and a window is the sum of its slices.
//!
//! A tumbling window is one slice. Panes shared by slices: Li et al., "No Pane, No Gain", SIGMOD Record 34(1), 2005.

use std::collections::BTreeMap;

use super::changes::{Changes, Fired};
use super::store::Rules;
use super::summary::{Group, Pane, Row};
use super::window::{Firing, Window};

#[derive(Debug, Clone)]
pub(super) struct Slices {
    size: i64,
    slide: i64,
    slice: i64,
    /// By the beginning of the slice.
    slices: BTreeMap<i64, usize>,
    panes: Vec<Slot>,
    free: Vec<usize>,
    /// Slices that changed in this call.
    dirty: Vec<usize>,
    last: Option<Last>,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    start: i64,
    pane: Pane,
    /// In `dirty`.
    changed: bool,
    /// Where the watermark stood when the last late item came that no firing has shown.
    unshown: Option<i64>,
}

/// The slice of the last item: the next one is likely to be of the same.
#[derive(Debug, Clone, Copy)]
struct Last {
    start: i64,
    end: i64,
    slot: usize,
    timing: Timing,
}

/// How an item that is taken stands to the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// None of its windows has ended.
    OnTime,
    /// One has ended, and one is still held.
    Late,
}

impl Slices {
    pub(super) fn new(size: i64, slide: i64) -> Self {
        let slice = greatest_common_divisor(size, slide);
        let (slices, panes) = (BTreeMap::new(), Vec::new());
        Self { size, slide, slice, slices, panes, free: Vec::new(), dirty: Vec::new(), last: None }
    }

    fn is_sliding(&self) -> bool {
        self.slice != self.size
    }

    /// The beginning of the first window that a slice belongs to.
    fn first_window(&self, slice_start: i64) -> i64 {
        // Windows begin at multiples of the slide; this is the first one that ends after the beginning of the slice.
        let before = i128::from(slice_start) - i128::from(self.size);
        let start = (before.div_euclid(i128::from(self.slide)) + 1) * i128::from(self.slide);
        cut(start)
    }

    /// The end of the last window that a slice belongs to.
    fn last_end(&self, slice_start: i64) -> i64 {
        cut(i128::from(slice_start.div_euclid(self.slide)) * i128::from(self.slide) + i128::from(self.size))
    }

    fn window(&self, start: i64) -> Window {
        Window::Time { start, end: start.saturating_add(self.size) }
    }

    /// How an item of `time` stands, and the slot of its slice; `None` if all its windows are gone.
    #[inline]
    pub(super) fn place(&mut self, time: i64, rules: &Rules) -> Option<(Timing, usize)> {
        match self.last {
            Some(last) if (last.start..last.end).contains(&time) => Some((last.timing, last.slot)),
            _ => self.find(time, rules),
        }
    }

    fn find(&mut self, time: i64, rules: &Rules) -> Option<(Timing, usize)> {
        let start = cut(i128::from(time.div_euclid(self.slice)) * i128::from(self.slice));
        if self.last_end(start).saturating_add(rules.lateness) <= rules.watermark {
            return None;
        }
        let first_end = self.first_window(start).saturating_add(self.size);
        let timing = if first_end <= rules.watermark { Timing::Late } else { Timing::OnTime };
        let slot = *self.slices.entry(start).or_insert_with(|| {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.panes.push(Slot::default());
                self.panes.len() - 1
            });
            self.panes[slot].start = start;
            slot
        });
        self.last = Some(Last { start, end: start.saturating_add(self.slice), slot, timing });
        Some((timing, slot))
    }

    pub(super) fn pane(&mut self, slot: usize) -> &mut Pane {
        &mut self.panes[slot].pane
    }

    /// Adds an item to a group of a slot.
    #[inline]
    pub(super) fn add(
        &mut self,
        slot: usize,
        group: usize,
        row: Row<'_>,
        timing: Timing,
        rules: &Rules,
        changes: &mut Changes,
    ) {
        let held = &mut self.panes[slot];
        held.pane.add(group, row, rules.call);
        if !std::mem::replace(&mut held.changed, true) {
            self.dirty.push(slot);
        }
        if timing == Timing::Late {
            if rules.fires_each_late() {
                self.fire_late(slot, rules, changes);
            } else {
                held.unshown = Some(rules.watermark);
            }
        } else if rules.is_early(held.pane.since_fired) {
            self.fire_slot(slot, Firing::Early, rules, changes);
        }
    }

    /// Fires the windows of `slot` that have ended and are not gone.
    fn fire_late(&mut self, slot: usize, rules: &Rules, changes: &mut Changes) {
        if !self.is_sliding() {
            return self.fire_slot(slot, Firing::Late, rules, changes);
        }
        let slice_start = self.panes[slot].start;
        let mut start = self.first_window(slice_start);
        while start <= slice_start && start.saturating_add(self.size) <= rules.watermark {
            if start.saturating_add(self.size).saturating_add(rules.lateness) > rules.watermark {
                self.fire_sum(start, Firing::Late, changes);
            }
            start = start.saturating_add(self.slide);
        }
    }

    /// Fires the window that is one slice.
    fn fire_slot(&mut self, slot: usize, firing: Firing, rules: &Rules, changes: &mut Changes) {
        let window = self.window(self.panes[slot].start);
        let held = &mut self.panes[slot];
        held.unshown = None;
        let is_last = firing == Firing::OnTime && rules.lateness == 0;
        let pane =
            if is_last { std::mem::take(&mut held.pane) } else { held.pane.shown(window, rules.accumulation, changes) };
        if !pane.groups.is_empty() {
            changes.fired.push(Fired { window, firing, pane });
        }
    }

    /// Fires the window that begins at `start`, of all its slices.
    fn fire_sum(&self, start: i64, firing: Firing, changes: &mut Changes) {
        let mut sum = Pane::default();
        for slot in self.slices.range(start..=start.saturating_add(self.size - 1)).map(|(_, slot)| *slot) {
            sum.merge(&self.panes[slot].pane);
        }
        changes.fired.push(Fired { window: self.window(start), firing, pane: sum });
    }

    /// Fires what ends from behind `before` up to the watermark of `rules`, and drops what is over.
    pub(super) fn advance(&mut self, before: i64, rules: &Rules, changes: &mut Changes) {
        self.last = None;
        // The first window that ends after `before`.
        let mut cursor = self.first_window(before);
        while let Some((&slice, &slot)) = self.slices.range(cursor..).next() {
            let start = cursor.max(self.first_window(slice));
            let end = start.saturating_add(self.size);
            if end > rules.watermark {
                break;
            }
            if self.is_sliding() {
                self.fire_sum(start, Firing::OnTime, changes);
            } else {
                self.fire_slot(slot, Firing::OnTime, rules, changes);
            }
            match start.checked_add(self.slide) {
                Some(next) => cursor = next,
                None => break,
            }
        }
        if !rules.fires_each_late() {
            self.fire_unshown(before, rules, changes);
        }
        self.expire(rules);
    }

    /// Fires once more the windows whose lateness ends now and which hold late items that no firing has shown.
    fn fire_unshown(&mut self, before: i64, rules: &Rules, changes: &mut Changes) {
        let over = |start: i64| start.saturating_add(self.size).saturating_add(rules.lateness);
        let mut late: Vec<i64> = Vec::new();
        for (&slice, &slot) in &self.slices {
            let mut start = self.first_window(slice);
            if over(start) > rules.watermark {
                break;
            }
            let Some(came_at) = self.panes[slot].unshown else { continue };
            while start <= slice && over(start) <= rules.watermark && start.saturating_add(self.size) <= came_at {
                if over(start) > before {
                    late.push(start);
                }
                start = start.saturating_add(self.slide);
            }
        }
        late.sort_unstable();
        late.dedup();
        for start in late {
            if self.is_sliding() {
                self.fire_sum(start, Firing::Late, changes);
            } else {
                self.fire_slot(self.slices[&start], Firing::Late, rules, changes);
            }
        }
    }

    /// Drops the slices whose windows are all gone.
    fn expire(&mut self, rules: &Rules) {
        while let Some((&slice, &slot)) = self.slices.first_key_value() {
            if self.last_end(slice).saturating_add(rules.lateness) > rules.watermark {
                break;
            }
            self.slices.remove(&slice);
            self.panes[slot] = Slot::default();
            self.free.push(slot);
        }
    }

    /// Reports what changed in this call.
    pub(super) fn report(&mut self, changes: &mut Changes) {
        for slot in self.dirty.drain(..) {
            let held = &mut self.panes[slot];
            held.changed = false;
            let window = Window::Time { start: held.start, end: held.start.saturating_add(self.slice) };
            held.pane.report(window, changes);
        }
    }

    /// The slices, by time.
    pub(super) fn open(&self) -> impl Iterator<Item = (Window, &Pane)> {
        self.slices.iter().map(|(&start, &slot)| {
            (Window::Time { start, end: start.saturating_add(self.slice) }, &self.panes[slot].pane)
        })
    }

    pub(super) fn groups_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.panes.iter_mut().flat_map(|slot| &mut slot.pane.groups)
    }

    /// The length of a window and from one to the next.
    pub(super) fn lengths(&self) -> (i64, i64) {
        (self.size, self.slide)
    }

    /// The slices, by time, each with its beginning and where the watermark stood at the last late item that was not shown.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, Option<i64>, &Pane)> {
        self.slices.iter().map(|(&start, &slot)| (start, self.panes[slot].unshown, &self.panes[slot].pane))
    }

    /// Adds to the slice that begins at `start`.
    pub(super) fn merge_slice(&mut self, start: i64, unshown: Option<i64>, pane: Pane) {
        self.last = None;
        if let Some(&slot) = self.slices.get(&start) {
            let held = &mut self.panes[slot];
            held.pane.merge(&pane);
            held.unshown = held.unshown.max(unshown);
            return;
        }
        self.panes.push(Slot { start, pane, unshown, ..Slot::default() });
        self.slices.insert(start, self.panes.len() - 1);
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn cut(micros: i128) -> i64 {
    i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX })
}
