//! The reducer: from items and a watermark to panes and intents, without any I/O.

use std::sync::Arc;

use event_store::Timestamp;
use serde::{Deserialize, Serialize};

use super::changes::{Changes, Fired};
use super::error::ReduceError;
use super::group::{GroupBy, Keys};
use super::intent::{Output, PaneView};
use super::intern::Interner;
use super::item::Item;
use super::options::ReducerBuilder;
use super::recent::Recent;
use super::slices::Timing;
use super::store::{Rules, Store};
use super::summary::Group;
use super::window::{Firing, Window};
use super::workflows::{WorkflowCounts, Workflows};
use crate::fsm::Machine;

/// Groups items, in windows, and follows the states of their workflows.
///
/// It reads no clock and does no I/O: what it makes of the same calls is always the same. What has to be done elsewhere it says by
/// [`Intent`](super::Intent)s.
///
/// # Accounting
/// Every item is on time, late and accepted, or dropped: [`Reducer::totals`].
///
/// # Memory
/// Windows hold their groups until the watermark and the lateness have passed them, with every text that they have to tell apart: distinct
/// counts are exact. [`Windowing::Global`](super::Windowing::Global) never ends, so it grows with the distinct texts that it sees. Once windows
/// are gone, texts that no other window has are forgotten, and so are workflows in a terminal state; of the others at most
/// [`ReducerBuilder::max_workflows`] are kept.
///
/// # Cost
/// An item costs three look-ups of texts and one of a state, and allocates only for texts and groups that are new.
#[derive(Debug)]
pub struct Reducer {
    group_by: Keys,
    pub(super) store: Store,
    pub(super) rules: Rules,
    pub(super) machine: Arc<Machine>,
    max_workflows: usize,
    pub(super) keys: Interner,
    pub(super) types: Interner,
    recent_types: Recent<u32>,
    pub(super) workflows: Workflows,
    pub(super) totals: Totals,
    pub(super) changes: Changes,
    pub(super) dropped: Vec<usize>,
    pub(super) is_recovered: bool,
    /// Texts at which the next look for forgettable ones is due.
    pub(super) forget_at: usize,
}

/// What became of all items: `items = on_time + late_accepted + dropped_late`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// Items that came in.
    pub items: u64,
    /// Items of which no window had ended.
    pub on_time: u64,
    /// Items of which a window had ended, and one was still held.
    pub late_accepted: u64,
    /// Items whose windows were all gone.
    pub dropped_late: u64,
    /// Panes that were fired.
    pub panes: u64,
}

/// Fewer texts than this are kept without a look.
const LEAST_FORGET: usize = 4_096;

impl Reducer {
    /// Begins a reducer that groups by `group_by`.
    #[must_use]
    pub fn builder(group_by: GroupBy) -> ReducerBuilder {
        ReducerBuilder::new(group_by)
    }

    pub(super) fn new(group_by: Keys, store: Store, rules: Rules, machine: Arc<Machine>, max_workflows: usize) -> Self {
        Self {
            group_by,
            store,
            rules,
            machine,
            max_workflows,
            keys: Interner::default(),
            types: Interner::default(),
            recent_types: Recent::default(),
            workflows: Workflows::default(),
            totals: Totals::default(),
            changes: Changes::default(),
            dropped: Vec::new(),
            is_recovered: false,
            forget_at: LEAST_FORGET,
        }
    }

    /// Takes items in the order of their arrival.
    ///
    /// # Errors
    /// [`ReduceError::GroupByPanicked`]; none of the items counts then.
    pub fn push(&mut self, items: &[Item<'_>]) -> Result<Output<'_>, ReduceError> {
        self.group_by.prepare(items)?;
        self.begin();
        let Self {
            group_by,
            store,
            rules,
            machine,
            keys,
            types,
            recent_types,
            workflows,
            totals,
            changes,
            dropped,
            ..
        } = self;
        for (index, item) in items.iter().enumerate() {
            let key = group_by.of(index, item);
            // Where it belongs is asked first: nothing of an item that is dropped may count.
            let Some((timing, place)) = store.place(key, item.created_at.as_micros(), rules, keys) else {
                dropped.push(index);
                continue;
            };
            totals.late_accepted += u64::from(timing == Timing::Late);
            let content_type = recent_types.find(item.content_type, || types.intern(item.content_type).0);
            let workflow =
                workflows.observe(item.workflow_id, item.workflow_state, machine, self.max_workflows, changes);
            store.add(place, workflows.row(workflow, item.file_size, content_type), timing, rules, changes);
        }
        store.report(changes);
        totals.items += items.len() as u64;
        totals.dropped_late += dropped.len() as u64;
        totals.on_time = totals.items - totals.late_accepted - totals.dropped_late;
        Ok(self.output())
    }

    /// Says that no more items from before `to` are expected: fires the panes of windows that end by then, and drops those whose lateness is
    /// over. A watermark does not go back; an earlier one changes nothing.
    pub fn advance_watermark(&mut self, to: Timestamp) -> Output<'_> {
        self.begin();
        self.advance(to.as_micros());
        self.output()
    }

    fn advance(&mut self, to: i64) {
        let before = self.rules.watermark;
        if to <= before {
            return;
        }
        self.rules.watermark = to;
        match &mut self.store {
            Store::Global(_) | Store::Count(_) => {}
            Store::Slices(slices) => slices.advance(before, &self.rules, &mut self.changes),
            Store::Sessions(sessions) => sessions.advance(&self.rules, &mut self.changes),
        }
    }

    /// Says that no more items come: fires all that is open, a count window that is not full among them.
    pub fn finish(&mut self) -> Output<'_> {
        self.begin();
        let fired = match &mut self.store {
            Store::Global(pane) if !pane.groups.is_empty() => {
                Some(Fired { window: Window::Global, firing: Firing::OnTime, pane: std::mem::take(pane) })
            }
            Store::Count(count) if count.items > 0 => Some(count.close()),
            Store::Global(_) | Store::Count(_) => None,
            Store::Slices(_) | Store::Sessions(_) => {
                self.advance(i64::MAX);
                None
            }
        };
        self.changes.fired.extend(fired);
        self.output()
    }

    /// Takes over states of workflows that are known elsewhere, the answer to
    /// [`Intent::RecoverFsmStates`](super::Intent::RecoverFsmStates). A workflow that has a state by now keeps it. Returns how many were
    /// taken.
    ///
    /// # Errors
    /// [`ReduceError::UnknownState`]; none was taken.
    pub fn recover<'s>(&mut self, states: impl IntoIterator<Item = (&'s str, &'s str)>) -> Result<usize, ReduceError> {
        let known = |(workflow, name): (&'s str, &str)| {
            let state = self.machine.state(name).ok_or_else(|| ReduceError::UnknownState(name.to_owned()))?;
            Ok((workflow, state))
        };
        let states: Vec<_> = states.into_iter().map(known).collect::<Result<_, _>>()?;
        let taken = states.iter().filter(|(workflow, state)| self.workflows.recover(workflow, *state, &self.machine));
        Ok(taken.count())
    }

    /// What became of all items.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// What became of the states that items reported.
    #[must_use]
    pub fn workflow_counts(&self) -> WorkflowCounts {
        self.workflows.counts
    }

    /// The state of a workflow, as its machine writes it; `None` if it is not tracked.
    #[must_use]
    pub fn workflow_state(&self, workflow: &str) -> Option<&str> {
        self.workflows.state(workflow).map(|state| self.machine.state_name(state))
    }

    /// Workflows that are tracked in a state that is not terminal.
    #[must_use]
    pub fn active_workflows(&self) -> usize {
        self.workflows.active()
    }

    /// Workflows that are known, those in a terminal state among them.
    #[must_use]
    pub fn known_workflows(&self) -> usize {
        self.workflows.ids.len()
    }

    /// The watermark; `None` before the first.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        (self.rules.watermark != i64::MIN).then(|| Timestamp::from_micros(self.rules.watermark))
    }

    /// The panes that are open, as they are. Of sliding windows these are the slices; sessions are one pane each.
    ///
    /// Cost: one allocation.
    #[must_use]
    pub fn open<'v>(&'v self) -> Vec<PaneView<'v>> {
        let view = |window, groups: &'v [Group]| PaneView { reducer: self, window, firing: None, groups };
        match &self.store {
            Store::Global(pane) => vec![view(Window::Global, &pane.groups)],
            Store::Count(count) => vec![view(count.window(), &count.pane.groups)],
            Store::Slices(slices) => slices.open().map(|(window, pane)| view(window, &pane.groups)).collect(),
            Store::Sessions(sessions) => sessions
                .iter()
                .map(|(start, session)| {
                    view(Window::Time { start, end: session.end }, std::slice::from_ref(&session.group))
                })
                .collect(),
        }
    }

    fn begin(&mut self) {
        self.rules.call += 1;
        self.changes.clear();
        self.dropped.clear();
        self.changes.recover = !std::mem::replace(&mut self.is_recovered, true);
        if self.workflows.ids.len() + self.types.len() + self.keys.len() >= self.forget_at {
            self.forget();
        }
    }

    fn output(&mut self) -> Output<'_> {
        self.totals.panes += self.changes.fired.len() as u64;
        Output { reducer: self }
    }

    /// Forgets texts that no open window has. Called each time that their number has doubled.
    fn forget(&mut self) {
        if !matches!(self.store, Store::Global(_)) {
            let mut keys = vec![false; self.keys.len()];
            let mut types = vec![false; self.types.len()];
            let mut workflows = vec![false; self.workflows.ids.len()];
            self.store.each_group(|group| {
                keys[group.key as usize] = true;
                group.summary.types.ids().iter().for_each(|id| types[*id as usize] = true);
                group.summary.workflows.ids().iter().for_each(|id| workflows[*id as usize] = true);
            });
            let keys = self.keys.retain(&keys);
            let types = self.types.retain(&types);
            self.recent_types = Recent::default();
            let workflows = self.workflows.retain(workflows, &self.machine);
            self.store.renumber(&keys, &types, &workflows);
        }
        let kept = self.workflows.ids.len() + self.types.len() + self.keys.len();
        self.forget_at = (2 * kept).max(LEAST_FORGET);
    }
}
