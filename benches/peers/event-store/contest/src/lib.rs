//! The works that event stores are compared by, defined once: every [`Contender`] does the same with the same events.
//!
//! A contender is a binary of its own whose `main` is [`suite`]; its benchmarks are `peers/event-store/<work>/<peer>`. What a
//! caller would have at hand is built outside the timing, in rounds of about [`EVENTS_A_ROUND`] events that are still in the cache
//! when their turn comes; a store that grows takes [`LARGE_STORE`] events and is then replaced, also outside the timing.

mod concurrent;
mod contender;
mod event;
mod load;
mod proof;
mod save;
mod work;

pub use contender::{Contender, Seen};
pub use event::{Event, EventSource, PAYLOAD, PAYLOAD_BYTE};
pub use proof::expected_visit;
pub use work::{Work, works};

use harness::Suite;

/// Events that are built ahead of a round.
pub const EVENTS_A_ROUND: u64 = 512;
/// Events of a store that is replaced before it takes more: 4 MB of payload.
pub const LARGE_STORE: u64 = 16_384;
/// Events that one round of loads visits at least.
pub const VISITS_A_ROUND: u64 = 20_000;
/// Loads of one round at most.
pub const LOADS_A_ROUND: u64 = 1_000;

/// The benchmarks of one contender; `peer` is the last part of their ids. Works that it cannot do are not in the suite.
#[must_use]
pub fn suite<C: Contender>(peer: &str) -> Suite {
    let shares = C::default().handle().is_some();
    let done = works().into_iter().filter(|work| shares || !matches!(work, Work::Concurrent));
    done.fold(Suite::new(), |suite, work| {
        suite.bench(work.id(peer), move |bench| {
            bench.note(C::NOTE);
            C::hushed(|| match work {
                Work::Save { batch } => save::measure::<C>(bench, batch),
                Work::SaveFromEvents { batch } => save::measure::<C::ByValue>(bench, batch),
                Work::Load { events } => load::measure::<C>(bench, events),
                Work::LoadOwned { events } => load::measure_owned::<C>(bench, events),
                Work::LoadRecorded { events } => load::measure_owned::<C::ByValue>(bench, events),
                Work::Concurrent => concurrent::measure::<C>(bench),
            })
        })
    })
}

/// Loads in one round of loads of `events` events each.
#[must_use]
pub fn loads_a_round(events: u64) -> u64 {
    (VISITS_A_ROUND / events).clamp(1, LOADS_A_ROUND)
}
