//! Evidence that every consumer got every message, gathered outside the timing.

use harness::Bench;

use crate::{Checksum, Flow};

/// What the consumers of all rounds should have added up, and what they did.
pub(crate) struct Tally {
    consumers: usize,
    of_one: u64,
    expected: u64,
    observed: u64,
    disordered: u64,
}

impl Tally {
    pub(crate) fn new(flow: Flow, consumers: usize) -> Self {
        Self { consumers, of_one: Checksum::of_first(flow.messages), expected: 0, observed: 0, disordered: 0 }
    }

    /// Adds one round.
    pub(crate) fn add<'a>(&mut self, checksums: impl Iterator<Item = &'a Checksum>) {
        self.expected += self.of_one * self.consumers as u64;
        for checksum in checksums {
            match checksum.in_order() {
                Some(sum) => self.observed += sum,
                None => self.disordered += 1,
            }
        }
    }

    pub(crate) fn state(&self, bench: &mut Bench) {
        let observed = match self.disordered {
            0 => self.observed.to_string(),
            consumers => format!("{} and {consumers} consumers out of order", self.observed),
        };
        bench.proof(self.expected, observed);
    }
}
