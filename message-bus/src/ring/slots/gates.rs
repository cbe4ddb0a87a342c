//! Subscribers come and go; what they have all read is let go of; lossy ones are relieved of what they have not read.

use std::mem::needs_drop;

use crossbeam_utils::CachePadded;

use super::{DETACHED, Gate, Pressure, SHIFT, Slots, Trimmed};
use crate::ring::lossy::Lossy;
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicWaker, Mutex, Ordering};

impl<T> Slots<T> {
    /// A subscriber of what is published from now on.
    pub(in crate::ring) fn subscribe(
        &self,
        capacity: u64,
        pressure: Pressure,
        lossy: Option<Lossy<T>>,
    ) -> Arc<Gate<T>> {
        let mut registry = self.registry();
        // Nobody claims between the reading of the tail and the new limit, save one publisher, who is not held up.
        let tail = self.guard() >> SHIFT;
        if lossy.is_none() && capacity < self.capacity() {
            let limit = self.limit.load(Ordering::Relaxed);
            self.limit.store(limit.min(tail + capacity), Ordering::Release);
        }
        let tail = self.tail.load(Ordering::Acquire) >> SHIFT;
        // What lies a capacity back was published, or its slot could not have been claimed again.
        let known = self.found.load(Ordering::Acquire).max(tail - self.capacity());
        let gate = Arc::new(Gate {
            cursor: CachePadded::new(AtomicU64::new(tail)),
            start: tail,
            whole: self.published_until(known, tail) >= tail,
            capacity,
            pressure,
            sleeping: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            lossy: lossy.map(Mutex::new),
        });
        registry.gates = Arc::new(registry.gates.iter().chain([&gate]).cloned().collect());
        self.unguard(&registry);
        gate
    }

    /// Ends a subscription; returns how many messages it had yet to read.
    pub(super) fn unsubscribe(&self, gate: &Arc<Gate<T>>) -> u64 {
        if gate.cursor.load(Ordering::Acquire) == DETACHED && gate.lossy.is_none() {
            return 0;
        }
        self.rouse(gate);
        let mut registry = self.registry();
        let cursor = gate.cursor.swap(DETACHED, Ordering::AcqRel);
        let tail = self.tail.load(Ordering::Acquire) >> SHIFT;
        if cursor != DETACHED && gate.start <= registry.published {
            registry.published = registry.published.max(cursor);
        }
        let others = registry.gates.iter().filter(|other| !Arc::ptr_eq(other, gate)).cloned().collect();
        registry.gates = Arc::new(others);
        drop(registry);
        self.room.made();
        if cursor == DETACHED { 0 } else { tail - cursor }
    }

    /// Takes out messages that every subscriber has read instead of waiting until they are overwritten: up to as many as fit.
    pub(in crate::ring) fn trim(&self) -> Trimmed<T> {
        if !needs_drop::<T>() {
            return Trimmed::new();
        }
        let mut registry = self.registry();
        let tail = self.guard() >> SHIFT;
        let cursors = registry.gates.iter().map(|gate| gate.cursor.load(Ordering::Acquire));
        let end = cursors.min().unwrap_or(tail).min(tail);
        // What a claim that is under way overwrites is not ours to drop.
        let mut number = registry.trimmed.max(tail.saturating_sub(self.capacity()));
        let mut taken = Trimmed::new();
        while number < end && taken.len() < taken.capacity() && self.published_until(number, number + 1) > number {
            // All cursors are beyond `number`, claims are guarded, and the claims before that did not reach its slot.
            if let Some(message) = self.take_old(number + self.capacity()) {
                taken.push(message);
                self.storage.vacate(self.index(number), number);
            }
            number += 1;
        }
        registry.trimmed = registry.trimmed.max(number);
        self.unguard(&registry);
        drop(registry);
        taken
    }

    /// Moves what is published, up to `least` and a bit more, from the ring into the hands of a lossy subscriber.
    /// What it loses is put into `discarded`.
    pub(super) fn let_go(&self, gate: &Gate<T>, least: u64, discarded: &mut Trimmed<T>) {
        let cursor = gate.cursor.load(Ordering::Acquire);
        let lossy = gate.lossy.as_ref().expect("a lossy subscriber");
        let mut lossy = lossy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.absorb_locked(gate, &mut lossy, least.max(cursor.saturating_add(self.capacity() / 8)));
        discarded.extend(lossy.discarded.drain(..));
    }

    /// Hands all that is published below `end` to the policy of a lossy subscriber.
    pub(super) fn absorb_locked(&self, gate: &Gate<T>, lossy: &mut Lossy<T>, end: u64) {
        // Only the holder of the lock moves this cursor.
        let cursor = gate.cursor.load(Ordering::Acquire);
        if cursor == DETACHED {
            return;
        }
        let tail = self.tail.load(Ordering::Acquire) >> SHIFT;
        // Since the caller looked, the subscriber may have read on.
        let end = end.max(cursor);
        let published = self.published_until(cursor, end.min(tail)).min(end);
        let alive = lossy.absorb(cursor - self.capacity()..published - self.capacity(), |position| {
            // SAFETY: the policy asks for positions of the range alone; they are published, and this cursor keeps them in place.
            unsafe { self.cell(position + self.capacity()).get() }
        });
        gate.cursor.store(if alive { published } else { DETACHED }, Ordering::Release);
    }
}
