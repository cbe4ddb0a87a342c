//! A thread that sleeps until the alarm is due. It ends with the alarm.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

#[derive(Debug)]
pub(crate) struct ThreadAlarm {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    due: Option<Instant>,
    fired: bool,
    waker: Option<Waker>,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.over {
            let now = Instant::now();
            state = match state.due {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(due) if due > now => {
                    self.changed.wait_timeout(state, due - now).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    state.due = None;
                    state.fired = true;
                    let waker = state.waker.take();
                    drop(state);
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                    self.lock()
                }
            };
        }
    }
}

impl ThreadAlarm {
    /// # Panics
    /// If the process may start no more threads.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let run = Arc::clone(&shared);
        let name = "swarm-batcher-alarm".to_owned();
        thread::Builder::new().name(name).spawn(move || run.run()).expect("a thread for the alarm");
        Self { shared }
    }

    pub(crate) fn set(&self, due: Instant) {
        self.shared.lock().due = Some(due);
        self.shared.changed.notify_one();
    }

    pub(crate) fn watch(&self) -> ThreadWatch {
        ThreadWatch { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for ThreadAlarm {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_one();
    }
}

#[derive(Debug)]
pub(crate) struct ThreadWatch {
    shared: Arc<Shared>,
}

impl ThreadWatch {
    pub(crate) fn poll_fired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if std::mem::take(&mut state.fired) {
            return Poll::Ready(());
        }
        let old = state.waker.replace(context.waker().clone());
        drop(state);
        drop(old);
        Poll::Pending
    }
}
