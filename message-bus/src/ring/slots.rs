//! The memory of the ring, and the only `unsafe` code of the crate.
//!
//! A message has a sequence number; its slot is the number modulo the capacity. A publisher *claims* numbers (one compare-exchange
//! of `tail`), writes their slots and *publishes* each by storing its number into the slot. A subscriber owns a cursor, the next
//! number it will read; whatever is at or behind a cursor stays where it is. `limit` says how far publishers may claim: it is computed
//! from the cursors under the lock of the registry, and only when the last one is used up.
//!
//! A ring with one publisher has no numbers in its slots (see [`Storage`]) and no claims: messages are written first, and then published by
//! a store of the tail.
//!
//! Between claim and publication nothing can panic, wait or run foreign code, so no number stays unpublished.

mod cell;
mod cursor;
mod gates;
mod reservation;
mod sole;
mod storage;
mod word;

use std::mem::{ManuallyDrop, MaybeUninit, needs_drop};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use smallvec::SmallVec;

use self::cell::Cell;
pub(super) use self::cursor::{Cursor, LossyCursor};
pub use self::sole::SolePublisher;
use self::storage::Storage;
use super::alarm::{Alarm, CALM};
use super::lossy::{Lossy, discard};
use super::wait::Room;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, AtomicWaker, Mutex, MutexGuard, Ordering, full_fence,
    give_up_the_processor,
};

/// What a full queue means to whoever publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pressure {
    /// The publisher waits until this subscriber has read on.
    #[default]
    Block,
    /// The publisher waits, at most this long; then the publish is refused and reaches nobody.
    BlockTimeout(Duration),
    /// The publish is refused at once and reaches nobody.
    Error,
}

/// Why a claim was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Some subscribers are full: what the strictest of them says.
    Full(Pressure),
    /// A subscriber's capacity is smaller than what was asked for at once.
    TooLarge,
    Closed,
}

/// `tail` is the next number to claim, shifted, and two flags.
const SHIFT: u32 = 2;
const CLOSED: u64 = 1;
/// Claims go through the registry's lock: room is reserved, or a subscriber is being added.
const GUARDED: u64 = 2;
const FLAGS: u64 = CLOSED | GUARDED;

/// How far ahead of what it publishes a publisher asks for a slot's memory. The next claim waits until all that was written is in the cache,
/// and that was with the subscriber a lap ago: of the hand-over of single messages a third.
const FETCHED_AHEAD: u64 = 4;

/// The cursor of a subscriber that reads no more.
const DETACHED: u64 = u64::MAX;

pub(super) struct Slots<T> {
    storage: Storage<T>,
    mask: u64,
    tail: CachePadded<AtomicU64>,
    /// Numbers below may be claimed: every message a capacity before them was read by all, or published to none.
    limit: CachePadded<AtomicU64>,
    /// Everything below is published: what a subscriber that reads batches has found, for the others. It may fall behind.
    found: CachePadded<AtomicU64>,
    registry: CachePadded<Mutex<Registry<T>>>,
    /// Subscribers that sleep until something is published.
    sleepers: CachePadded<AtomicUsize>,
    /// How often one of them fell asleep.
    naps: CachePadded<AtomicU64>,
    /// What everybody reads and hardly anybody writes.
    flags: CachePadded<Flags>,
    room: Room,
}

struct Flags {
    /// The same as the flag in `tail`.
    closed: AtomicBool,
    /// Whether publishers look for sleepers.
    alarm: Alarm,
}

/// Messages taken out of the ring at once, without an allocation.
pub(super) type Trimmed<T> = SmallVec<[T; 32]>;

struct Registry<T> {
    gates: Arc<Vec<Arc<Gate<T>>>>,
    /// Everything below is known to be published. It follows the cursors of subscribers that were there from the start on.
    published: u64,
    /// Messages that may be published without a claim.
    reserved: u64,
    /// Everything below was dropped or overwritten.
    trimmed: u64,
    /// Naps until the number `calm_since`.
    naps: u64,
    calm_since: u64,
    /// Lost by lossy subscribers, and yet to be dropped.
    discarded: Trimmed<T>,
}

/// The place of one subscriber in the ring.
pub(super) struct Gate<T> {
    cursor: CachePadded<AtomicU64>,
    /// The first cursor.
    start: u64,
    /// Whether everything below the first cursor was known to be published when the subscription began.
    whole: bool,
    capacity: u64,
    pressure: Pressure,
    sleeping: AtomicBool,
    waker: AtomicWaker,
    /// Of a subscriber that lets go of messages instead of holding publishers up.
    lossy: Option<Mutex<Lossy<T>>>,
}

// SAFETY: a slot's value is written by one publisher, whose claim is exclusive or who is the only one, and read through `&T` by any number of subscribers
// after its word, or the tail, was published; it is dropped or overwritten by whoever holds the next claim of that slot, or by `trim`, after all
// of them have moved on. Hence values move between threads (`Send`) and are shared by them (`Sync`).
unsafe impl<T: Send + Sync> Send for Slots<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Slots<T> {}

impl<T> Slots<T> {
    /// For any number of publishers. `capacity` is a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        Self::of(Storage::numbered(capacity as u64), capacity as u64)
    }

    /// For one publisher. `capacity` is a power of two.
    ///
    /// # Safety
    /// Nobody publishes, trims or closes while another does.
    unsafe fn for_one(capacity: usize) -> Self {
        Self::of(Storage::plain(capacity as u64), capacity as u64)
    }

    fn of(storage: Storage<T>, capacity: u64) -> Self {
        debug_assert!(capacity.is_power_of_two());
        Self {
            storage,
            mask: capacity - 1,
            tail: CachePadded::new(AtomicU64::new(capacity << SHIFT)),
            limit: CachePadded::new(AtomicU64::new(capacity * 2)),
            found: CachePadded::new(AtomicU64::new(capacity)),
            registry: CachePadded::new(Mutex::new(Registry {
                gates: Arc::new(Vec::new()),
                published: capacity,
                reserved: 0,
                trimmed: capacity,
                naps: 0,
                calm_since: capacity,
                discarded: Trimmed::new(),
            })),
            sleepers: CachePadded::new(AtomicUsize::new(0)),
            naps: CachePadded::new(AtomicU64::new(0)),
            flags: CachePadded::new(Flags { closed: AtomicBool::new(false), alarm: Alarm::new() }),
            room: Room::new(),
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline]
    fn has_one_publisher(&self) -> bool {
        matches!(self.storage, Storage::Plain { .. })
    }

    pub(super) fn room(&self) -> &Room {
        &self.room
    }

    /// Messages claimed so far.
    pub(super) fn claimed(&self) -> u64 {
        (self.tail.load(Ordering::Acquire) >> SHIFT) - self.capacity()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.flags.closed.load(Ordering::Acquire)
    }

    pub(super) fn subscribers(&self) -> usize {
        self.registry().gates.len()
    }

    /// Refuses what is published from now on and wakes everyone.
    pub(super) fn close(&self) {
        self.tail.fetch_or(CLOSED, Ordering::AcqRel);
        self.flags.closed.store(true, Ordering::Release);
        full_fence();
        self.wake_subscribers();
        self.room.made();
    }

    fn registry(&self) -> MutexGuard<'_, Registry<T>> {
        // Foreign code (`Clone`, a conflation key) may panic under the lock, but never with the registry half changed.
        self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[inline]
    fn index(&self, number: u64) -> usize {
        (number & self.mask) as usize
    }

    /// The memory of this number's message.
    #[inline]
    fn cell(&self, number: u64) -> &Cell<T> {
        self.storage.cell(self.index(number))
    }

    /// The first number, from `first` on and below `end`, that is not known to be published. With one publisher all of them are looked
    /// at in one load, and the answer may be beyond the end.
    #[inline]
    fn published_until(&self, first: u64, end: u64) -> u64 {
        let Storage::Numbered(slots) = &self.storage else {
            return self.tail.load(Ordering::Acquire) >> SHIFT;
        };
        let mut number = first;
        while number < end
            && let Some(count) = word::published(slots[self.index(number)].word.load(Ordering::Acquire), number)
        {
            number += count;
        }
        number
    }

    // ---------------------------------------------------------------------------------------------------------- publishing

    /// Publishes one message; returns its position, counted from 0, and what it has overwritten, or gives it back.
    ///
    /// Inlined for sure, so that a message need not be in memory before it is in its slot: what is stored elsewhere first, and read from
    /// there, waits in line with the slot's cache lines, which come over from the subscribers. Hence also the copy for the path
    /// that waits, which is out of line and wants an address.
    #[inline(always)]
    pub(super) fn publish(&self, value: T) -> Result<(u64, Option<T>), (Refusal, T)> {
        let value = ManuallyDrop::new(value);
        match self.claim_at_once(1) {
            Some(number) => {
                let old = self.take_old(number);
                // SAFETY: the claim makes this thread the only one at the slot, whose old value is out; the new one is moved.
                unsafe { self.cell(number).write_from(&raw const *value) };
                self.announce(number, 1);
                Ok((number - self.capacity(), old))
            }
            None => {
                let mut moved = MaybeUninit::uninit();
                // SAFETY: `value` is not used again.
                self.publish_slowly(unsafe {
                    cell::copy(&raw const *value, moved.as_mut_ptr());
                    moved.assume_init()
                })
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn publish_slowly(&self, value: T) -> Result<(u64, Option<T>), (Refusal, T)> {
        let mut lost = Trimmed::new();
        let published = match self.claim_slowly(1, &mut lost) {
            Ok(number) => {
                let old = self.write_one(number, value);
                Ok((number - self.capacity(), old))
            }
            Err(refusal) => Err((refusal, value)),
        };
        discard(lost);
        published
    }

    /// Publishes the message from where it lies; returns its position, and what it has overwritten. Refused, it stays there.
    ///
    /// # Panics
    /// If there is no message.
    #[inline]
    pub(super) fn publish_from(&self, message: &mut Option<T>) -> Result<(u64, Option<T>), Refusal> {
        // Before the claim: after it nothing may panic.
        assert!(message.is_some(), "a message that was not published is there");
        match self.claim_at_once(1) {
            Some(number) => Ok(self.move_in(number, message)),
            None => self.publish_from_slowly(message),
        }
    }

    #[cold]
    #[inline(never)]
    fn publish_from_slowly(&self, message: &mut Option<T>) -> Result<(u64, Option<T>), Refusal> {
        let mut lost = Trimmed::new();
        let published = self.claim_slowly(1, &mut lost).map(|number| self.move_in(number, message));
        discard(lost);
        published
    }

    /// Publishes a message under a claimed number.
    #[inline]
    fn move_in(&self, number: u64, message: &mut Option<T>) -> (u64, Option<T>) {
        let value: *const T = message.as_ref().expect("a message that was not published is there");
        let old = self.take_old(number);
        // SAFETY: the claim makes this thread the only one at the slot, whose old value is out; the new one is moved, since what is left
        // in its place is overwritten without being dropped.
        unsafe {
            self.cell(number).write_from(value);
            std::ptr::from_mut(message).write(None);
        }
        self.announce(number, 1);
        (number - self.capacity(), old)
    }

    /// Publishes all of `values`, at most the capacity, under consecutive positions, or none; returns the first position.
    #[inline]
    pub(super) fn publish_all(&self, values: &mut Vec<T>) -> Result<u64, Refusal> {
        if values.is_empty() {
            return Ok(self.claimed());
        }
        let count = values.len() as u64;
        let mut lost = Trimmed::new();
        let first = match self.claim_at_once(count) {
            Some(first) => Ok(first),
            None => self.claim_slowly(count, &mut lost),
        };
        let published = first.map(|first| {
            self.write_all(first, values);
            first - self.capacity()
        });
        discard(lost);
        published
    }

    /// Values first; what says that they are published comes last.
    #[inline]
    fn write_all(&self, first: u64, values: &mut Vec<T>) {
        let count = values.len();
        // SAFETY: the vector holds nothing while its values are moved out, so that a panic could only leak.
        unsafe {
            values.set_len(0);
            let mut kept = 0;
            for index in 0..count {
                let value = values.as_mut_ptr().add(index).read();
                // What was overwritten goes into the place of what was moved out: `kept <= index`.
                if let Some(old) = self.write(first + index as u64, value) {
                    values.as_mut_ptr().add(kept).write(old);
                    kept += 1;
                }
            }
            values.set_len(kept);
        }
        self.announce(first, count as u64);
        values.clear();
    }

    /// Takes out what a claimed number is about to overwrite.
    #[inline]
    fn take_old(&self, number: u64) -> Option<T> {
        // Whoever reads the ring's values has moved past the lap before: `limit` says so, and the claim was below it.
        if needs_drop::<T>() && !self.storage.is_vacant(self.index(number), number) {
            // SAFETY: there is a value, and the claim makes this thread the only one at the slot.
            Some(unsafe { self.cell(number).read() })
        } else {
            None
        }
    }

    /// Writes a claimed number, yet to be published; returns what lay in its slot.
    #[inline]
    fn write(&self, number: u64, value: T) -> Option<T> {
        let old = self.take_old(number);
        // SAFETY: the claim makes this thread the only one at the slot; the old value was moved out or needs no drop.
        unsafe { self.cell(number).write(value) };
        old
    }

    /// Writes and publishes one claimed number.
    #[inline]
    fn write_one(&self, number: u64, value: T) -> Option<T> {
        let old = self.write(number, value);
        self.announce(number, 1);
        old
    }

    /// Publishes numbers that were written, and wakes who sleeps.
    #[inline]
    fn announce(&self, first: u64, count: u64) {
        let end = first + count;
        match &self.storage {
            // From the last to the first: a subscriber that waits for the first finds all of them, and does not take lines from under the
            // publisher's hands.
            Storage::Numbered(slots) => {
                for number in (first..end).rev() {
                    slots[self.index(number)].word.store(word::of(number, end - number), Ordering::Release);
                }
                slots[self.index(end + FETCHED_AHEAD)].fetch_for_writing();
            }
            // Nobody else changes the tail.
            Storage::Plain { .. } => self.tail.store(end << SHIFT, Ordering::Release),
        }
        if self.flags.alarm.is_needed() && self.sleepers.load(Ordering::Relaxed) != 0 {
            self.wake_subscribers();
        }
    }

    #[cold]
    fn wake_subscribers(&self) {
        let gates = Arc::clone(&self.registry().gates);
        for gate in gates.iter() {
            if self.rouse(gate) {
                gate.waker.wake();
            }
        }
    }

    /// True if the subscriber slept.
    fn rouse(&self, gate: &Gate<T>) -> bool {
        let slept = gate.sleeping.swap(false, Ordering::AcqRel);
        if slept {
            self.sleepers.fetch_sub(1, Ordering::AcqRel);
        }
        slept
    }

    /// Claims below the limit that is known.
    #[inline]
    fn claim_at_once(&self, count: u64) -> Option<u64> {
        let mut tail = self.tail.load(Ordering::Relaxed);
        while tail & FLAGS == 0 && (tail >> SHIFT) + count <= self.limit.load(Ordering::Acquire) {
            match self.take(tail, count) {
                Ok(number) => return Some(number),
                Err(now) => tail = now,
            }
        }
        None
    }

    /// Takes numbers from the tail on, or says what the tail has become.
    #[inline]
    fn take(&self, tail: u64, count: u64) -> Result<u64, u64> {
        match &self.storage {
            Storage::Numbered(_) => {
                let claimed = tail + (count << SHIFT);
                self.tail.compare_exchange_weak(tail, claimed, Ordering::AcqRel, Ordering::Relaxed)?;
            }
            // The only publisher moves the tail when it has written.
            Storage::Plain { .. } => {}
        }
        Ok(tail >> SHIFT)
    }

    /// Lets go of the lock, and then of what was lost under it.
    fn unlock(mut registry: MutexGuard<'_, Registry<T>>) {
        let discarded = std::mem::take(&mut registry.discarded);
        drop(registry);
        discard(discarded);
    }

    /// With the lock of the registry: when the limit has to be computed anew, or claims are guarded. What lossy subscribers lose by it
    /// is added to `lost`, to be dropped when the claimed numbers are published: its destructors are foreign code.
    #[cold]
    fn claim_slowly(&self, count: u64, lost: &mut Trimmed<T>) -> Result<u64, Refusal> {
        loop {
            let mut registry = self.registry();
            if self.calm_down(&mut registry) {
                drop(registry);
                self.wake_subscribers();
                continue;
            }
            let room = self.make_room(&mut registry, count).map(|room| room.map(|tail| self.take(tail, count).ok()));
            lost.extend(registry.discarded.drain(..));
            drop(registry);
            match room {
                Some(Ok(Some(number))) => return Ok(number),
                Some(Ok(None)) => {}
                Some(Err(refusal)) => return Err(refusal),
                None => give_up_the_processor(),
            }
        }
    }

    /// Has publishers look for sleepers no more, if none has slept for long. True if one does at this very moment: it may have
    /// missed something, and has to be woken.
    fn calm_down(&self, registry: &mut Registry<T>) -> bool {
        let (naps, tail) = (self.naps.load(Ordering::Relaxed), self.tail.load(Ordering::Relaxed) >> SHIFT);
        self.room.calm_down(tail);
        if naps != registry.naps || !self.flags.alarm.is_set() {
            (registry.naps, registry.calm_since) = (naps, tail);
            return false;
        }
        if tail - registry.calm_since < CALM {
            return false;
        }
        registry.calm_since = tail;
        self.flags.alarm.clear(|| self.sleepers.load(Ordering::Relaxed) == 0)
    }

    /// The tail at which `count` numbers can be claimed beside what is reserved. `None` if only a publisher that has yet to
    /// publish what it claimed is in the way.
    fn make_room(&self, registry: &mut Registry<T>, count: u64) -> Option<Result<u64, Refusal>> {
        let tail = self.tail.load(Ordering::Acquire);
        if tail & CLOSED != 0 {
            return Some(Err(Refusal::Closed));
        }
        let end = (tail >> SHIFT) + registry.reserved + count;
        if end <= self.limit.load(Ordering::Relaxed) {
            return Some(Ok(tail));
        }
        let (limit, full) = self.survey(registry, end);
        self.limit.store(limit, Ordering::Release);
        if end <= limit {
            return Some(Ok(tail));
        }
        if registry.gates.iter().any(|gate| gate.lossy.is_none() && gate.capacity < count) {
            return Some(Err(Refusal::TooLarge));
        }
        full.map(|pressure| Err(Refusal::Full(pressure)))
    }

    /// How far publishers may go, and what stands in the way of `end`: the strictest pressure of the subscribers that are full.
    fn survey(&self, registry: &mut Registry<T>, end: u64) -> (u64, Option<Pressure>) {
        let (mut limit, mut full) = (u64::MAX, None);
        let Registry { gates, published, discarded, .. } = registry;
        for gate in gates.iter() {
            let mut cursor = gate.cursor.load(Ordering::Acquire);
            let room = if gate.lossy.is_some() { self.capacity() } else { gate.capacity };
            if gate.lossy.is_some() && cursor != DETACHED && cursor + room < end {
                self.let_go(gate, end - room, discarded);
                cursor = gate.cursor.load(Ordering::Acquire);
            }
            if cursor == DETACHED {
                continue;
            }
            if gate.start <= *published {
                *published = cursor.max(*published);
            }
            limit = limit.min(cursor + room);
            if cursor + room < end && gate.lossy.is_none() {
                full = Some(full.map_or(gate.pressure, |pressure| stricter(pressure, gate.pressure)));
            }
        }
        // A publisher may be late with a number that no subscriber waits for: its slot is not free yet.
        if *published + self.capacity() < end {
            let tail = self.tail.load(Ordering::Acquire) >> SHIFT;
            *published = self.published_until(*published, tail);
        }
        (limit.min(*published + self.capacity()), full)
    }
}

/// The one that lets a publisher wait the least.
fn stricter(one: Pressure, other: Pressure) -> Pressure {
    match (one, other) {
        (Pressure::Error, _) | (_, Pressure::Error) => Pressure::Error,
        (Pressure::BlockTimeout(one), Pressure::BlockTimeout(other)) => Pressure::BlockTimeout(one.min(other)),
        (Pressure::BlockTimeout(limit), Pressure::Block) | (Pressure::Block, Pressure::BlockTimeout(limit)) => {
            Pressure::BlockTimeout(limit)
        }
        (Pressure::Block, Pressure::Block) => Pressure::Block,
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        // No subscriber and no publisher is left: nobody minds what a whole lap would overwrite.
        let tail = self.tail.load(Ordering::Acquire) >> SHIFT;
        for number in tail..tail + self.capacity() {
            discard(self.take_old(number));
        }
    }
}

impl<T> std::fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slots").field("capacity", &self.capacity()).field("claimed", &self.claimed()).finish()
    }
}
