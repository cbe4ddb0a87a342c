//! Windows by brute force: all items that were taken are kept, and a pane is made by looking at all of them.

use std::collections::{BTreeMap, BTreeSet};

use bridge_orchestrator::reduce::{Firing, GroupView, Output, PaneView, Window};

/// An item: time, group, bytes, workflow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plain {
    pub(crate) time: i64,
    pub(crate) key: usize,
    pub(crate) bytes: u64,
    pub(crate) workflow: usize,
}

pub(crate) const KEYS: [&str; 3] = ["a", "b", "c"];
pub(crate) const WORKFLOWS: [&str; 12] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];

/// Items, bytes and workflows of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sum {
    pub(crate) count: u64,
    pub(crate) bytes: i128,
    pub(crate) workflows: BTreeSet<String>,
}

impl Sum {
    pub(crate) fn add(&mut self, item: &Plain) {
        self.count += 1;
        self.bytes += i128::from(item.bytes);
        self.workflows.insert(WORKFLOWS[item.workflow].to_owned());
    }
}

/// A fired pane: window, why, groups.
pub(crate) type Pane = (Window, Firing, BTreeMap<String, Sum>);

pub(crate) fn groups<'a>(items: impl Iterator<Item = &'a Plain>) -> BTreeMap<String, Sum> {
    let mut groups: BTreeMap<String, Sum> = BTreeMap::new();
    for item in items {
        groups.entry(KEYS[item.key].to_owned()).or_default().add(item);
    }
    groups
}

/// The panes of a call, in the order in which they were fired.
pub(crate) fn panes_of(output: Output<'_>) -> Vec<Pane> {
    let sum = |group: GroupView<'_>| Sum {
        count: group.count(),
        bytes: group.bytes(),
        workflows: group.workflows().iter().map(str::to_owned).collect(),
    };
    let pane = |pane: PaneView<'_>| {
        let groups = pane.groups().map(|group| (group.key().to_owned(), sum(group))).collect();
        (pane.window(), pane.firing().expect("fired"), groups)
    };
    output.panes().map(pane).collect()
}

/// In an order of their own: that within a call is not what is compared.
pub(crate) fn sorted(mut panes: Vec<Pane>) -> Vec<Pane> {
    panes.sort_by_key(|(window, firing, _)| (*window, *firing as u8));
    panes
}

/// Windows of one length, `slide` apart, that accumulate.
#[derive(Debug)]
pub(crate) struct Naive {
    pub(crate) size: i64,
    pub(crate) slide: i64,
    pub(crate) lateness: i64,
    pub(crate) fires_each_late: bool,
    pub(crate) watermark: i64,
    /// Items that were taken, and the watermark when they came.
    taken: Vec<(Plain, i64)>,
    pub(crate) on_time: u64,
    pub(crate) late: u64,
    pub(crate) dropped: u64,
}

impl Naive {
    pub(crate) fn new(size: i64, slide: i64, lateness: i64, fires_each_late: bool) -> Self {
        let (watermark, taken) = (i64::MIN, Vec::new());
        Self { size, slide, lateness, fires_each_late, watermark, taken, on_time: 0, late: 0, dropped: 0 }
    }

    /// The ends of the windows of an item.
    fn ends(&self, time: i64) -> impl Iterator<Item = i64> + use<> {
        let (size, slide) = (self.size, self.slide);
        (-200..200)
            .map(move |n| n * slide)
            .filter(move |start| (*start..start + size).contains(&time))
            .map(move |start| start + size)
    }

    fn pane(&self, end: i64, firing: Firing) -> Pane {
        let start = end - self.size;
        let within = self.taken.iter().map(|(item, _)| item).filter(|item| (start..end).contains(&item.time));
        (Window::Time { start, end }, firing, groups(within))
    }

    pub(crate) fn push(&mut self, item: Plain) -> Vec<Pane> {
        let ends: Vec<i64> = self.ends(item.time).collect();
        let is_gone = |end: &i64| end.saturating_add(self.lateness) <= self.watermark;
        if ends.iter().all(is_gone) {
            self.dropped += 1;
            return Vec::new();
        }
        let is_late = ends.iter().any(|end| *end <= self.watermark);
        self.taken.push((item, self.watermark));
        *(if is_late { &mut self.late } else { &mut self.on_time }) += 1;
        if !self.fires_each_late {
            return Vec::new();
        }
        let shown = ends.iter().filter(|end| **end <= self.watermark && !is_gone(end));
        sorted(shown.map(|end| self.pane(*end, Firing::Late)).collect())
    }

    pub(crate) fn advance(&mut self, to: i64) -> Vec<Pane> {
        if to <= self.watermark {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.watermark, to);
        let passed = |moment: i64| before < moment && moment <= to;
        let ends: BTreeSet<i64> = self.taken.iter().flat_map(|(item, _)| self.ends(item.time)).collect();
        let mut panes = Vec::new();
        for end in ends {
            if passed(end) {
                panes.push(self.pane(end, Firing::OnTime));
            }
            let came_late = |(item, at): &(Plain, i64)| {
                (end - self.size..end).contains(&item.time) && end <= *at && end + self.lateness > *at
            };
            if !self.fires_each_late && passed(end + self.lateness) && self.taken.iter().any(came_late) {
                panes.push(self.pane(end, Firing::Late));
            }
        }
        sorted(panes)
    }
}

/// Sessions of all items at once: a gap between two makes two of them.
pub(crate) fn sessions(items: &[Plain], gap: i64) -> BTreeMap<(Window, String), Sum> {
    let mut sessions = BTreeMap::new();
    for (key, name) in KEYS.iter().enumerate() {
        let mut own: Vec<&Plain> = items.iter().filter(|item| item.key == key).collect();
        own.sort_by_key(|item| item.time);
        for session in own.chunk_by(|a, b| b.time - a.time < gap) {
            let (start, end) = (session[0].time, session[session.len() - 1].time + gap);
            let mut sum = Sum::default();
            session.iter().for_each(|item| sum.add(item));
            sessions.insert((Window::Time { start, end }, (*name).to_owned()), sum);
        }
    }
    sessions
}
