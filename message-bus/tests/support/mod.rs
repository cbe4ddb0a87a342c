//! Messages and recorders that several tests use.
#![allow(dead_code, reason = "each test uses some of it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use message_bus::{QueueStats, event};

/// Not `Clone`: the bus never needs it.
#[derive(Debug, PartialEq)]
pub(crate) struct Order(pub(crate) u64);
event!(Order, "test.order");

#[derive(Debug, PartialEq)]
pub(crate) struct Payment(pub(crate) u64);
event!(Payment, "test.payment");

/// The customer is the key.
#[derive(Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) customer: u64,
    pub(crate) number: u64,
}
event!(Step, "test.step", key = |step| step.customer);

/// What handlers were called with, in order.
#[derive(Clone, Debug)]
pub(crate) struct Calls<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Calls<T> {
    pub(crate) fn add(&self, call: T) {
        self.0.lock().expect("no panic under this lock").push(call);
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().expect("no panic under this lock").clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().expect("no panic under this lock").len()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("out of {0}")]
pub(crate) struct OutOf(pub(crate) &'static str);

/// Waits until something holds, which it will.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < limit, "this was to become true");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Published = delivered + dropped + dead-lettered + abandoned.
pub(crate) fn balanced(stats: QueueStats, published: u64) {
    assert_eq!(stats.total(), published, "{stats:?}");
}
