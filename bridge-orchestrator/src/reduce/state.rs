//! All that a reducer holds, to be written down, read back, and added to another one.

use serde::{Deserialize, Serialize};

use super::error::ReduceError;
use super::intern::Interner;
use super::reducer::{Reducer, Totals};
use super::sessions::Session;
use super::store::{CountWindow, Store};
use super::summary::{Group, Pane, Summary};
use super::workflows::WorkflowCounts;

/// A reducer without its options. Groups name texts by their places in the lists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    keys: Vec<String>,
    types: Vec<String>,
    workflows: Vec<(String, Option<String>)>,
    workflow_counts: WorkflowCounts,
    totals: Totals,
    watermark: i64,
    /// Forgetting goes on as it would have: whether a workflow is known decides what its next state means.
    forget_at: usize,
    windows: Windows,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Windows {
    Global(PaneState),
    Count { pane: PaneState, size: u64, items: u64, number: u64 },
    Slices { size: i64, slide: i64, slices: Vec<SliceState> },
    Sessions { gap: i64, sessions: Vec<SessionState> },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct PaneState {
    since_fired: u64,
    groups: Vec<GroupState>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SliceState {
    start: i64,
    unshown: Option<i64>,
    pane: PaneState,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct SessionState {
    start: i64,
    end: i64,
    since_fired: u64,
    fired: bool,
    unshown: bool,
    group: GroupState,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct GroupState {
    key: u32,
    count: u64,
    bytes: i128,
    types: Vec<u32>,
    workflows: Vec<u32>,
}

impl Reducer {
    /// Adds what another reducer of the same options holds: the partial results of another part of the items. Their sums and sets are exact,
    /// however the items were divided and in whatever order parts are merged.
    ///
    /// Both must be at the same watermark, so that neither has dropped what the other still holds. Where both know a workflow, the state that can
    /// be reached from the other's counts, and this one's if neither can; workflows are best not divided. Reducers that group by functions
    /// must have the same one. Panes that were fired are not merged.
    ///
    /// Cost: linear in what the other holds.
    ///
    /// # Errors
    /// [`ReduceError::NotMergeable`]: of count windows, which depend on the order of all items, and of different windows or watermarks. Nothing
    /// was merged.
    pub fn merge(&mut self, other: &Self) -> Result<(), ReduceError> {
        if matches!(self.store, Store::Count(_)) {
            return Err(ReduceError::NotMergeable("count windows depend on the order of all items"));
        }
        if self.rules.watermark != other.rules.watermark {
            return Err(ReduceError::NotMergeable("the watermarks differ"));
        }
        self.absorb(other.state())
    }

    pub(super) fn state(&self) -> State {
        let texts = |interner: &Interner| interner.iter().map(str::to_owned).collect();
        let workflow = |(text, state): (&str, Option<_>)| {
            (text.to_owned(), state.map(|state| self.machine.state_name(state).to_owned()))
        };
        State {
            keys: texts(&self.keys),
            types: texts(&self.types),
            workflows: self.workflows.iter().map(workflow).collect(),
            workflow_counts: self.workflows.counts,
            totals: self.totals,
            watermark: self.rules.watermark,
            forget_at: self.forget_at,
            windows: Windows::of(&self.store),
        }
    }

    /// Takes over what a reducer held. This one has the same options and is fresh.
    pub(super) fn restore(&mut self, state: State) -> Result<(), ReduceError> {
        self.rules.watermark = state.watermark;
        self.forget_at = state.forget_at;
        self.is_recovered = true;
        self.absorb(state)
    }

    fn absorb(&mut self, state: State) -> Result<(), ReduceError> {
        if !state.windows.fit(&self.store) {
            return Err(ReduceError::NotMergeable("the windows differ"));
        }
        if !state.is_sound() {
            return Err(ReduceError::NotMergeable("the state names texts that it does not have"));
        }
        let known = |(_, name): &(String, Option<String>)| {
            name.as_ref().filter(|name| self.machine.state(name).is_none()).cloned()
        };
        if let Some(name) = state.workflows.iter().find_map(known) {
            return Err(ReduceError::UnknownState(name));
        }
        let numbers = Numbers {
            keys: state.keys.iter().map(|text| self.keys.intern(text).0).collect(),
            types: state.types.iter().map(|text| self.types.intern(text).0).collect(),
            workflows: state
                .workflows
                .iter()
                .map(|(text, name)| {
                    let state = name.as_ref().and_then(|name| self.machine.state(name));
                    self.workflows.join(text, state, &self.machine)
                })
                .collect(),
        };
        self.workflows.counts.add(&state.workflow_counts);
        self.totals.add(&state.totals);
        let (keys, numbers) = (&self.keys, &numbers);
        match (&mut self.store, state.windows) {
            (Store::Global(pane), Windows::Global(other)) => pane.merge(&numbers.pane(other, keys)),
            (Store::Count(count), Windows::Count { pane, size, items, number }) => {
                *count = CountWindow { pane: numbers.pane(pane, keys), size, items, number };
            }
            (Store::Slices(slices), Windows::Slices { slices: others, .. }) => {
                for SliceState { start, unshown, pane } in others {
                    slices.merge_slice(start, unshown, numbers.pane(pane, keys));
                }
            }
            (Store::Sessions(sessions), Windows::Sessions { sessions: others, .. }) => {
                for SessionState { start, end, since_fired, fired, unshown, group } in others {
                    let group = numbers.group(group, keys);
                    let mut session = Session::until(end, group);
                    (session.since_fired, session.fired, session.unshown) = (since_fired, fired, unshown);
                    sessions.merge_session(start, session);
                }
            }
            _ => unreachable!("the windows fit"),
        }
        self.store.each_group_mut(|group| group.summary.settle());
        Ok(())
    }
}

impl State {
    /// Whether the texts are there that groups name.
    fn is_sound(&self) -> bool {
        let is_sound = |group: &GroupState| {
            let within = |ids: &[u32], most: usize| ids.iter().all(|id| (*id as usize) < most);
            within(&[group.key], self.keys.len())
                && within(&group.types, self.types.len())
                && within(&group.workflows, self.workflows.len())
        };
        match &self.windows {
            Windows::Global(pane) | Windows::Count { pane, .. } => pane.groups.iter().all(is_sound),
            Windows::Slices { slices, .. } => slices.iter().flat_map(|slice| &slice.pane.groups).all(is_sound),
            Windows::Sessions { sessions, .. } => sessions.iter().all(|session| is_sound(&session.group)),
        }
    }
}

impl Windows {
    fn of(store: &Store) -> Self {
        match store {
            Store::Global(pane) => Self::Global(PaneState::of(pane)),
            Store::Count(CountWindow { pane, size, items, number }) => {
                Self::Count { pane: PaneState::of(pane), size: *size, items: *items, number: *number }
            }
            Store::Slices(slices) => {
                let (size, slide) = slices.lengths();
                let slice = |(start, unshown, pane)| SliceState { start, unshown, pane: PaneState::of(pane) };
                Self::Slices { size, slide, slices: slices.iter().map(slice).collect() }
            }
            Store::Sessions(sessions) => Self::Sessions {
                gap: sessions.gap(),
                sessions: sessions
                    .iter()
                    .map(|(start, session)| SessionState {
                        start,
                        end: session.end,
                        since_fired: session.since_fired,
                        fired: session.fired,
                        unshown: session.unshown,
                        group: GroupState::of(&session.group),
                    })
                    .collect(),
            },
        }
    }

    fn fit(&self, store: &Store) -> bool {
        match (self, store) {
            (Self::Global(_), Store::Global(_)) => true,
            (Self::Count { size, .. }, Store::Count(count)) => *size == count.size,
            (Self::Slices { size, slide, .. }, Store::Slices(slices)) => (*size, *slide) == slices.lengths(),
            (Self::Sessions { gap, .. }, Store::Sessions(sessions)) => *gap == sessions.gap(),
            _ => false,
        }
    }
}

impl PaneState {
    fn of(pane: &Pane) -> Self {
        Self { since_fired: pane.since_fired, groups: pane.groups.iter().map(GroupState::of).collect() }
    }
}

impl GroupState {
    fn of(group: &Group) -> Self {
        let summary = &group.summary;
        Self {
            key: group.key,
            count: summary.count,
            bytes: summary.bytes,
            types: summary.types.ids().to_vec(),
            workflows: summary.workflows.ids().to_vec(),
        }
    }
}

/// The numbers that the texts of a state have here.
struct Numbers {
    keys: Vec<u32>,
    types: Vec<u32>,
    workflows: Vec<u32>,
}

impl Numbers {
    fn group(&self, group: GroupState, keys: &Interner) -> Group {
        let numbered = |ids: Vec<u32>, numbers: &[u32]| ids.into_iter().map(|id| numbers[id as usize]).collect();
        let types = numbered(group.types, &self.types);
        let workflows = numbered(group.workflows, &self.workflows);
        let summary = Summary::of(group.count, group.bytes, types, workflows);
        let mut here = Group::new(self.keys[group.key as usize], keys);
        here.summary = summary;
        here
    }

    fn pane(&self, pane: PaneState, keys: &Interner) -> Pane {
        let mut here = Pane::of_groups(pane.groups.into_iter().map(|group| self.group(group, keys)));
        here.since_fired = pane.since_fired;
        here
    }
}

impl Totals {
    fn add(&mut self, other: &Self) {
        let Self { items, on_time, late_accepted, dropped_late, panes } = other;
        self.items += items;
        self.on_time += on_time;
        self.late_accepted += late_accepted;
        self.dropped_late += dropped_late;
        self.panes += panes;
    }
}

impl WorkflowCounts {
    fn add(&mut self, other: &Self) {
        let Self { adopted, applied, unchanged, refused, untracked, evicted_terminal } = other;
        self.adopted += adopted;
        self.applied += applied;
        self.unchanged += unchanged;
        self.refused += refused;
        self.untracked += untracked;
        self.evicted_terminal += evicted_terminal;
    }
}
