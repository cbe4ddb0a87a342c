//! What one call changed: kept as numbers until the next one.

use std::ops::Range;

use super::summary::Pane;
use super::window::{Firing, Window};
use crate::fsm::StateId;

#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) recover: bool,
    pub(super) transitions: Vec<Transition>,
    pub(super) deltas: Vec<Delta>,
    pub(super) fired: Vec<Fired>,
    ids: Vec<u32>,
    windows: Vec<Window>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Transition {
    pub(super) workflow: u32,
    pub(super) from: Option<StateId>,
    pub(super) to: StateId,
}

/// What was added to a group.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    pub(super) window: Window,
    pub(super) key: u32,
    pub(super) count: u64,
    pub(super) bytes: i128,
    pub(super) types: Range<usize>,
    pub(super) workflows: Range<usize>,
    pub(super) replaces: Range<usize>,
}

#[derive(Debug)]
pub(super) struct Fired {
    pub(super) window: Window,
    pub(super) firing: Firing,
    pub(super) pane: Pane,
}

impl Changes {
    pub(super) fn clear(&mut self) {
        self.recover = false;
        self.transitions.clear();
        self.deltas.clear();
        self.fired.clear();
        self.ids.clear();
        self.windows.clear();
    }

    pub(super) fn keep_ids(&mut self, ids: &[u32]) -> Range<usize> {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        start..self.ids.len()
    }

    pub(super) fn keep_windows(&mut self, windows: &[Window]) -> Range<usize> {
        let start = self.windows.len();
        self.windows.extend_from_slice(windows);
        start..self.windows.len()
    }

    pub(super) fn ids(&self, range: &Range<usize>) -> &[u32] {
        &self.ids[range.clone()]
    }

    pub(super) fn windows(&self, range: &Range<usize>) -> &[Window] {
        &self.windows[range.clone()]
    }
}
