//! A handler whose batches end when, and how, the test says; and futures that tell whether they were woken.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use fastrand::Rng;
use swarm_batcher::{Batch, BatchError, BatchHandler};
use tokio::sync::oneshot;

/// What a handler answers an item that it does not refuse.
pub(crate) fn answer(item: u64) -> u64 {
    item * 10 + 7
}

/// How a batch ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Every item is answered, those in the list by an error.
    Answers { errors: Vec<u64> },
    /// Items from this place on are not answered.
    Leaves(usize),
    /// A panic, after so many were answered.
    Panics(usize),
    /// A list of so many results, whatever the number of items.
    Results(usize),
}

impl End {
    pub(crate) fn well() -> Self {
        Self::Answers { errors: Vec::new() }
    }

    /// Any end of a batch of these items.
    pub(crate) fn random(rng: &mut Rng, items: &[u64]) -> Self {
        let number = rng.usize(0..=items.len());
        match rng.u32(0..6) {
            0 => Self::Leaves(number),
            1 => Self::Panics(number),
            2 => Self::Results((items.len() + rng.usize(0..3)).saturating_sub(1)),
            _ => Self::Answers { errors: items.iter().copied().filter(|_| rng.u32(0..4) == 0).collect() },
        }
    }

    /// What it makes of each of `items`, in their order.
    pub(crate) fn outcomes(&self, items: &[u64]) -> Vec<Result<u64, BatchError<String>>> {
        let outcome = |(place, &item): (usize, &u64)| match self {
            Self::Answers { errors } if errors.contains(&item) => Err(BatchError::Handler(format!("not {item}"))),
            Self::Answers { .. } => Ok(answer(item)),
            Self::Leaves(answered) | Self::Panics(answered) if place < *answered => Ok(answer(item)),
            Self::Leaves(_) => Err(BatchError::NoReply),
            Self::Panics(_) => Err(BatchError::Panicked),
            Self::Results(results) if *results == items.len() => Ok(answer(item)),
            Self::Results(results) => {
                Err(BatchError::WrongLength { items: items.len() as u32, results: *results as u32 })
            }
        };
        items.iter().enumerate().map(outcome).collect()
    }
}

/// A batch that runs.
pub(crate) struct Running {
    pub(crate) items: Vec<u64>,
    end: oneshot::Sender<End>,
}

impl Running {
    pub(crate) fn end(self, end: End) {
        // A batch that was dropped with its runtime hears nothing any more.
        let _dropped = self.end.send(end);
    }
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Gated {
    running: Arc<Mutex<Vec<Running>>>,
    pub(crate) batches: Arc<AtomicU64>,
}

impl Gated {
    /// The batches that run, the oldest first. They are the caller's to end.
    pub(crate) fn take(&self) -> Vec<Running> {
        std::mem::take(&mut *self.running.lock().expect("no panic under it"))
    }
}

impl BatchHandler<u64> for Gated {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        let (sender, end) = oneshot::channel();
        let items = batch.items().copied().collect();
        self.running.lock().expect("no panic under it").push(Running { items, end: sender });
        self.batches.fetch_add(1, Ordering::Relaxed);
        let end = end.await.unwrap_or(End::Leaves(0));
        if let End::Results(results) = end {
            let all = batch.items().map(|&item| Ok(answer(item))).chain(std::iter::repeat(Ok(0)));
            let all: Vec<_> = all.take(results).collect();
            batch.reply_all(all);
            return;
        }
        for (place, slot) in batch.iter_mut().enumerate() {
            let item = *slot.item();
            match &end {
                End::Answers { errors } if errors.contains(&item) => slot.reply(Err(format!("not {item}"))),
                End::Answers { .. } => slot.reply(Ok(answer(item))),
                End::Leaves(answered) | End::Panics(answered) if place < *answered => slot.reply(Ok(answer(item))),
                End::Leaves(_) | End::Results(_) => {}
                End::Panics(_) => std::panic::resume_unwind(Box::new("the handler panics")),
            }
        }
        if let End::Panics(_) = end {
            std::panic::resume_unwind(Box::new("the handler panics"));
        }
    }
}

/// A handler that answers at once.
#[derive(Clone, Default)]
pub(crate) struct AtOnce {
    pub(crate) batches: Arc<AtomicU64>,
}

impl BatchHandler<u64> for AtOnce {
    type Output = u64;
    type Error = String;

    async fn handle(&self, mut batch: Batch<'_, u64, u64, String>) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        for slot in batch.iter_mut() {
            let reply = answer(*slot.item());
            slot.reply(Ok(reply));
        }
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future that is polled by hand, and only when it was woken.
pub(crate) struct Watched<T> {
    future: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    flag: Arc<Flag>,
}

impl<T> Watched<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self { future: Some(Box::pin(future)), flag }
    }

    /// Polls it if it was woken since the last time; once ready it is gone.
    pub(crate) fn poll(&mut self) -> Option<T> {
        if !self.flag.0.swap(false, Ordering::SeqCst) {
            return None;
        }
        let waker = Waker::from(Arc::clone(&self.flag));
        match self.future.as_mut()?.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => {
                self.future = None;
                Some(output)
            }
            Poll::Pending => None,
        }
    }
}

/// Lets every task of this thread's runtime go as far as it can.
pub(crate) async fn settle() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}
