//! The same groups by hand, with hashbrown and foldhash: what a good engineer writes in forty lines. Measured in the same run.

use bridge_orchestrator::reduce::Item;
use foldhash::fast::RandomState;
use hashbrown::hash_map::EntryRef;
use hashbrown::{HashMap, HashSet};

#[derive(Debug, Default)]
pub(crate) struct ByHand {
    pub(crate) groups: HashMap<String, Sum, RandomState>,
    /// Workflow and state.
    states: HashMap<String, &'static str, RandomState>,
    pub(crate) transitions: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Sum {
    pub(crate) count: u64,
    pub(crate) bytes: i128,
    pub(crate) types: HashSet<String, RandomState>,
    pub(crate) workflows: HashSet<String, RandomState>,
}

impl ByHand {
    pub(crate) fn push(&mut self, items: &[Item<'_>]) {
        for item in items {
            let group = self.groups.entry_ref(item.namespace).or_default();
            group.count += 1;
            group.bytes += i128::from(item.file_size);
            group.types.get_or_insert_with(item.content_type, |text| text.to_owned());
            group.workflows.get_or_insert_with(item.workflow_id, |text| text.to_owned());
            let Some(to) = state(item.workflow_state) else { continue };
            match self.states.entry_ref(item.workflow_id) {
                EntryRef::Vacant(unknown) => {
                    unknown.insert(to);
                    self.transitions += 1;
                }
                EntryRef::Occupied(mut known) => {
                    if is_legal(known.get(), to) {
                        known.insert(to);
                        self.transitions += 1;
                    }
                }
            }
        }
    }
}

fn state(name: &str) -> Option<&'static str> {
    ["PENDING", "PROCESSING", "COMPLETED", "FAILED"].into_iter().find(|state| state.eq_ignore_ascii_case(name))
}

fn is_legal(from: &str, to: &str) -> bool {
    matches!((from, to), ("PENDING", "PROCESSING" | "FAILED") | ("PROCESSING", "COMPLETED" | "FAILED"))
}
