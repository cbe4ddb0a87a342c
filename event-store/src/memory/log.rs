//! The events themselves: headers and data in blocks, and the watermark up to which readers may look.
//!
//! Readers go without a lock: they load the watermark and touch only what was written before it was stored. This is the one
//! module with `unsafe`, because the standard library has no memory that one thread fills while others read its filled part.
//! The measurement that pays for it is `event-store/contention/append-against-a-lock`.
#![expect(
    unsafe_code,
    reason = "one writer fills memory whose filled part others read; see the module's documentation"
)]

mod removal;

use std::alloc::{self, Layout};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;

use self::removal::Removals;
use crate::batch::Header;
use crate::sync::{AtomicU32, Ordering};

/// Data bytes of the first open block; each next one has [`BLOCK_GROWTH`] times as many, up to [`MAX_BLOCK_BYTES`]. What is not used
/// yet is not touched, and takes no memory.
const MIN_BLOCK_BYTES: usize = 16 << 10;
const BLOCK_GROWTH: usize = 16;
/// Data bytes of an open block at most, unless one append needs more.
const MAX_BLOCK_BYTES: usize = 4 << 20;
/// What a processor maps at once if it is asked to: the first touch of a small page costs more than an append.
const HUGE_PAGE: usize = 2 << 20;
/// What an event is taken to need until a block has shown it.
const FIRST_GUESS: usize = 256;

/// A place of fixed size in a block's memory that is filled from the front and never moves.
struct Memory<T> {
    start: NonNull<T>,
    capacity: usize,
    /// Loom follows accesses to these instead of those to the memory itself.
    #[cfg(event_store_loom)]
    cells: Vec<loom::cell::UnsafeCell<()>>,
}

// SAFETY: `write` and `slice` have contracts that keep a write apart from every other access.
unsafe impl<T: Copy + Send> Send for Memory<T> {}
// SAFETY: as above.
unsafe impl<T: Copy + Send + Sync> Sync for Memory<T> {}

impl<T: Copy> Memory<T> {
    /// The `capacity` places from `start` on.
    ///
    /// # Safety
    /// They are aligned and lie in one allocation, which outlives this and which nobody else touches.
    unsafe fn new(start: NonNull<T>, capacity: usize) -> Self {
        Self {
            start,
            capacity,
            #[cfg(event_store_loom)]
            cells: (0..capacity).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        }
    }

    /// Copies `values` to index `at` on.
    ///
    /// # Safety
    /// `at + values.len()` is at most the capacity; nobody else writes; nobody reads these places until they are published.
    unsafe fn write(&self, at: usize, values: &[T]) {
        debug_assert!(at + values.len() <= self.capacity);
        #[cfg(event_store_loom)]
        self.cells[at..at + values.len()].iter().for_each(|cell| cell.with_mut(|_| ()));
        // SAFETY: the places lie inside the allocation, and by contract this thread alone touches them.
        unsafe { self.start.as_ptr().add(at).copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    }

    /// The `len` values from index `at` on.
    ///
    /// # Safety
    /// They were written, and the write happened before this call; they are never written again.
    unsafe fn slice(&self, at: usize, len: usize) -> &[T] {
        debug_assert!(at + len <= self.capacity);
        #[cfg(event_store_loom)]
        self.cells[at..at + len].iter().for_each(|cell| cell.with(|_| ()));
        // SAFETY: by contract the values are initialised and will not change while `self` lives.
        unsafe { slice::from_raw_parts(self.start.as_ptr().add(at), len) }
    }
}

/// Headers and data of consecutive appends.
struct Block {
    headers: Memory<Header>,
    data: Memory<u8>,
    /// What both lie in; only ever dropped.
    _allocations: [Option<Allocation>; 2],
}

/// Memory of the global allocator.
struct Allocation {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the allocation is owned, and touched through the block's memory alone.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl Block {
    /// A block with room for `headers`, and for `data` behind them in one allocation.
    fn with_capacity(headers: usize, data: usize) -> Self {
        let data_offset = headers * size_of::<Header>();
        let size = (data_offset + data).max(1);
        // Huge pages need their own alignment.
        let align = if size >= HUGE_PAGE { HUGE_PAGE } else { align_of::<Header>() };
        let layout = Layout::from_size_align(size, align).expect("a block is far smaller than the address space");
        // SAFETY: the size is not 0.
        let Some(start) = NonNull::new(unsafe { alloc::alloc(layout) }) else { alloc::handle_alloc_error(layout) };
        if size >= HUGE_PAGE {
            ask_for_huge_pages(start, size);
        }
        // SAFETY: headers come first and the alignment is theirs at least; the data lie behind them, inside the same allocation,
        // which the block owns.
        let (headers, data) =
            unsafe { (Memory::new(start.cast(), headers), Memory::new(start.add(data_offset), data)) };
        Self { headers, data, _allocations: [Some(Allocation { start, layout }), None] }
    }

    /// Takes over the allocations of two vectors.
    fn adopt(headers: Vec<Header>, data: Vec<u8>) -> Self {
        let (headers, headers_allocation) = Allocation::of(headers);
        let (data, data_allocation) = Allocation::of(data);
        Self { headers, data, _allocations: [headers_allocation, data_allocation] }
    }
}

impl Allocation {
    /// The memory of `values`, and what owns it now.
    fn of<T: Copy>(values: Vec<T>) -> (Memory<T>, Option<Self>) {
        let mut values = ManuallyDrop::new(values);
        let capacity = values.capacity();
        let layout = Layout::array::<T>(capacity).expect("the vector has it");
        // SAFETY: a vector's pointer is never null.
        let start = unsafe { NonNull::new_unchecked(values.as_mut_ptr()) };
        let allocation = (layout.size() > 0).then(|| Self { start: start.cast(), layout });
        // SAFETY: these are the vector's own places, and nobody else has them any more.
        (unsafe { Memory::new(start, capacity) }, allocation)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, by `with_capacity` or by a vector; what lies in it is `Copy` and needs no drop.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// A hint: where the system has no huge pages, or gives none, nothing changes.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(start: NonNull<u8>, size: usize) {
    // SAFETY: the range was just allocated; the advice changes how it is mapped and not what it holds.
    let _ = unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: NonNull<u8>, _: usize) {}

/// Where a stretch of positions lies: event `first` (from 0) is header `offset` of `block`. Without a block its events are removed, and
/// their memory is free.
struct Extent {
    first: u32,
    offset: u32,
    block: Option<Arc<Block>>,
}

/// All events, for readers. When memory of removed events is freed, a log with the same events in their places follows this one, which
/// stays as it is for those who read it.
pub(crate) struct Log {
    /// Events up to here are published.
    watermark: AtomicU32,
    extents: boxcar::Vec<Extent>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("watermark", &self.watermark).finish_non_exhaustive()
    }
}

/// The right to write a log: there is one, and it is not cloned.
pub(crate) struct LogWriter {
    log: Arc<Log>,
    /// Events written; the last ones may not be published yet.
    len: u32,
    open: Open,
    /// Whether the last extent is the open block's and ends where the block's headers end.
    extends_open: bool,
    removals: Removals,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").field("len", &self.len).finish_non_exhaustive()
    }
}

/// The block that small appends are copied into, and how far it is filled.
struct Open {
    block: Arc<Block>,
    headers: usize,
    data: usize,
}

impl Open {
    fn with_capacity(headers: usize, data: usize) -> Self {
        Self { block: Arc::new(Block::with_capacity(headers, data)), headers: 0, data: 0 }
    }

    fn takes(&self, headers: usize, data: usize) -> bool {
        self.headers + headers <= self.block.headers.capacity && self.data + data <= self.block.data.capacity
    }

    /// The block that follows this one, with room for an append of `headers` and `data`.
    fn next(&self, headers: usize, data: usize) -> Self {
        let bytes = (self.block.data.capacity * BLOCK_GROWTH).clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES);
        // Both parts should fill up together: events are as large as they were in this block.
        let an_event = self.data.checked_div(self.headers).unwrap_or(FIRST_GUESS).max(16);
        Self::with_capacity((bytes / an_event).max(headers).max(16), bytes.max(data))
    }
}

impl Log {
    /// An empty log and the right to write it.
    pub(crate) fn new() -> (Arc<Self>, LogWriter) {
        let log = Arc::new(Self { watermark: AtomicU32::new(0), extents: boxcar::Vec::new() });
        let open = Open::with_capacity(0, 0);
        let removals = Removals::default();
        let writer = LogWriter { log: Arc::clone(&log), len: 0, open, extends_open: false, removals };
        (log, writer)
    }

    /// What is published now.
    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        View { log: self, len: self.watermark.load(Ordering::Acquire) }
    }

    /// What was published when the watermark stood at `len`, as a view has told.
    pub(crate) fn view_of(&self, len: u32) -> View<'_> {
        let now = self.view();
        assert!(len <= now.len, "{len} of {} events", now.len);
        View { len, ..now }
    }
}

impl LogWriter {
    /// Events written so far, published or not.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The log.
    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Copies `headers`, whose data lie in `data`, behind what is written. Readers see nothing of it yet.
    pub(crate) fn copy(&mut self, headers: &mut [Header], data: &[u8]) {
        assert_inside(headers, data.len());
        if !self.open.takes(headers.len(), data.len()) {
            self.open = self.open.next(headers.len(), data.len());
            self.extends_open = false;
        }
        let Open { block, headers: filled, data: base } = &mut self.open;
        for header in headers.iter_mut() {
            header.rebase(*base as u32);
        }
        // SAFETY: `takes` or `next` made room for both; `self` is the only writer, and the places behind what is filled are in
        // no extent below the watermark.
        unsafe {
            block.headers.write(*filled, headers);
            block.data.write(*base, data);
        }
        if !self.extends_open {
            let extent = Extent { first: self.len, offset: *filled as u32, block: Some(Arc::clone(block)) };
            self.log.extents.push(extent);
            self.extends_open = true;
        }
        *filled += headers.len();
        *base += data.len();
        self.len += headers.len() as u32;
    }

    /// Makes a block of `headers` and their `data` without copying them. Readers see nothing of it yet.
    pub(crate) fn adopt(&mut self, headers: Vec<Header>, data: Vec<u8>) {
        assert_inside(&headers, data.len());
        let count = headers.len() as u32;
        let block = Arc::new(Block::adopt(headers, data));
        self.log.extents.push(Extent { first: self.len, offset: 0, block: Some(block) });
        self.extends_open = false;
        self.len += count;
    }

    /// Lets readers see everything that is written.
    #[inline]
    pub(crate) fn publish(&mut self) {
        self.log.watermark.store(self.len, Ordering::Release);
    }
}

/// Every header's data lie inside `bytes` bytes: what readers rely on.
fn assert_inside(headers: &[Header], bytes: usize) {
    let end = headers.iter().map(Header::data_end).max().unwrap_or(0);
    assert!(end <= bytes, "a header points behind its data");
}

/// The events of a log up to a watermark. It does not change while others append.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    log: &'a Log,
    len: u32,
}

impl<'a> View<'a> {
    /// How many events there are.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The run of events that holds event `index` (from 0, below [`View::len`]), which is there. `hint` is where the last call found its
    /// run; it makes the search for a neighbour short.
    #[inline]
    pub(crate) fn run(&self, index: u32, hint: &mut usize) -> Run<'a> {
        self.run_or_hole(index, hint).unwrap_or_else(|_| panic!("event {index} is removed"))
    }

    /// As [`View::run`], for an event that may be removed.
    #[inline]
    pub(crate) fn run_or_hole(&self, index: u32, hint: &mut usize) -> Result<Run<'a>, Hole> {
        assert!(index < self.len, "event {index} of {}", self.len);
        let extents = &self.log.extents;
        let starts_by = |at: usize| extents.get(at).is_some_and(|extent| extent.first <= index);
        if !starts_by(*hint) || starts_by(*hint + 1) {
            *hint = match () {
                () if starts_by(*hint + 1) && !starts_by(*hint + 2) => *hint + 1,
                () => last_where(extents.count(), starts_by),
            };
        }
        let extent = &extents[*hint];
        let end = extents.get(*hint + 1).map_or(self.len, |next| next.first.min(self.len));
        let (offset, count) = (extent.offset as usize, (end - extent.first) as usize);
        let Some(block) = &extent.block else { return Err(Hole { end }) };
        // SAFETY: events below the watermark were written before it was stored, and this view loaded it (acquire) after that;
        // written events never change.
        let headers = unsafe { block.headers.slice(offset, count) };
        Ok(Run { first: extent.first, headers, offset: extent.offset, block })
    }
}

/// The last index below `count` for which `holds`, which holds for a prefix that is not empty.
fn last_where(count: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut yes, mut no) = (0, count);
    while no - yes > 1 {
        let middle = yes + (no - yes) / 2;
        if holds(middle) { yes = middle } else { no = middle }
    }
    yes
}

/// Events that are removed, and whose memory may be free.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hole {
    /// The first event behind them.
    pub(crate) end: u32,
}

/// Published events that lie side by side.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// Index of the first, from 0.
    pub(crate) first: u32,
    pub(crate) headers: &'a [Header],
    /// Index of the first header in the block.
    offset: u32,
    block: &'a Arc<Block>,
}

impl<'a> Run<'a> {
    /// The header of event `index`, which lies in this run, and the event's data.
    #[inline]
    pub(crate) fn event(&self, index: u32) -> Entry<'a> {
        Entry { header: &self.headers[(index - self.first) as usize], block: self.block }
    }

    /// Whether event `index` lies in this run.
    #[inline]
    pub(crate) fn holds(&self, index: u32) -> bool {
        index.wrapping_sub(self.first) < self.headers.len() as u32
    }

    /// Tells blocks apart, for as long as they live.
    pub(crate) fn block_address(&self) -> *const () {
        Arc::as_ptr(self.block).cast()
    }

    /// The data of the block up to the end of this run, as bytes that keep the block alive.
    pub(crate) fn shared_data(&self) -> Bytes {
        let len = self.headers.last().map_or(0, Header::data_end);
        Bytes::from_owner(FilledData { block: Arc::clone(self.block), len })
    }
}

/// One published event.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    header: &'a Header,
    block: &'a Arc<Block>,
}

impl<'a> Entry<'a> {
    pub(crate) fn header(&self) -> &'a Header {
        self.header
    }

    /// Payload, metadata and ids.
    #[inline]
    pub(crate) fn data(&self) -> &'a [u8] {
        let (start, end) = (self.header.data_start(), self.header.data_end());
        // SAFETY: an entry is made by a run alone, so its header is published; its data were written before it, inside the
        // block (`assert_inside`), and never change.
        unsafe { self.block.data.slice(start, end - start) }
    }
}

struct FilledData {
    block: Arc<Block>,
    len: usize,
}

impl AsRef<[u8]> for FilledData {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: made by `Run::shared_data` alone: a block's data are filled from the front, up to the end of a published
        // header at least, and never change.
        unsafe { self.block.data.slice(0, self.len) }
    }
}

#[cfg(all(test, not(event_store_loom)))]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::event::NewEvent;
    use crate::name::EventType;

    fn batch(count: usize, payload: usize) -> Batch {
        let mut batch = Batch::default();
        let event = |i: usize| NewEvent::new(EventType::new("E").expect("valid"), vec![i as u8; payload]);
        batch.extend((0..count).map(event), 0);
        batch
    }

    #[test]
    fn copied_and_adopted_batches_read_back_in_order() {
        let (log, mut writer) = Log::new();
        for (round, count) in [1, 1, 40, 1, 500, 3].into_iter().enumerate() {
            let mut batch = batch(count, 100);
            if round % 2 == 0 {
                writer.copy(&mut batch.headers, &batch.data);
            } else {
                writer.adopt(batch.headers.into_vec(), batch.data.into_vec());
            }
        }
        assert_eq!(log.view().len(), 0, "nothing is seen before it is published");
        writer.publish();
        let view = log.view();
        let mut expected = [1, 1, 40, 1, 500, 3].into_iter().flat_map(|count| 0..count);
        let mut hint = 0;
        for index in 0..view.len() {
            let entry = view.run(index, &mut hint).event(index);
            assert_eq!(entry.data(), vec![expected.next().expect("as many") as u8; 100]);
        }
        assert_eq!(expected.next(), None);
    }

    #[test]
    fn events_without_data_are_copied_and_adopted() {
        let (log, mut writer) = Log::new();
        for count in [1, 100, 2] {
            let mut batch = batch(count, 0);
            if count == 100 {
                writer.adopt(batch.headers.into_vec(), batch.data.into_vec());
            } else {
                writer.copy(&mut batch.headers, &batch.data);
            }
            writer.publish();
        }
        let view = log.view();
        assert_eq!(view.len(), 103);
        assert!((0..103).all(|index| view.run(index, &mut 0).event(index).data().is_empty()));
    }

    #[test]
    fn blocks_of_every_size_read_back() {
        let (log, mut writer) = Log::new();
        // Beyond the largest block, past the first that is mapped at once.
        let payload = 1_000;
        for number in 0..9_000_u32 {
            let mut batch = batch(1, payload);
            batch.data[..4].copy_from_slice(&number.to_ne_bytes());
            writer.copy(&mut batch.headers, &batch.data);
        }
        writer.publish();
        let (view, mut hint) = (log.view(), 0);
        for index in 0..view.len() {
            assert_eq!(view.run(index, &mut hint).event(index).data()[..4], index.to_ne_bytes());
        }
    }

    #[test]
    fn shared_data_outlive_the_log() {
        let (log, mut writer) = Log::new();
        let mut batch = batch(3, 10);
        writer.copy(&mut batch.headers, &batch.data);
        writer.publish();
        let bytes = log.view().run(0, &mut 0).shared_data();
        drop((log, writer));
        assert_eq!(&bytes[10..20], [1; 10]);
    }

    #[test]
    #[should_panic(expected = "behind its data")]
    fn header_that_points_behind_its_data_is_refused() {
        let (_, mut writer) = Log::new();
        let mut batch = batch(2, 10);
        writer.copy(&mut batch.headers, &batch.data[..19]);
    }
}
