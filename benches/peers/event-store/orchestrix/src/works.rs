//! The works as the script gets them, and what they should come to.

use event_store_contest::{EVENTS_A_ROUND, LARGE_STORE, PAYLOAD, PAYLOAD_BYTE, Work, expected_visit, loads_a_round};
use orchestrix::Outcome;
use serde_json::{Value, json};

/// What the script is told.
pub(crate) fn arguments(work: Work) -> Value {
    let mut arguments = match work {
        Work::Save { batch } | Work::SaveFromEvents { batch } => {
            json!({ "kind": "save", "batch": batch, "ops_a_round": EVENTS_A_ROUND.div_ceil(batch) })
        }
        Work::Load { events } => json!({ "kind": "load", "events": events, "ops_a_round": loads_a_round(events) }),
        Work::LoadOwned { events } | Work::LoadRecorded { events } => {
            json!({ "kind": "load-owned", "events": events, "ops_a_round": 1 })
        }
        Work::Concurrent => unreachable!("not among the works of this contender"),
    };
    arguments["large_store"] = LARGE_STORE.into();
    arguments["payload"] = json!({ "length": PAYLOAD, "byte": PAYLOAD_BYTE });
    arguments
}

/// What the operations of an outcome should have produced. Its details are the calls that each store took before it was replaced.
pub(crate) fn expected(work: Work, outcome: &Outcome<Vec<u64>>) -> u64 {
    match work {
        Work::Save { batch } | Work::SaveFromEvents { batch } => {
            let stored = |events: u64| events * content() + (0..events).sum::<u64>();
            let of_store = |calls: &u64| if batch == 1 { stored(*calls) } else { calls * stored(batch) };
            let proved: u64 = outcome.details.iter().sum();
            // Calls that no store accounts for count as missing.
            outcome.details.iter().map(of_store).sum::<u64>() + (outcome.operations - proved)
        }
        Work::Load { events } => expected_visit(events) * outcome.operations,
        Work::LoadOwned { events } | Work::LoadRecorded { events } => {
            outcome.operations * events * (1 + PAYLOAD as u64)
        }
        Work::Concurrent => 0,
    }
}

/// One for the event, and its bytes.
fn content() -> u64 {
    1 + u64::from(PAYLOAD_BYTE) * PAYLOAD as u64
}
