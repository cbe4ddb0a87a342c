//! Which memories belong together.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Names of incidents, and their memories.
#[derive(Debug, Default)]
pub(crate) struct Incidents {
    numbers: HashMap<Arc<str>, u32>,
    /// By number.
    members: HashMap<u32, Members>,
    last: u32,
}

#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) name: Arc<str>,
    /// In the order in which they were written.
    pub(crate) ids: BTreeSet<u64>,
}

impl Incidents {
    /// The number of an incident, above 0, which is given if it has none.
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        self.last += 1;
        let name: Arc<str> = name.into();
        self.numbers.insert(Arc::clone(&name), self.last);
        self.members.insert(self.last, Members { name, ids: BTreeSet::new() });
        self.last
    }

    /// All names, with their numbers.
    pub(crate) fn names(&self) -> Vec<(u32, Arc<str>)> {
        self.members.iter().map(|(&number, members)| (number, Arc::clone(&members.name))).collect()
    }

    /// Takes over names, as they were, without members.
    pub(crate) fn restore(&mut self, names: Vec<(u32, String)>) {
        for (number, name) in names {
            let name: Arc<str> = name.into();
            self.last = self.last.max(number);
            self.numbers.insert(Arc::clone(&name), number);
            self.members.insert(number, Members { name, ids: BTreeSet::new() });
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn members(&self, number: u32) -> Option<&Members> {
        self.members.get(&number)
    }

    pub(crate) fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.members.get(&number).map(|members| &members.name)
    }

    /// Puts a memory, which belongs to `from` or, if that is 0, to none, into the incident of this name. The number of that.
    pub(crate) fn assign(&mut self, id: u64, from: u32, name: &str) -> u32 {
        let number = self.number(name);
        if number != from {
            self.remove(from, id);
            self.add(number, id);
        }
        number
    }

    pub(crate) fn add(&mut self, number: u32, id: u64) {
        if let Some(members) = self.members.get_mut(&number) {
            members.ids.insert(id);
        }
    }

    /// Forgets a memory, and its incident with the last of them.
    pub(crate) fn remove(&mut self, number: u32, id: u64) {
        let Some(members) = self.members.get_mut(&number) else { return };
        members.ids.remove(&id);
        if members.ids.is_empty() {
            let name = Arc::clone(&members.name);
            self.members.remove(&number);
            self.numbers.remove(&name);
        }
    }
}
