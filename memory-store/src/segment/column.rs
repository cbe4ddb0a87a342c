//! A fixed number of values of one kind, zero until they are written.

#![allow(unsafe_code, reason = "memory that one thread writes while others read what is done")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use bytemuck::AnyBitPattern;

use crate::durable::sections::SectionFile;
use crate::error::Error;
use crate::mapping::Scratch;

/// What a column may hold: kinds of which all zeros are a value, and that need no drop.
///
/// # Safety
///
/// All bytes zero is a valid value of the type, and it has no drop of its own.
pub(crate) unsafe trait Plain {}

// SAFETY: numbers, and words that are changed in place: zeros are values of them, and nothing has to be dropped.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for i64 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for [f32; 2] {}
// SAFETY: as above.
unsafe impl Plain for std::sync::atomic::AtomicU8 {}
// SAFETY: as above.
unsafe impl Plain for std::sync::atomic::AtomicU32 {}
// SAFETY: as above.
unsafe impl Plain for std::sync::atomic::AtomicU64 {}
// SAFETY: as above.
unsafe impl Plain for std::sync::atomic::AtomicI64 {}
// SAFETY: as above; whoever puts a value in sees to its drop.
unsafe impl<T> Plain for std::mem::MaybeUninit<T> {}

/// A fixed number of values on cache lines of their own. Pages that nobody has written cost no memory. Who writes a value sees to it that
/// nobody reads it meanwhile: [`Rows`](super::Rows) and [`Appender`](super::Appender) do.
pub(crate) struct Column<T: Plain> {
    start: NonNull<T>,
    len: usize,
    owner: Owner,
}

/// Whose memory a column is.
enum Owner {
    /// Allocated by the column.
    Heap,
    /// Pages that the operating system may write out.
    Scratch { _pages: Scratch },
    /// A file, which is read only.
    File { _file: Arc<SectionFile> },
}

// SAFETY: a column is memory of its own, and goes with its values.
unsafe impl<T: Plain + Send> Send for Column<T> {}
// SAFETY: what is shared of it is `&T`; values are written through a shared column, but the caller orders writes.
unsafe impl<T: Plain + Send + Sync> Sync for Column<T> {}

impl<T: Plain> Column<T> {
    pub(crate) fn new(len: usize) -> Self {
        let Some(layout) = Self::layout(len) else {
            return Self { start: NonNull::dangling(), len, owner: Owner::Heap };
        };
        // SAFETY: the layout has a size above 0.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(memory.cast()) else { handle_alloc_error(layout) };
        huge_pages(memory, layout.size());
        Self { start, len, owner: Owner::Heap }
    }

    /// With a directory, values in a file there that has no name: pages of it need not stay in memory.
    pub(crate) fn in_dir(len: usize, dir: Option<&Path>) -> Result<Self, Error> {
        let (Some(_), Some(layout)) = (dir, Self::layout(len)) else { return Ok(Self::new(len)) };
        let pages = Scratch::new(dir, layout.size())?;
        assert!(pages.len() >= layout.size(), "pages for the column");
        let start = NonNull::new(pages.as_ptr().cast()).expect("pages have an address");
        Ok(Self { start, len, owner: Owner::Scratch { _pages: pages } })
    }

    /// The numbers of a section, of which there have to be `len`. They are never written.
    pub(crate) fn of_file(file: &Arc<SectionFile>, tag: u32, len: usize) -> Result<Self, Error>
    where
        T: AnyBitPattern,
    {
        let numbers = file.numbers::<T>(tag)?;
        if numbers.len() != len {
            let reason = format!("section {tag} has {} numbers, not {len}", numbers.len());
            return Err(Error::corrupt(file.path(), 0, reason));
        }
        let start = NonNull::from(numbers).cast();
        Ok(Self { start, len, owner: Owner::File { _file: Arc::clone(file) } })
    }

    /// `None` for no bytes at all.
    fn layout(len: usize) -> Option<Layout> {
        let layout = Layout::array::<T>(len).and_then(|layout| layout.align_to(64)).expect("a column fits in memory");
        (layout.size() > 0).then_some(layout)
    }

    /// The values of `range`.
    ///
    /// # Safety
    ///
    /// Nobody writes to them while the slice lives, but through `&T`.
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &[T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of a column of {}", self.len);
        // SAFETY: the range lies in the column, whose values are initialised; the caller sees to it that nobody writes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) }
    }

    /// Puts `values` down from `at` on.
    ///
    /// # Safety
    ///
    /// Nobody reads or writes these values meanwhile.
    pub(crate) unsafe fn write(&self, at: usize, values: &[T]) {
        assert!(at <= self.len && values.len() <= self.len - at, "{} values at {at} of {}", values.len(), self.len);
        assert!(!matches!(self.owner, Owner::File { .. }), "a file is read only");
        // SAFETY: the places lie in the column, and a slice of the caller's cannot overlap with memory of the column that nobody else uses.
        // What was there needs no drop (`Plain`).
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.as_ptr().add(at), values.len()) };
    }
}

/// Asks for huge pages where a column is large: a first touch of many small pages costs more than what is written to them.
#[cfg(target_os = "linux")]
fn huge_pages(memory: *mut u8, bytes: usize) {
    const HUGE: usize = 2 << 20;
    let first = memory.align_offset(HUGE);
    if let Some(rest) = bytes.checked_sub(first)
        && rest >= HUGE
    {
        // SAFETY: the advice covers whole pages inside of this allocation, and changes nothing that can be read. That it is refused where
        // there are no huge pages is no matter.
        let _ = unsafe {
            rustix::mm::madvise(memory.add(first).cast(), rest / HUGE * HUGE, rustix::mm::Advice::LinuxHugepage)
        };
    }
}

#[cfg(not(target_os = "linux"))]
fn huge_pages(_: *mut u8, _: usize) {}

impl<T: Plain> Drop for Column<T> {
    fn drop(&mut self) {
        if let (Owner::Heap, Some(layout)) = (&self.owner, Self::layout(self.len)) {
            // SAFETY: allocated by `new` with this layout.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}

/// A column that takes no memory until a value other than zero is put down, which most segments never see.
#[derive(Debug)]
pub(crate) struct Rare<T: Plain> {
    column: OnceLock<Column<T>>,
    len: usize,
}

impl<T: Plain + AnyBitPattern> Rare<T> {
    pub(crate) fn new(len: usize) -> Self {
        Self { column: OnceLock::new(), len }
    }

    /// As [`Column::of_file`].
    pub(crate) fn of_file(file: &Arc<SectionFile>, tag: u32, len: usize) -> Result<Self, Error> {
        Ok(Self { column: Column::of_file(file, tag, len)?.into(), len })
    }

    /// One value.
    ///
    /// # Safety
    ///
    /// That of [`Column::slice`].
    pub(crate) unsafe fn get(&self, at: usize) -> T {
        // SAFETY: as the caller promises.
        self.column.get().map_or(T::zeroed(), |column| unsafe { column.slice(at..at + 1)[0] })
    }

    /// The first `len` values; `None` if all are zero.
    ///
    /// # Safety
    ///
    /// That of [`Column::slice`].
    pub(crate) unsafe fn slice(&self, len: usize) -> Option<&[T]> {
        // SAFETY: as the caller promises.
        self.column.get().map(|column| unsafe { column.slice(0..len) })
    }

    /// Puts a value down.
    ///
    /// # Safety
    ///
    /// That of [`Column::write`].
    pub(crate) unsafe fn write(&self, at: usize, value: T)
    where
        T: PartialEq,
    {
        if value == T::zeroed() && self.column.get().is_none() {
            return;
        }
        // SAFETY: as the caller promises.
        unsafe { self.column.get_or_init(|| Column::new(self.len)).write(at, &[value]) };
    }
}

impl<T: Plain> fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Column").field("len", &self.len).finish_non_exhaustive()
    }
}
