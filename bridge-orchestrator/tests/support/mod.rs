//! Items for the tests of the reducer.

use bridge_orchestrator::reduce::{Item, Timestamp};

/// An item of which a test says what matters to it.
pub(crate) fn item<'a>(namespace: &'a str, workflow_id: &'a str, workflow_state: &'a str) -> Item<'a> {
    Item {
        stamp_id: "stamp",
        file_hash: "hash",
        file_path: "/in/file",
        file_size: 1,
        namespace,
        content_type: "text/plain",
        workflow_id,
        workflow_state,
        created_at: Timestamp::from_micros(0),
    }
}

/// The same item at another time.
#[allow(dead_code, reason = "not every test has times")]
pub(crate) fn at(micros: i64, item: Item<'_>) -> Item<'_> {
    Item { created_at: Timestamp::from_micros(micros), ..item }
}
