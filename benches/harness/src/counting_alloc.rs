//! A global allocator that counts: allocations, bytes, live bytes and their peak.
//!
//! It goes into a bench binary of its own (`benches/alloc.rs`), because counting costs time: timing binaries refuse to run under
//! it, and counting benches refuse to run without it.
//!
//! ```
//! use harness::CountingAlloc;
//!
//! #[global_allocator]
//! static ALLOC: CountingAlloc = CountingAlloc::system();
//!
//! let (values, stats) = harness::alloc_scope(|| Vec::<u64>::with_capacity(4));
//! assert_eq!((stats.count, stats.bytes), (1, 32));
//! assert_eq!(stats.live, 32);
//! drop(values);
//! ```
#![expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait; every method forwards to the inner allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Counts what passes through it to the allocator `A`.
///
/// A reallocation counts as one allocation and as many bytes as it grew by. Sums are exact over all threads; the peak is exact
/// while one thread allocates, and otherwise within 64 KiB a thread.
#[derive(Debug)]
pub struct CountingAlloc<A = System>(A);

impl CountingAlloc<System> {
    /// Counts in front of the system's allocator.
    #[must_use]
    pub const fn system() -> Self {
        Self(System)
    }
}

impl<A> CountingAlloc<A> {
    /// Counts in front of `inner`.
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

/// What was allocated between two points of a program, by all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllocStats {
    /// Allocations and reallocations.
    pub count: u64,
    /// Bytes requested.
    pub bytes: u64,
    /// Change of live bytes: negative when more was freed than allocated.
    pub live: i64,
    /// Most live bytes above those at the start.
    pub peak: i64,
}

/// Enough that two threads seldom share one; a shared shard costs time, never a count.
const SHARDS: usize = 64;
/// A shard's share of the live bytes that the common total does not know yet.
const SLACK: i64 = 64 << 10;

/// Counters of the threads that were given this shard, on cache lines of its own.
#[repr(align(128))]
struct Shard {
    count: AtomicU64,
    bytes: AtomicU64,
    /// Live bytes not yet added to [`LIVE`].
    pending: AtomicI64,
}

static COUNTS: [Shard; SHARDS] =
    [const { Shard { count: AtomicU64::new(0), bytes: AtomicU64::new(0), pending: AtomicI64::new(0) } }; SHARDS];
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);
static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Const-initialised and without a destructor: reading it never allocates.
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn shard() -> &'static Shard {
    let index = SHARD
        .try_with(|slot| {
            if slot.get() == usize::MAX {
                slot.set(NEXT_SHARD.fetch_add(1, Relaxed) % SHARDS);
            }
            slot.get()
        })
        .unwrap_or(0);
    &COUNTS[index]
}

fn allocated(bytes: usize) {
    let shard = shard();
    shard.count.fetch_add(1, Relaxed);
    shard.bytes.fetch_add(bytes as u64, Relaxed);
    changed(shard, bytes as i64);
}

fn changed(shard: &Shard, bytes: i64) {
    let mut pending = shard.pending.fetch_add(bytes, Relaxed) + bytes;
    if pending.abs() > SLACK {
        shard.pending.fetch_sub(pending, Relaxed);
        LIVE.fetch_add(pending, Relaxed);
        pending = 0;
    }
    let live = LIVE.load(Relaxed) + pending;
    if live > PEAK.load(Relaxed) {
        PEAK.fetch_max(live, Relaxed);
    }
}

// SAFETY: every method passes its arguments unchanged to the inner allocator and returns its answer unchanged; counting touches
// only atomics and a const-initialised thread-local, so it neither allocates nor unwinds.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAlloc<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are the inner allocator's.
        let pointer = unsafe { self.0.alloc(layout) };
        if !pointer.is_null() {
            allocated(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let pointer = unsafe { self.0.alloc_zeroed(layout) };
        if !pointer.is_null() {
            allocated(layout.size());
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { self.0.dealloc(pointer, layout) };
        changed(shard(), -(layout.size() as i64));
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let moved = unsafe { self.0.realloc(pointer, layout, new_size) };
        if !moved.is_null() {
            let shard = shard();
            shard.count.fetch_add(1, Relaxed);
            shard.bytes.fetch_add(new_size.saturating_sub(layout.size()) as u64, Relaxed);
            changed(shard, new_size as i64 - layout.size() as i64);
        }
        moved
    }
}

fn totals() -> (u64, u64) {
    COUNTS
        .iter()
        .fold((0, 0), |(count, bytes), shard| (count + shard.count.load(Relaxed), bytes + shard.bytes.load(Relaxed)))
}

/// Bytes requested and not yet freed, by all threads; 0 where the counting allocator is not installed.
#[must_use]
pub fn live_bytes() -> i64 {
    LIVE.load(Relaxed) + COUNTS.iter().map(|shard| shard.pending.load(Relaxed)).sum::<i64>()
}

/// Moves what the shards hold back into the common total, so that a thread's view of the live bytes leaves nothing out.
fn settle() -> i64 {
    for shard in &COUNTS {
        LIVE.fetch_add(shard.pending.swap(0, Relaxed), Relaxed);
    }
    LIVE.load(Relaxed)
}

/// Whether this process allocates through a [`CountingAlloc`]: asks by allocating one byte.
#[must_use]
pub fn is_counting() -> bool {
    let (before, _) = totals();
    drop(std::hint::black_box(Box::new(0_u8)));
    totals().0 != before
}

/// Runs `f` and tells what all threads allocated meanwhile.
///
/// The figures are zero where the counting allocator is not installed: [`is_counting`] tells the two apart. Scopes that overlap
/// on several threads share one peak.
pub fn alloc_scope<R>(f: impl FnOnce() -> R) -> (R, AllocStats) {
    let (count, bytes) = totals();
    let live = settle();
    PEAK.store(live, Relaxed);
    let result = f();
    let (count_after, bytes_after) = totals();
    let live_after = live_bytes();
    let stats = AllocStats {
        count: count_after - count,
        bytes: bytes_after - bytes,
        live: live_after - live,
        peak: (PEAK.load(Relaxed) - live).max(live_after - live).max(0),
    };
    (result, stats)
}
