//! Room that is set aside, and claims by the registry's lock.

use super::{CLOSED, GUARDED, Refusal, Registry, SHIFT, Slots};
use crate::sync::{Ordering, give_up_the_processor};

impl<T> Slots<T> {
    /// Sets room for `count` messages aside. Not for one publisher, who has all the room there is.
    pub(in crate::ring) fn reserve(&self, count: u64) -> Result<(), Refusal> {
        assert!(!self.has_one_publisher(), "room is set aside from other publishers");
        loop {
            let mut registry = self.registry();
            self.guard();
            let room = self.make_room(&mut registry, count);
            if let Some(Ok(_)) = room {
                registry.reserved += count;
            }
            self.unguard(&registry);
            Self::unlock(registry);
            match room {
                Some(Ok(_)) => return Ok(()),
                Some(Err(refusal)) => return Err(refusal),
                None => give_up_the_processor(),
            }
        }
    }

    /// Publishes into reserved room, which is used up.
    pub(in crate::ring) fn publish_reserved(&self, value: T) -> Result<(u64, Option<T>), (Refusal, T)> {
        let mut registry = self.registry();
        assert!(registry.reserved > 0, "room was set aside");
        registry.reserved -= 1;
        // Claims are guarded: nobody without the lock changes the number.
        let tail = self.tail.load(Ordering::Acquire);
        if tail & CLOSED != 0 {
            self.unguard(&registry);
            return Err((Refusal::Closed, value));
        }
        let number = self.tail.fetch_add(1 << SHIFT, Ordering::AcqRel) >> SHIFT;
        self.unguard(&registry);
        drop(registry);
        let old = self.write_one(number, value);
        Ok((number - self.capacity(), old))
    }

    /// Room that is set aside now.
    pub(in crate::ring) fn reserved(&self) -> u64 {
        self.registry().reserved
    }

    /// Gives reserved room back.
    pub(in crate::ring) fn release(&self, count: u64) {
        let mut registry = self.registry();
        registry.reserved -= count;
        self.unguard(&registry);
        drop(registry);
        self.room.made();
    }

    /// Sends claims through the lock of the registry, which the caller holds; returns the tail.
    ///
    /// One publisher is not held up. It is the one that trims; and who subscribes while it publishes begins at a tail that is read after
    /// the limit was computed, hence at most a ring's capacity behind that limit: nothing that the newcomer has yet to read is overwritten.
    pub(super) fn guard(&self) -> u64 {
        if self.has_one_publisher() {
            return self.tail.load(Ordering::Acquire);
        }
        self.tail.fetch_or(GUARDED, Ordering::AcqRel)
    }

    pub(super) fn unguard(&self, registry: &Registry<T>) {
        if registry.reserved == 0 && !self.has_one_publisher() {
            self.tail.fetch_and(!GUARDED, Ordering::AcqRel);
        }
    }
}
