//! What is known about a group of items, and the panes in which groups stand.

use hashbrown::HashTable;

use super::changes::{Changes, Delta};
use super::distinct::Distinct;
use super::intern::Interner;
use super::window::{Accumulation, Window};

/// The aggregates of one group.
#[derive(Debug, Clone, Default)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) bytes: i128,
    pub(super) types: Distinct,
    pub(super) workflows: Distinct,
    /// File types with a number below 64 that are among the types.
    few_types: u64,
    /// What tells it from all others since the reducer began, from 1; 0 before its first item.
    serial: u64,
    mark: Mark,
}

/// What a summary held when the present call began.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    call: u64,
    count: u64,
    bytes: i128,
    types: usize,
    workflows: usize,
}

/// An item as numbers.
#[derive(Debug)]
pub(super) struct Row<'r> {
    pub(super) bytes: u64,
    pub(super) content_type: u32,
    pub(super) workflow: u32,
    /// The serial of the summary that had the workflow's last item: there it need not be looked for.
    pub(super) last_seen_by: &'r mut u64,
    /// The last serial that was given.
    pub(super) serials: &'r mut u64,
}

impl Summary {
    pub(super) fn of(count: u64, bytes: i128, types: Distinct, workflows: Distinct) -> Self {
        Self { count, bytes, types, workflows, ..Self::default() }
    }

    #[inline]
    pub(super) fn add(&mut self, row: Row<'_>) {
        let Row { bytes, content_type, workflow, last_seen_by, serials } = row;
        self.count += 1;
        self.bytes += i128::from(bytes);
        let of_type = 1_u64.checked_shl(content_type).unwrap_or(0);
        if self.few_types & of_type == 0 {
            self.few_types |= of_type;
            self.types.insert(content_type);
        }
        if self.serial == 0 {
            *serials += 1;
            self.serial = *serials;
        }
        if std::mem::replace(last_seen_by, self.serial) != self.serial {
            self.workflows.insert(workflow);
        }
    }

    /// The summary of the items of both. Associative; commutative but for the order of the sets.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.bytes += other.bytes;
        self.types.merge(&other.types);
        self.workflows.merge(&other.workflows);
    }

    /// As [`Summary::merge`] with a summary that goes: what changed in this call is then what changed in either.
    pub(super) fn absorb(&mut self, other: &Self) {
        self.merge(other);
        self.mark.count += other.mark.count;
        self.mark.bytes += other.mark.bytes;
    }

    /// Notes what it holds when it changes for the first time in a call; whether this is that time.
    #[inline]
    pub(super) fn mark(&mut self, call: u64) -> bool {
        if self.mark.call == call {
            return false;
        }
        let (types, workflows) = (self.types.len(), self.workflows.len());
        self.mark = Mark { call, count: self.count, bytes: self.bytes, types, workflows };
        true
    }

    pub(super) fn was_reported_before(&self) -> bool {
        self.mark.count > 0
    }

    /// Adds what changed since the mark, or since this was last called, to `changes`.
    pub(super) fn report(&mut self, window: Window, key: u32, replaces: &[Window], changes: &mut Changes) {
        let Mark { call, count, bytes, types, workflows } = self.mark;
        if self.count == count && replaces.is_empty() {
            return;
        }
        let delta = Delta {
            window,
            key,
            count: self.count - count,
            bytes: self.bytes - bytes,
            types: changes.keep_ids(&self.types.ids()[types..]),
            workflows: changes.keep_ids(&self.workflows.ids()[workflows..]),
            replaces: changes.keep_windows(replaces),
        };
        changes.deltas.push(delta);
        let (types, workflows) = (self.types.len(), self.workflows.len());
        self.mark = Mark { call, count: self.count, bytes: self.bytes, types, workflows };
    }

    /// What it holds counts as reported.
    pub(super) fn settle(&mut self) {
        let (types, workflows) = (self.types.len(), self.workflows.len());
        self.mark = Mark { call: 0, count: self.count, bytes: self.bytes, types, workflows };
    }
}

/// The groups of a window, in the order in which their first items came.
#[derive(Debug, Clone, Default)]
pub(super) struct Pane {
    pub(super) groups: Vec<Group>,
    table: HashTable<u32>,
    /// The group of the last item.
    last: usize,
    /// Groups that changed in this call.
    dirty: Vec<u32>,
    /// Items since it was last fired.
    pub(super) since_fired: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) key: u32,
    hash: u64,
    pub(super) summary: Summary,
}

impl Group {
    /// A group of `key`, empty.
    pub(super) fn new(key: u32, keys: &Interner) -> Self {
        Self { key, hash: keys.hash_of(key), summary: Summary::default() }
    }

    /// What it holds; it is empty from then on.
    pub(super) fn take(&mut self) -> Self {
        Self { summary: std::mem::take(&mut self.summary), ..*self }
    }

    /// Gives texts the numbers that the lists have in the place of theirs.
    pub(super) fn renumber(&mut self, keys: &[u32], types: &[u32], workflows: &[u32]) {
        self.key = keys[self.key as usize];
        self.summary.types.renumber(types);
        self.summary.workflows.renumber(workflows);
        self.summary.few_types = 0;
    }
}

impl Pane {
    /// The group of `key`, which begins empty.
    #[inline]
    pub(super) fn group(&mut self, key: &str, keys: &mut Interner) -> usize {
        // Items of a group often follow each other.
        if let Some(last) = self.groups.get(self.last)
            && keys.get(last.key) == key
        {
            return self.last;
        }
        let hash = keys.hash(key);
        let found = self.table.find(hash, |&group| keys.is(self.groups[group as usize].key, hash, key));
        self.last = match found {
            Some(&group) => group as usize,
            None => {
                let (key, _) = keys.intern_hashed(hash, key);
                self.push(Group { key, hash, summary: Summary::default() })
            }
        };
        self.last
    }

    fn push(&mut self, group: Group) -> usize {
        let (place, hash) = (self.groups.len() as u32, group.hash);
        self.groups.push(group);
        let groups = &self.groups;
        self.table.insert_unique(hash, place, |&other| groups[other as usize].hash);
        place as usize
    }

    #[inline]
    pub(super) fn add(&mut self, group: usize, row: Row<'_>, call: u64) {
        let summary = &mut self.groups[group].summary;
        if summary.mark(call) {
            self.dirty.push(group as u32);
        }
        summary.add(row);
        self.since_fired += 1;
    }

    /// The groups of both.
    pub(super) fn merge(&mut self, other: &Self) {
        self.since_fired += other.since_fired;
        for group in &other.groups {
            let place = self.table.find(group.hash, |&place| self.groups[place as usize].key == group.key).copied();
            let place = place.map_or_else(
                || self.push(Group { key: group.key, hash: group.hash, summary: Summary::default() }),
                |place| place as usize,
            );
            self.groups[place].summary.merge(&group.summary);
        }
    }

    pub(super) fn of_groups(groups: impl IntoIterator<Item = Group>) -> Self {
        let mut pane = Self::default();
        for group in groups {
            pane.push(group);
        }
        pane
    }

    /// Reports what changed since the last report.
    pub(super) fn report(&mut self, window: Window, changes: &mut Changes) {
        for place in self.dirty.drain(..) {
            let group = &mut self.groups[place as usize];
            group.summary.report(window, group.key, &[], changes);
        }
    }

    /// What a firing shows of a pane whose window goes on.
    pub(super) fn shown(&mut self, window: Window, accumulation: Accumulation, changes: &mut Changes) -> Self {
        self.since_fired = 0;
        match accumulation {
            Accumulation::Accumulating => self.clone(),
            Accumulation::Discarding => {
                self.report(window, changes);
                std::mem::take(self)
            }
        }
    }
}
