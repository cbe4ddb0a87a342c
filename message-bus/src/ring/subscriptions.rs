//! Who subscribes need not be who publishes.

use std::fmt;

use super::error::CapacityError;
use super::lossy::{Loss, Lossy, LossySubscriber};
use super::slots::{Cursor, LossyCursor, Pressure, Slots};
use super::subscriber::Subscriber;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Subscribes to a ring, from any thread, while publishers are at work. Clones subscribe to the same ring.
///
/// It does not keep the ring open: a subscriber of a ring whose publishers are gone sees the end at once.
pub struct Subscriptions<T> {
    slots: Arc<Slots<T>>,
    abandoned: Arc<AtomicU64>,
}

impl<T> Subscriptions<T> {
    pub(super) fn new(slots: Arc<Slots<T>>, abandoned: Arc<AtomicU64>) -> Self {
        Self { slots, abandoned }
    }

    /// A subscriber that gets everything published from now on. It may fall behind by the ring's capacity; then publishers wait.
    pub fn subscribe(&self) -> Subscriber<T> {
        self.gated(self.slots.capacity(), Pressure::Block)
    }

    /// A subscriber that gets everything published from now on. When it has fallen behind by `capacity`, `pressure` says what
    /// publishers do. What is published at this very moment may overrun that capacity, never the ring's.
    ///
    /// # Errors
    /// [`CapacityError::Subscriber`] for a capacity of 0 or above the ring's.
    pub fn subscribe_with(&self, capacity: usize, pressure: Pressure) -> Result<Subscriber<T>, CapacityError> {
        let capacity = self.checked(capacity)?;
        Ok(self.gated(capacity as u64, pressure))
    }

    fn gated(&self, capacity: u64, pressure: Pressure) -> Subscriber<T> {
        let gate = self.slots.subscribe(capacity, pressure, None);
        Subscriber::new(Cursor::new(Arc::clone(&self.slots), gate), Arc::clone(&self.abandoned))
    }

    /// A subscriber that never makes publishers wait: when more than `capacity` messages wait for it, it loses some.
    ///
    /// Its messages are clones, made by itself or, when the ring is full, by a publisher, under a lock: `T` should be something like
    /// an [`Arc`](std::sync::Arc), and neither its `clone` nor a conflation key may use this ring. A message whose `clone` or key panics is lost, and counted.
    ///
    /// # Errors
    /// [`CapacityError::Subscriber`] for a capacity of 0 or above the ring's.
    pub fn subscribe_lossy(&self, capacity: usize, loss: Loss<T>) -> Result<LossySubscriber<T>, CapacityError>
    where
        T: Clone,
    {
        let capacity = self.checked(capacity)?;
        let lossy = Lossy::new(loss, capacity);
        let gate = self.slots.subscribe(capacity as u64, Pressure::Block, Some(lossy));
        Ok(LossySubscriber::new(LossyCursor::new(Arc::clone(&self.slots), gate), Arc::clone(&self.abandoned)))
    }

    fn checked(&self, asked: usize) -> Result<usize, CapacityError> {
        let ring = self.slots.capacity() as usize;
        if asked == 0 || asked > ring { Err(CapacityError::Subscriber { asked, ring }) } else { Ok(asked) }
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.slots.subscribers()
    }

    /// Messages that subscribers had yet to read when they were dropped.
    pub fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Acquire)
    }
}

impl<T> Clone for Subscriptions<T> {
    fn clone(&self) -> Self {
        Self { slots: Arc::clone(&self.slots), abandoned: Arc::clone(&self.abandoned) }
    }
}

impl<T> fmt::Debug for Subscriptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriptions").field("subscribers", &self.subscribers()).finish_non_exhaustive()
    }
}
