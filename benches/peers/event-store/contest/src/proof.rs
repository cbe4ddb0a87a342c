//! Evidence that a work was done, gathered outside the timing.

use harness::Bench;

use crate::{Contender, PAYLOAD, PAYLOAD_BYTE, Seen};

/// What the calls should have produced, and what they did.
#[derive(Default)]
pub(crate) struct Tally {
    expected: u64,
    observed: u64,
}

impl Tally {
    pub(crate) fn expect(&mut self, sum: u64) {
        self.expected = self.expected.wrapping_add(sum);
    }

    pub(crate) fn observe(&mut self, sum: u64) {
        self.observed = self.observed.wrapping_add(sum);
    }

    /// `stream` must hold `events` events with their versions and every byte of their payloads.
    pub(crate) fn check_stream<C: Contender>(&mut self, store: &mut C, stream: &str, events: u64) {
        self.expect(events * (1 + u64::from(PAYLOAD_BYTE) * PAYLOAD as u64) + (0..events).sum::<u64>());
        let mut found = 0_u64;
        store.visit(&C::load_call(stream), 1, |seen| {
            found += 1 + seen.version + seen.payload.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        });
        self.observe(found);
    }

    pub(crate) fn state(&self, bench: &mut Bench) {
        bench.proof(self.expected, self.observed);
    }
}

/// What a visitor adds up for one event.
pub(crate) fn visited(seen: Seen<'_>) -> u64 {
    seen.position + seen.version + seen.payload.len() as u64
}

/// What a visit of a stream of `events` events that is alone in its store adds up.
#[must_use]
pub fn expected_visit(events: u64) -> u64 {
    (0..events).map(|version| (version + 1) + version + PAYLOAD as u64).sum()
}
