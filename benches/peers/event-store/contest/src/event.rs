//! The events that all contenders store.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes of a payload.
pub const PAYLOAD: usize = 256;
/// What every byte of a payload is.
pub const PAYLOAD_BYTE: u8 = 0x5a;

/// An event as a caller has it: everything given, nothing left for the store to make up.
///
/// Names and payload are shared, so that a store which clones its events copies handles and no bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unique among the events of a store.
    pub id: Uuid,
    /// The type's name.
    pub event_type: Arc<str>,
    /// The one tag.
    pub tag: Arc<str>,
    /// Microseconds since 1970.
    pub time: i64,
    /// [`PAYLOAD`] bytes of its own.
    pub payload: Bytes,
}

/// Makes events whose ids never repeat.
#[derive(Debug)]
pub struct EventSource {
    event_type: Arc<str>,
    tag: Arc<str>,
    next_id: u128,
}

impl Default for EventSource {
    fn default() -> Self {
        Self::for_thread(0)
    }
}

impl EventSource {
    /// A source whose ids no other thread's source makes.
    #[must_use]
    pub fn for_thread(thread: u64) -> Self {
        Self { event_type: "OrderPlaced".into(), tag: "customer:4711".into(), next_id: 1 + (u128::from(thread) << 64) }
    }

    /// The next events; ids are spread over all bits, as random ids are.
    pub fn events(&mut self, count: u64) -> Vec<Event> {
        (0..count).map(|_| self.event()).collect()
    }

    fn event(&mut self) -> Event {
        let id = self.next_id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.next_id += 1;
        Event {
            id: Uuid::from_u128(id),
            event_type: Arc::clone(&self.event_type),
            tag: Arc::clone(&self.tag),
            time: 1_700_000_000_000_000,
            payload: Bytes::copy_from_slice(&[PAYLOAD_BYTE; PAYLOAD]),
        }
    }
}
