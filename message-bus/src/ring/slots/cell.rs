//! The memory of one message.

use std::mem::MaybeUninit;

/// A value's memory. Loom follows who touches it.
#[cfg(not(message_bus_loom))]
pub(super) struct Cell<T>(std::cell::UnsafeCell<MaybeUninit<T>>);

#[cfg(not(message_bus_loom))]
impl<T> Cell<T> {
    pub(super) fn new() -> Self {
        Self(std::cell::UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// # Safety
    /// Nobody else is at the cell.
    #[inline]
    pub(super) unsafe fn write(&self, value: T) {
        // SAFETY: the caller's promise.
        unsafe { (*self.0.get()).write(value) };
    }

    /// Writes the value that lies at `value`; see [`copy`].
    ///
    /// # Safety
    /// Nobody else is at the cell, `value` is valid for reads, and is treated as moved out of afterwards.
    #[inline(always)]
    pub(super) unsafe fn write_from(&self, value: *const T) {
        // SAFETY: the caller's promise; a message outside of the ring is not within it.
        unsafe { copy(value, self.0.get().cast()) };
    }

    /// # Safety
    /// There is a value, and nobody else is at the cell, now and until the next write.
    #[inline]
    pub(super) unsafe fn read(&self) -> T {
        // SAFETY: the caller's promise.
        unsafe { (*self.0.get()).assume_init_read() }
    }

    /// # Safety
    /// There is a value, and nobody writes or takes it while the reference lives.
    #[inline]
    pub(super) unsafe fn get(&self) -> &T {
        // SAFETY: the caller's promise.
        unsafe { (*self.0.get()).assume_init_ref() }
    }
}

/// Moves a value word by word where it is made of words.
///
/// A copy by larger pieces than the value was just put together from would have to wait until the processor's pending stores are done,
/// and these wait for the ring's cache lines to come over from its subscribers.
///
/// # Safety
/// As for [`std::ptr::copy_nonoverlapping`] of one value, which is treated as moved out of afterwards.
#[inline(always)]
pub(super) unsafe fn copy<T>(from: *const T, to: *mut T) {
    const WORD: usize = size_of::<u64>();
    const MOST: usize = 16 * WORD;
    if size_of::<T>() <= MOST && size_of::<T>().is_multiple_of(WORD) && align_of::<T>() >= WORD {
        let (from, to) = (from.cast::<MaybeUninit<u64>>(), to.cast::<MaybeUninit<u64>>());
        for word in 0..size_of::<T>() / WORD {
            // SAFETY: both are aligned for words and as long as `T`; words may be uninitialised, where `T` has padding. Volatile so that
            // the words stay words.
            unsafe { to.add(word).write_volatile(from.add(word).read()) };
        }
    } else {
        // SAFETY: the caller's promise.
        unsafe { to.copy_from_nonoverlapping(from, 1) };
    }
}

#[cfg(message_bus_loom)]
pub(super) struct Cell<T>(loom::cell::UnsafeCell<MaybeUninit<T>>);

#[cfg(message_bus_loom)]
impl<T> Cell<T> {
    pub(super) fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(MaybeUninit::uninit()))
    }

    pub(super) unsafe fn write(&self, value: T) {
        // SAFETY: the caller's promise.
        self.0.with_mut(|cell| unsafe { (*cell).write(value) });
    }

    pub(super) unsafe fn write_from(&self, value: *const T) {
        // SAFETY: the caller's promise.
        self.0.with_mut(|cell| unsafe { cell.cast::<T>().copy_from_nonoverlapping(value, 1) });
    }

    pub(super) unsafe fn read(&self) -> T {
        // SAFETY: the caller's promise.
        self.0.with_mut(|cell| unsafe { (*cell).assume_init_read() })
    }

    pub(super) unsafe fn get(&self) -> &T {
        // SAFETY: the caller's promise; the end of the loan is checked by `touch`.
        self.0.with(|cell| unsafe { (*cell).assume_init_ref() })
    }

    /// A reading access at the end of a loan.
    pub(super) fn touch(&self) {
        self.0.with(|_| ());
    }
}
