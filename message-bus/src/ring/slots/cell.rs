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
