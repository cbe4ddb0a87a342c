//! Sessions: items of a group without a gap between them, in any order of arrival.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::changes::{Changes, Fired};
use super::intern::Interner;
use super::slices::Timing;
use super::store::Rules;
use super::summary::{Group, Pane, Row};
use super::window::{Accumulation, Firing, Window};

/// Sessions of a group do not overlap.
#[derive(Debug, Clone)]
pub(super) struct Sessions {
    gap: i64,
    /// By group and beginning.
    sessions: BTreeMap<(u32, i64), Session>,
    /// End, group and beginning of each.
    ends: BTreeSet<(i64, u32, i64)>,
    /// Those that changed in this call, by group and beginning; some may be gone.
    dirty: Vec<(u32, i64)>,
}

#[derive(Debug, Clone)]
pub(super) struct Session {
    /// A gap after its last item.
    pub(super) end: i64,
    pub(super) group: Group,
    pub(super) since_fired: u64,
    pub(super) fired: bool,
    pub(super) unshown: bool,
    /// Windows that earlier calls reported and that are part of this one now.
    replaces: Vec<Window>,
}

impl Sessions {
    pub(super) fn new(gap: i64) -> Self {
        Self { gap, sessions: BTreeMap::new(), ends: BTreeSet::new(), dirty: Vec::new() }
    }

    /// Whether a session of `key` overlaps the window of an item of `time`.
    pub(super) fn reaches(&self, key: u32, time: i64) -> bool {
        let own_end = time.saturating_add(self.gap);
        let last = self.sessions.range((key, i64::MIN)..=(key, own_end.saturating_sub(1))).next_back();
        last.is_some_and(|(_, session)| session.end > time)
    }

    /// Whether a session of an item of `time` alone would be gone.
    pub(super) fn is_over(&self, time: i64, rules: &Rules) -> bool {
        time.saturating_add(self.gap).saturating_add(rules.lateness) <= rules.watermark
    }

    /// How an item of `time` stands, and the beginning of the session that it is to be added to. Sessions that it connects are one from
    /// then on.
    pub(super) fn place(&mut self, key: u32, time: i64, rules: &Rules, keys: &Interner) -> (Timing, i64) {
        let timing = |end| if end <= rules.watermark { Timing::Late } else { Timing::OnTime };
        let own_end = time.saturating_add(self.gap);
        let reached = self.overlapping(key, time, own_end);
        let Some(&first) = reached.last() else {
            self.put(key, time, Session::until(own_end, Group::new(key, keys)));
            return (timing(own_end), time);
        };
        let end = self.sessions[&(key, first)].end;
        if reached.len() == 1 && first <= time && own_end <= end {
            return (timing(end), first);
        }
        let mut whole = self.take(key, first, rules.call);
        for &start in reached.iter().rev().skip(1) {
            whole.absorb(self.take(key, start, rules.call));
        }
        let start = first.min(time);
        let end = whole.end.max(own_end);
        whole.end = end;
        whole.fired &= end <= rules.watermark;
        self.put(key, start, whole);
        (timing(end), start)
    }

    /// The beginnings of the sessions that overlap a window, the last one first.
    fn overlapping(&self, key: u32, start: i64, end: i64) -> SmallVec<[i64; 2]> {
        let before_end = self.sessions.range((key, i64::MIN)..=(key, end.saturating_sub(1))).rev();
        before_end.take_while(|(_, session)| session.end > start).map(|((_, start), _)| *start).collect()
    }

    /// Takes a session out to change its bounds.
    fn take(&mut self, key: u32, start: i64, call: u64) -> Session {
        let mut session = self.sessions.remove(&(key, start)).expect("it is there");
        self.ends.remove(&(session.end, key, start));
        session.group.summary.mark(call);
        if session.replaces.is_empty() && session.group.summary.was_reported_before() {
            session.replaces.push(Window::Time { start, end: session.end });
        }
        session
    }

    fn put(&mut self, key: u32, start: i64, session: Session) {
        self.ends.insert((session.end, key, start));
        self.sessions.insert((key, start), session);
    }

    /// Adds an item to the session of a group that begins there.
    pub(super) fn add(
        &mut self,
        place: (u32, i64),
        row: Row<'_>,
        timing: Timing,
        rules: &Rules,
        changes: &mut Changes,
    ) {
        let session = self.sessions.get_mut(&place).expect("placed");
        session.group.summary.mark(rules.call);
        session.group.summary.add(row);
        session.since_fired += 1;
        if self.dirty.last() != Some(&place) {
            self.dirty.push(place);
        }
        // A late item's session is shown by its own firing, not once more as on time.
        session.fired |= timing == Timing::Late;
        match timing {
            Timing::Late if rules.fires_each_late() => session.fire(place, Firing::Late, rules, changes),
            Timing::Late => session.unshown = true,
            Timing::OnTime if rules.is_early(session.since_fired) => {
                session.fire(place, Firing::Early, rules, changes);
            }
            Timing::OnTime => {}
        }
    }

    /// Fires what ends up to the watermark and was not fired, and drops what is over.
    pub(super) fn advance(&mut self, rules: &Rules, changes: &mut Changes) {
        let mut over = Vec::new();
        for &(end, key, start) in self.ends.iter().take_while(|(end, ..)| *end <= rules.watermark) {
            let session = self.sessions.get_mut(&(key, start)).expect("it has an end");
            if !session.fired {
                session.fired = true;
                session.fire((key, start), Firing::OnTime, rules, changes);
            }
            if end.saturating_add(rules.lateness) <= rules.watermark {
                if session.unshown {
                    session.fire((key, start), Firing::Late, rules, changes);
                }
                over.push((end, key, start));
            }
        }
        for (end, key, start) in over {
            self.ends.remove(&(end, key, start));
            self.sessions.remove(&(key, start));
        }
    }

    /// Reports what changed in this call.
    pub(super) fn report(&mut self, changes: &mut Changes) {
        self.dirty.sort_unstable();
        self.dirty.dedup();
        for place in self.dirty.drain(..) {
            if let Some(session) = self.sessions.get_mut(&place) {
                let window = Window::Time { start: place.1, end: session.end };
                session.replaces.retain(|replaced| *replaced != window);
                session.group.summary.report(window, place.0, &session.replaces, changes);
                session.replaces.clear();
            }
        }
    }

    pub(super) fn gap(&self) -> i64 {
        self.gap
    }

    pub(super) fn groups_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.sessions.values_mut().map(|session| &mut session.group)
    }

    /// The sessions and their beginnings.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Session)> {
        self.sessions.iter().map(|(&(_, start), session)| (start, session))
    }

    /// Gives texts the numbers that the lists have in the place of theirs.
    pub(super) fn renumber(&mut self, keys: &[u32], types: &[u32], workflows: &[u32]) {
        let renumbered = std::mem::take(&mut self.sessions);
        let renumber = |((_, start), mut session): ((u32, i64), Session)| {
            session.group.renumber(keys, types, workflows);
            ((session.group.key, start), session)
        };
        self.sessions = renumbered.into_iter().map(renumber).collect();
        self.ends = self.sessions.iter().map(|(&(key, start), session)| (session.end, key, start)).collect();
    }

    /// Adds a session, which is joined with those that it overlaps.
    pub(super) fn merge_session(&mut self, mut start: i64, mut session: Session) {
        let key = session.group.key;
        let own_end = session.end;
        let reached = self.overlapping(key, start, own_end);
        for other_start in reached {
            let other = self.sessions.remove(&(key, other_start)).expect("it is there");
            self.ends.remove(&(other.end, key, other_start));
            start = start.min(other_start);
            session.absorb(other);
        }
        self.put(key, start, session);
    }
}

impl Session {
    pub(super) fn until(end: i64, group: Group) -> Self {
        Self { end, group, since_fired: 0, fired: false, unshown: false, replaces: Vec::new() }
    }

    fn absorb(&mut self, other: Self) {
        self.end = self.end.max(other.end);
        self.group.summary.absorb(&other.group.summary);
        self.since_fired += other.since_fired;
        self.fired &= other.fired;
        self.unshown |= other.unshown;
        self.replaces.extend(other.replaces);
    }

    fn fire(&mut self, (key, start): (u32, i64), firing: Firing, rules: &Rules, changes: &mut Changes) {
        self.since_fired = 0;
        self.unshown = false;
        let window = Window::Time { start, end: self.end };
        let group = match rules.accumulation {
            Accumulation::Accumulating => self.group.clone(),
            Accumulation::Discarding => {
                if self.group.summary.count == 0 {
                    return;
                }
                self.group.summary.report(window, key, &self.replaces, changes);
                self.replaces.clear();
                self.group.take()
            }
        };
        let pane = Pane::of_groups([group]);
        changes.fired.push(Fired { window, firing, pane });
    }
}
