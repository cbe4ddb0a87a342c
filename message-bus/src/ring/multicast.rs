//! The publishing side.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::error::{CapacityError, PublishError, Refused};
use super::lossy::{Loss, LossySubscriber};
use super::slots::{Pressure, Refusal, Slots};
use super::subscriber::Subscriber;
use super::subscriptions::Subscriptions;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Ordering};

/// A bounded ring that any number of publishers write and any number of subscribers read.
///
/// Clones publish to the same ring. When the last one is dropped, the ring is closed: subscribers read what is left and then see the
/// end. A publish with no subscriber is accepted and reaches nobody.
///
/// # Order
/// One order for all: positions are claimed one after the other, and every subscriber reads in that order.
///
/// # Cancellation
/// A publish that waits has claimed nothing: dropped, it has published nothing. It holds a place in the line of those that wait: leaked, and
/// never dropped (`mem::forget`), it keeps the others waiting.
///
/// # Performance
/// A publish is one compare-exchange, the move of the message, a store and, unless nobody has slept for long, a full fence; a batch pays
/// the first and the last once. Nothing is allocated. The cost does not depend on the number of subscribers, but once a capacity, when their
/// cursors are read. Where there is but one publisher, [`SolePublisher`](super::SolePublisher) does without the compare-exchange.
pub struct Multicast<T> {
    slots: Arc<Slots<T>>,
    publishers: Arc<AtomicUsize>,
    abandoned: Arc<AtomicU64>,
}

impl<T> Multicast<T> {
    /// A ring of at least `capacity` messages: the next power of two. All of its memory, a message and 8 bytes each, is taken here.
    ///
    /// # Errors
    /// [`CapacityError::Ring`] for less than 1 or more than 2³².
    pub fn new(capacity: usize) -> Result<Self, CapacityError> {
        Ok(Self::of(Slots::new(slots_for(capacity)?)))
    }

    pub(super) fn of(slots: Slots<T>) -> Self {
        Self {
            slots: Arc::new(slots),
            publishers: Arc::new(AtomicUsize::new(1)),
            abandoned: Arc::new(AtomicU64::new(0)),
        }
    }

    /// Subscribes from elsewhere, without keeping the ring open.
    pub fn subscriptions(&self) -> Subscriptions<T> {
        Subscriptions::new(Arc::clone(&self.slots), Arc::clone(&self.abandoned))
    }

    /// How many messages the ring holds.
    pub fn capacity(&self) -> usize {
        self.slots.capacity() as usize
    }

    /// Messages accepted so far. Some of them may be a moment from being readable.
    pub fn published(&self) -> u64 {
        self.slots.claimed()
    }

    /// Messages that subscribers had yet to read when they were dropped.
    pub fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Acquire)
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.slots.subscribers()
    }

    /// True after [`close`](Self::close).
    pub fn is_closed(&self) -> bool {
        self.slots.is_closed()
    }

    /// Refuses everything from now on. Subscribers read what was published and then see the end.
    pub fn close(&self) {
        self.slots.close();
    }

    /// A subscriber that gets everything published from now on. It may fall behind by the ring's capacity; then publishers wait.
    pub fn subscribe(&self) -> Subscriber<T> {
        self.subscriptions().subscribe()
    }

    /// A subscriber that gets everything published from now on. When it has fallen behind by `capacity`, `pressure` says what
    /// publishers do. What is published at this very moment may overrun that capacity, never the ring's.
    ///
    /// # Errors
    /// [`CapacityError::Subscriber`] for a capacity of 0 or above the ring's.
    pub fn subscribe_with(&self, capacity: usize, pressure: Pressure) -> Result<Subscriber<T>, CapacityError> {
        self.subscriptions().subscribe_with(capacity, pressure)
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
        self.subscriptions().subscribe_lossy(capacity, loss)
    }

    /// Publishes if there is room now. Returns the message's position: the number of messages published before it.
    ///
    /// # Errors
    /// [`Refused::Full`] or [`Refused::Closed`], with the message.
    #[inline(always)]
    pub fn try_publish(&self, message: T) -> Result<u64, PublishError<T>> {
        match self.slots.publish(message) {
            Ok((position, _)) => Ok(position),
            Err((refusal, message)) => Err(PublishError { reason: refused(refusal), message }),
        }
    }

    /// [`try_publish`](Self::try_publish), which hands out what was overwritten.
    #[inline]
    pub(crate) fn try_publish_over(&self, message: T) -> Result<(u64, Option<T>), PublishError<T>> {
        let published = self.slots.publish(message);
        published.map_err(|(refusal, message)| PublishError { reason: refused(refusal), message })
    }

    /// Publishes all `messages` under consecutive positions, or none, if there is room now; the vector is then empty and keeps its
    /// memory. Returns the position of the first.
    ///
    /// # Errors
    /// [`Refused::Full`], [`Refused::Closed`] or [`Refused::TooLarge`]; the vector is as it was.
    #[inline]
    pub fn try_publish_all(&self, messages: &mut Vec<T>) -> Result<u64, Refused> {
        self.fits(messages.len())?;
        self.slots.publish_all(messages).map_err(refused)
    }

    /// Publishes when there is room; waits as long as the subscribers' [`Pressure`] says. Returns the message's position.
    ///
    /// A subscriber with [`Pressure::BlockTimeout`] needs a tokio runtime with a timer here; nothing else needs a runtime.
    ///
    /// # Errors
    /// Any [`Refused`] but `TooLarge`, with the message.
    #[inline]
    pub fn publish(&self, message: T) -> impl Future<Output = Result<u64, PublishError<T>>> {
        Publish { ring: self, message: Some(message), waiting: None, wait: Self::publish_waiting }
    }

    /// [`publish`](Self::publish), which hands out what was overwritten.
    #[inline]
    pub(crate) async fn publish_over(&self, message: T) -> Result<(u64, Option<T>), PublishError<T>> {
        match self.slots.publish(message) {
            Ok(published) => Ok(published),
            Err((_, message)) => self.publish_waiting(message).await,
        }
    }

    #[cold]
    async fn publish_waiting(&self, message: T) -> Result<(u64, Option<T>), PublishError<T>> {
        let mut waiting = Some(message);
        let published = self.slots.room().wait(|| attempt(&self.slots, &mut waiting)).await;
        given_back(published, waiting)
    }

    /// Publishes all `messages` under consecutive positions, or none, when there is room; the vector is then empty and keeps its
    /// memory. Returns the position of the first.
    ///
    /// # Errors
    /// Any [`Refused`]; the vector is as it was.
    pub async fn publish_all(&self, messages: &mut Vec<T>) -> Result<u64, Refused> {
        self.fits(messages.len())?;
        self.slots.room().wait(|| self.slots.publish_all(messages)).await
    }

    /// Publishes when there is room; the thread sleeps until then.
    ///
    /// Not for threads that run async tasks.
    ///
    /// # Errors
    /// Any [`Refused`] but `TooLarge`, with the message.
    #[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
    pub fn publish_blocking(&self, message: T) -> Result<u64, PublishError<T>> {
        let mut waiting = Some(message);
        let published = self.slots.room().wait_blocking(|| attempt(&self.slots, &mut waiting));
        given_back(published, waiting).map(|(position, _)| position)
    }

    /// [`publish_all`](Self::publish_all) on a thread that may sleep.
    ///
    /// # Errors
    /// Any [`Refused`]; the vector is as it was.
    #[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
    pub fn publish_all_blocking(&self, messages: &mut Vec<T>) -> Result<u64, Refused> {
        self.fits(messages.len())?;
        self.slots.room().wait_blocking(|| self.slots.publish_all(messages))
    }

    /// Waits until there is room for `count` messages and sets it aside: publishing into it neither waits nor fails for want of room.
    /// Dropping the [`Permit`] gives back what is left of it.
    ///
    /// While a permit exists, every publish to the ring takes a lock.
    ///
    /// # Errors
    /// Any [`Refused`].
    pub async fn reserve(&self, count: usize) -> Result<Permit<'_, T>, Refused> {
        self.fits(count)?;
        self.slots.room().wait(|| self.slots.reserve(count as u64)).await?;
        Ok(Permit { ring: self, left: count as u64 })
    }

    /// Sets room for `count` messages aside, if there is room now.
    ///
    /// # Errors
    /// Any [`Refused`] but `Timeout`.
    pub fn try_reserve(&self, count: usize) -> Result<Permit<'_, T>, Refused> {
        self.fits(count)?;
        self.slots.reserve(count as u64).map_err(refused)?;
        Ok(Permit { ring: self, left: count as u64 })
    }

    /// Drops messages that every subscriber has read. Otherwise a message lives in the ring until it is overwritten, a capacity later.
    /// Returns how many.
    pub fn trim(&self) -> usize {
        let mut count = 0;
        self.trim_into(|message| {
            drop(message);
            count += 1;
        });
        count
    }

    /// [`trim`](Self::trim), which hands the messages out.
    pub(crate) fn trim_into(&self, mut each: impl FnMut(T)) {
        loop {
            let taken = self.slots.trim();
            if taken.is_empty() {
                return;
            }
            taken.into_iter().for_each(&mut each);
        }
    }

    /// Room that permits hold now.
    pub(crate) fn reserved(&self) -> u64 {
        self.slots.reserved()
    }

    fn fits(&self, count: usize) -> Result<(), Refused> {
        if count > self.capacity() { Err(Refused::TooLarge) } else { Ok(()) }
    }
}

pin_project_lite::pin_project! {
    /// The first attempt takes the message from where the caller put it: an asynchronous function would copy it, and its large result, more
    /// than once, which takes longer than all the rest.
    struct Publish<'a, T, F, W> {
        ring: &'a Multicast<T>,
        message: Option<T>,
        #[pin]
        waiting: Option<W>,
        wait: F,
    }
}

impl<'a, T, F, W> Future for Publish<'a, T, F, W>
where
    F: Fn(&'a Multicast<T>, T) -> W,
    W: Future<Output = Result<(u64, Option<T>), PublishError<T>>>,
{
    type Output = Result<u64, PublishError<T>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        if this.waiting.is_none()
            && this.message.is_some()
            && let Ok((position, _)) = this.ring.slots.publish_from(this.message)
        {
            return Poll::Ready(Ok(position));
        }
        self.as_mut().wait(context).map_err(|reason| {
            let message = self.project().message.take().expect("a message that was refused is put back");
            PublishError { reason, message }
        })
    }
}

impl<'a, T, F, W> Publish<'a, T, F, W>
where
    F: Fn(&'a Multicast<T>, T) -> W,
    W: Future<Output = Result<(u64, Option<T>), PublishError<T>>>,
{
    /// Out of line, with a result in registers. What is refused is put back.
    #[cold]
    #[inline(never)]
    fn wait(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<u64, Refused>> {
        let mut this = self.project();
        if let Some(message) = this.message.take() {
            this.waiting.set(Some((this.wait)(this.ring, message)));
        }
        let waiting = this.waiting.as_mut().as_pin_mut().expect("a future is not polled after its end");
        waiting.poll(context).map(|published| match published {
            Ok((position, _)) => Ok(position),
            Err(PublishError { reason, message }) => {
                *this.message = Some(message);
                Err(reason)
            }
        })
    }
}

/// How many slots a ring of this capacity has.
pub(super) fn slots_for(capacity: usize) -> Result<usize, CapacityError> {
    if capacity == 0 || capacity as u64 > 1 << 32 {
        return Err(CapacityError::Ring(capacity));
    }
    Ok(capacity.next_power_of_two())
}

fn attempt<T>(slots: &Slots<T>, waiting: &mut Option<T>) -> Result<(u64, Option<T>), Refusal> {
    let message = waiting.take().expect("a message that was not published is put back");
    slots.publish(message).map_err(|(refusal, message)| {
        *waiting = Some(message);
        refusal
    })
}

fn given_back<T, R>(published: Result<R, Refused>, waiting: Option<T>) -> Result<R, PublishError<T>> {
    published.map_err(|reason| {
        let message = waiting.expect("a message that was not published is put back");
        PublishError { reason, message }
    })
}

fn refused(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Full(_) => Refused::Full,
        Refusal::TooLarge => Refused::TooLarge,
        Refusal::Closed => Refused::Closed,
    }
}

impl<T> Clone for Multicast<T> {
    fn clone(&self) -> Self {
        self.publishers.fetch_add(1, Ordering::AcqRel);
        Self {
            slots: Arc::clone(&self.slots),
            publishers: Arc::clone(&self.publishers),
            abandoned: Arc::clone(&self.abandoned),
        }
    }
}

impl<T> Drop for Multicast<T> {
    fn drop(&mut self) {
        if self.publishers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.slots.close();
        }
    }
}

impl<T> fmt::Debug for Multicast<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multicast")
            .field("capacity", &self.capacity())
            .field("published", &self.published())
            .field("subscribers", &self.subscribers())
            .finish_non_exhaustive()
    }
}

/// Room that was set aside in a ring.
#[must_use = "dropping it gives the room back"]
pub struct Permit<'a, T> {
    ring: &'a Multicast<T>,
    left: u64,
}

impl<T> Permit<'_, T> {
    /// Publishes one message into the room; returns its position.
    ///
    /// # Errors
    /// [`Refused::Closed`] if the ring was closed, [`Refused::Full`] if the room is used up, with the message.
    pub fn publish(&mut self, message: T) -> Result<u64, PublishError<T>> {
        self.publish_over(message).map(|(position, _)| position)
    }

    /// [`publish`](Self::publish), which hands out what was overwritten.
    pub(crate) fn publish_over(&mut self, message: T) -> Result<(u64, Option<T>), PublishError<T>> {
        if self.left == 0 {
            return Err(PublishError { reason: Refused::Full, message });
        }
        self.left -= 1;
        let published = self.ring.slots.publish_reserved(message);
        published.map_err(|(refusal, message)| PublishError { reason: refused(refusal), message })
    }

    /// How many more messages fit.
    pub fn left(&self) -> usize {
        self.left as usize
    }
}

impl<T> Drop for Permit<'_, T> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.ring.slots.release(self.left);
        }
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("left", &self.left).finish_non_exhaustive()
    }
}
