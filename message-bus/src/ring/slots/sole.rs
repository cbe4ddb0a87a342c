//! A ring with one publisher.

use std::fmt;

use super::Slots;
use crate::ring::error::{CapacityError, PublishError, Refused};
use crate::ring::multicast::{Multicast, slots_for};
use crate::ring::subscriptions::Subscriptions;

/// The one publisher of a ring: like a [`Multicast`] that cannot be cloned and publishes by `&mut`.
///
/// It has nobody to agree with on who writes where: no compare-exchange a message, and messages without a number of 8 bytes beside each.
/// Everything else is as in a [`Multicast`]: the subscribers, their [`Pressure`](crate::ring::Pressure) and
/// [`Loss`](crate::ring::Loss), the order, and that the ring is closed when it is dropped. Room cannot be set aside: there is nobody
/// to set it aside from.
///
/// ```
/// use message_bus::ring::SolePublisher;
///
/// let (mut prices, feed) = SolePublisher::new(1024)?;
/// let mut subscriber = feed.subscribe();
/// let reader = std::thread::spawn(move || {
///     let mut sum = 0;
///     while let Some(price) = subscriber.next_blocking() {
///         sum += *price;
///     }
///     sum
/// });
/// for price in 1..=10 {
///     prices.publish_blocking(price)?;
/// }
/// drop(prices);
/// assert_eq!(reader.join().expect("no panic"), 55);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Cancellation
/// A publish that waits has published nothing when it is dropped. It must not be leaked (`mem::forget`): no later one would be woken.
///
/// # Performance
/// A publish is the move of the message, a store and, unless nobody has slept for long, a full fence. Nothing is allocated, save for
/// lossy subscribers. The cost does not depend on the number of subscribers, but once a capacity, when their cursors are read.
pub struct SolePublisher<T> {
    ring: Multicast<T>,
}

impl<T> SolePublisher<T> {
    /// The publisher of a ring of at least `capacity` messages, the next power of two, and what subscribes to it. All of the ring's memory
    /// is taken here.
    ///
    /// # Errors
    /// [`CapacityError::Ring`] for less than 1 or more than 2³².
    pub fn new(capacity: usize) -> Result<(Self, Subscriptions<T>), CapacityError> {
        let capacity = slots_for(capacity)?;
        // SAFETY: the ring's publishing side stays in this value, and is used through `&mut self` alone.
        let ring = Multicast::of(unsafe { Slots::for_one(capacity) });
        let subscriptions = ring.subscriptions();
        Ok((Self { ring }, subscriptions))
    }

    /// How many messages the ring holds.
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Messages published so far.
    pub fn published(&self) -> u64 {
        self.ring.published()
    }

    /// Subscribes to this ring.
    pub fn subscriptions(&self) -> Subscriptions<T> {
        self.ring.subscriptions()
    }

    /// True after [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }

    /// Refuses everything from now on. Subscribers read what was published and then see the end.
    pub fn close(&mut self) {
        self.ring.close();
    }

    /// Publishes if there is room now. Returns the message's position: the number of messages published before it.
    ///
    /// # Errors
    /// [`Refused::Full`] or [`Refused::Closed`], with the message.
    #[inline(always)]
    pub fn try_publish(&mut self, message: T) -> Result<u64, PublishError<T>> {
        self.ring.try_publish(message)
    }

    /// Publishes all `messages` under consecutive positions, or none, if there is room now; the vector is then empty and keeps its
    /// memory. Returns the position of the first.
    ///
    /// # Errors
    /// [`Refused::Full`], [`Refused::Closed`] or [`Refused::TooLarge`]; the vector is as it was.
    #[inline]
    pub fn try_publish_all(&mut self, messages: &mut Vec<T>) -> Result<u64, Refused> {
        self.ring.try_publish_all(messages)
    }

    /// Publishes when there is room; waits as long as the subscribers' [`Pressure`](crate::ring::Pressure) says. Returns the
    /// message's position.
    ///
    /// A subscriber with `Pressure::BlockTimeout` needs a tokio runtime with a timer here; nothing else needs a runtime.
    ///
    /// # Errors
    /// Any [`Refused`] but `TooLarge`, with the message.
    #[inline]
    pub fn publish(&mut self, message: T) -> impl Future<Output = Result<u64, PublishError<T>>> {
        self.ring.publish(message)
    }

    /// Publishes all `messages` under consecutive positions, or none, when there is room; the vector is then empty and keeps its
    /// memory. Returns the position of the first.
    ///
    /// # Errors
    /// Any [`Refused`]; the vector is as it was.
    #[inline]
    pub fn publish_all(&mut self, messages: &mut Vec<T>) -> impl Future<Output = Result<u64, Refused>> {
        self.ring.publish_all(messages)
    }

    /// Publishes when there is room; the thread sleeps until then.
    ///
    /// Not for threads that run async tasks.
    ///
    /// # Errors
    /// Any [`Refused`] but `TooLarge`, with the message.
    #[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
    pub fn publish_blocking(&mut self, message: T) -> Result<u64, PublishError<T>> {
        self.ring.publish_blocking(message)
    }

    /// [`publish_all`](Self::publish_all) on a thread that may sleep.
    ///
    /// # Errors
    /// Any [`Refused`]; the vector is as it was.
    #[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
    pub fn publish_all_blocking(&mut self, messages: &mut Vec<T>) -> Result<u64, Refused> {
        self.ring.publish_all_blocking(messages)
    }

    /// Drops messages that every subscriber has read. Otherwise a message lives in the ring until it is overwritten, a capacity later.
    /// Returns how many.
    pub fn trim(&mut self) -> usize {
        self.ring.trim()
    }
}

impl<T> fmt::Debug for SolePublisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SolePublisher")
            .field("capacity", &self.capacity())
            .field("published", &self.published())
            .finish_non_exhaustive()
    }
}
