//! The state of each workflow: legal transitions alone change it.

use super::changes::{Changes, Transition};
use super::intern::Interner;
use super::recent::Recent;
use super::summary::Row;
use crate::fsm::{Machine, StateId};

#[derive(Debug, Clone, Default)]
pub(super) struct Workflows {
    pub(super) ids: Interner,
    /// By the number of the workflow; `None` for one that is not tracked.
    states: Vec<Option<StateId>>,
    /// The serial of the summary that had the last item of each.
    seen_by: Vec<u64>,
    serials: u64,
    recent: Recent<Option<StateId>>,
    active: usize,
    pub(super) counts: WorkflowCounts,
}

/// What became of the states that items reported. Every item that was not dropped is in one of the first five.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct WorkflowCounts {
    /// First sight of a workflow: its state was taken as it was reported.
    pub adopted: u64,
    /// Legal transitions, which were applied.
    pub applied: u64,
    /// The state that the workflow is in already.
    pub unchanged: u64,
    /// Transitions that the machine does not have; the state stayed.
    pub refused: u64,
    /// Names that are no state of the machine, and workflows beyond the bound of active ones.
    pub untracked: u64,
    /// Workflows forgotten in a terminal state, once no open window spoke of them.
    pub evicted_terminal: u64,
}

impl Workflows {
    /// The number of the workflow, whose state is then observed.
    #[inline]
    pub(super) fn observe<C>(
        &mut self,
        workflow: &str,
        state: &str,
        machine: &Machine<C>,
        most: usize,
        changes: &mut Changes,
    ) -> u32 {
        let id = self.intern(workflow);
        let Some(to) = self.recent.find(state, || machine.state(state)) else {
            self.counts.untracked += 1;
            return id;
        };
        let from = self.states[id as usize];
        match from {
            Some(from) if from == to => self.counts.unchanged += 1,
            Some(from) if machine.allows(from, to) => {
                self.counts.applied += 1;
                self.set(id, to, machine);
                changes.transitions.push(Transition { workflow: id, from: Some(from), to });
            }
            Some(_) => self.counts.refused += 1,
            None if self.active >= most && !machine.is_terminal(to) => self.counts.untracked += 1,
            None => {
                self.counts.adopted += 1;
                self.set(id, to, machine);
                changes.transitions.push(Transition { workflow: id, from: None, to });
            }
        }
        id
    }

    #[inline]
    fn intern(&mut self, workflow: &str) -> u32 {
        let (id, is_new) = self.ids.intern(workflow);
        if is_new {
            self.states.push(None);
            self.seen_by.push(0);
        }
        id
    }

    /// The row of an item of workflow `id`.
    #[inline]
    pub(super) fn row(&mut self, id: u32, bytes: u64, content_type: u32) -> Row<'_> {
        let (last_seen_by, serials) = (&mut self.seen_by[id as usize], &mut self.serials);
        Row { bytes, content_type, workflow: id, last_seen_by, serials }
    }

    #[inline]
    fn set<C>(&mut self, id: u32, to: StateId, machine: &Machine<C>) {
        let slot = &mut self.states[id as usize];
        let was_active = slot.is_some_and(|state| !machine.is_terminal(state));
        *slot = Some(to);
        self.active += usize::from(!machine.is_terminal(to));
        self.active -= usize::from(was_active);
    }

    /// Takes over a state that is known from elsewhere, unless the workflow has one by now. Whether it was taken.
    pub(super) fn recover<C>(&mut self, workflow: &str, state: StateId, machine: &Machine<C>) -> bool {
        let id = self.intern(workflow);
        let is_unknown = self.states[id as usize].is_none();
        if is_unknown {
            self.set(id, state, machine);
        }
        is_unknown
    }

    pub(super) fn state(&self, workflow: &str) -> Option<StateId> {
        let id = self.ids.find(workflow)?;
        self.states[id as usize]
    }

    pub(super) fn state_of(&self, id: u32) -> Option<StateId> {
        self.states[id as usize]
    }

    /// Tracked workflows that are not in a terminal state.
    pub(super) fn active(&self) -> usize {
        self.active
    }

    /// Forgets the workflows that no open window speaks of (`used`), but for those that are active. Returns the new numbers.
    pub(super) fn retain<C>(&mut self, mut used: Vec<bool>, machine: &Machine<C>) -> Vec<u32> {
        for (used, state) in used.iter_mut().zip(&self.states) {
            match state {
                Some(state) if !machine.is_terminal(*state) => *used = true,
                Some(_) if !*used => self.counts.evicted_terminal += 1,
                _ => {}
            }
        }
        let numbers = self.ids.retain(&used);
        let mut each = used.iter();
        self.states.retain(|_| *each.next().expect("one for each"));
        let mut each = used.iter();
        self.seen_by.retain(|_| *each.next().expect("one for each"));
        numbers
    }

    /// All texts with their states, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<StateId>)> {
        self.ids.iter().zip(self.states.iter().copied())
    }

    /// The number of a workflow whose state another part of the items tells. It counts if it is reached from the one known here.
    pub(super) fn join<C>(&mut self, workflow: &str, state: Option<StateId>, machine: &Machine<C>) -> u32 {
        let id = self.intern(workflow);
        if let Some(state) = state
            && self.states[id as usize].is_none_or(|known| is_reached(known, state, machine))
        {
            self.set(id, state, machine);
        }
        id
    }
}

fn is_reached<C>(from: StateId, to: StateId, machine: &Machine<C>) -> bool {
    let mut reached = vec![from];
    let mut looked_at = 0;
    while let Some(&state) = reached.get(looked_at) {
        if state == to {
            return true;
        }
        looked_at += 1;
        let next: Vec<StateId> =
            machine.states().filter(|next| machine.allows(state, *next) && !reached.contains(next)).collect();
        reached.extend(next);
    }
    false
}
