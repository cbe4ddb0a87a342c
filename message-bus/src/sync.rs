//! The one place that decides whose atomics, locks and cells the ring uses: the standard library's; loom's under the crate's own
//! `--cfg message_bus_loom` (loom's global cfg would reach dependencies that do not build under it); shuttle's under
//! `--cfg message_bus_shuttle`.

#[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
mod native {
    pub(crate) use std::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    };

    pub(crate) use atomic_waker::AtomicWaker;
    pub(crate) use event_listener::{Event, EventListener};

    /// A full fence. On x86-64 a locked instruction on a line that is at hand costs half of what `mfence` does.
    #[inline]
    pub(crate) fn full_fence() {
        #[cfg(target_arch = "x86_64")]
        {
            // Not an idempotent one: the compiler would make an `mfence` of it again.
            let here = AtomicBool::new(false);
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
            std::hint::black_box(&here).swap(true, Ordering::SeqCst);
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        }
        #[cfg(not(target_arch = "x86_64"))]
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    pub(crate) fn give_up_the_processor() {
        std::thread::yield_now();
    }

    /// A full fence in every thread of the process that is running. False if the machine has none.
    #[cfg(target_os = "linux")]
    pub(crate) fn process_wide_barrier() -> bool {
        use rustix::thread::{MembarrierCommand, membarrier};

        static REGISTERED: std::sync::LazyLock<bool> =
            std::sync::LazyLock::new(|| membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok());
        *REGISTERED && membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn process_wide_barrier() -> bool {
        false
    }
}

#[cfg(not(any(message_bus_loom, message_bus_shuttle)))]
pub(crate) use native::*;

#[cfg(message_bus_loom)]
mod model {
    pub(crate) use loom::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    };

    pub(crate) fn full_fence() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }

    pub(crate) fn give_up_the_processor() {
        loom::thread::yield_now();
    }

    /// Loom has none.
    pub(crate) fn process_wide_barrier() -> bool {
        false
    }
}

#[cfg(all(message_bus_shuttle, not(message_bus_loom)))]
mod model {
    pub(crate) use shuttle::sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    };

    /// Shuttle's schedules are sequentially consistent.
    pub(crate) fn full_fence() {
        shuttle::sync::atomic::fence(Ordering::SeqCst);
    }

    pub(crate) fn give_up_the_processor() {
        shuttle::thread::yield_now();
    }

    /// Every fence of shuttle's is.
    pub(crate) fn process_wide_barrier() -> bool {
        full_fence();
        true
    }
}

#[cfg(any(message_bus_loom, message_bus_shuttle))]
pub(crate) use model::*;

/// In place of atomic-waker and event-listener, whose own synchronisation a model cannot follow.
#[cfg(any(message_bus_loom, message_bus_shuttle))]
mod stand_ins {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::{Arc, Mutex};

    /// One waker, replaced under a lock.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicWaker(Mutex<Option<Waker>>);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn register(&self, waker: &Waker) {
            *self.0.lock().expect("a model does not panic under this lock") = Some(waker.clone());
        }

        pub(crate) fn wake(&self) {
            let waker = self.0.lock().expect("a model does not panic under this lock").take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Every notification wakes every listener.
    #[derive(Debug, Default)]
    pub(crate) struct Event(Arc<Mutex<(u64, Vec<Waker>)>>);

    impl Event {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn listen(&self) -> EventListener {
            let seen = self.0.lock().expect("a model does not panic under this lock").0;
            EventListener { event: Arc::clone(&self.0), seen }
        }

        pub(crate) fn notify(&self, _: usize) {
            let wakers = {
                let mut state = self.0.lock().expect("a model does not panic under this lock");
                state.0 += 1;
                std::mem::take(&mut state.1)
            };
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    #[derive(Debug)]
    pub(crate) struct EventListener {
        event: Arc<Mutex<(u64, Vec<Waker>)>>,
        seen: u64,
    }

    impl Future for EventListener {
        type Output = ();

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let mut state = self.event.lock().expect("a model does not panic under this lock");
            if state.0 != self.seen {
                return Poll::Ready(());
            }
            state.1.push(context.waker().clone());
            Poll::Pending
        }
    }
}

#[cfg(any(message_bus_loom, message_bus_shuttle))]
pub(crate) use stand_ins::{AtomicWaker, Event, EventListener};
