//! What could not be delivered, kept for whoever asks for it.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DeliveryError;
use crate::dead_letter::DeadLetter;
use crate::error::{BatchError, Reason};
use crate::telemetry::EncodedItem;

pub(super) type Letter = DeadLetter<EncodedItem, DeliveryError>;

/// See the module. It never refuses a letter: whoever takes items asks before whether it is full.
pub(super) struct DeadLetters {
    max_items: usize,
    max_bytes: u64,
    kept: Mutex<Kept>,
    /// Beside the lock, which is held while letters are copied.
    full: AtomicBool,
}

#[derive(Default)]
struct Kept {
    letters: Vec<Letter>,
    bytes: u64,
}

impl DeadLetters {
    pub(super) fn new(max_items: usize, max_bytes: u64) -> Self {
        Self { max_items, max_bytes, kept: Mutex::default(), full: AtomicBool::new(false) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one of the bounds is reached.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }

    /// How many there are, and the bytes of their items.
    pub(super) fn size(&self) -> (usize, u64) {
        let kept = self.kept();
        (kept.letters.len(), kept.bytes)
    }

    pub(super) fn keep(&self, letters: impl IntoIterator<Item = Letter>) {
        let mut kept = self.kept();
        for letter in letters {
            kept.bytes += letter.item.as_ref().map_or(0, |item| item.as_bytes().len() as u64);
            kept.letters.push(letter);
        }
        self.full.store(kept.letters.len() >= self.max_items || kept.bytes >= self.max_bytes, Relaxed);
    }

    pub(super) fn copy(&self) -> Vec<Letter> {
        self.kept().letters.clone()
    }

    pub(super) fn take(&self) -> Vec<Letter> {
        let mut kept = self.kept();
        self.full.store(false, Relaxed);
        std::mem::take(&mut *kept).letters
    }
}

/// Where items go that fail for good, if nobody else wants them.
#[derive(Clone)]
pub(super) struct LastResort {
    letters: Arc<DeadLetters>,
    /// What fails from now on fails for good.
    leaving: Arc<AtomicBool>,
}

impl LastResort {
    pub(super) fn new(letters: &Arc<DeadLetters>, leaving: &Arc<AtomicBool>) -> Self {
        Self { letters: Arc::clone(letters), leaving: Arc::clone(leaving) }
    }

    /// Whether items that failed so are not sent again.
    pub(super) fn is_wanted(&self, error: &DeliveryError) -> bool {
        error.is_permanent() || self.leaving.load(Relaxed)
    }

    pub(super) fn keep(&self, items: Vec<EncodedItem>, error: &DeliveryError) {
        let letter = |item| DeadLetter { item: Some(item), error: BatchError::Handler(error.clone()) };
        self.letters.keep(items.into_iter().map(letter));
    }

    /// Whether it keeps what the batcher gives up: not what made room for later items, which whoever set it up wants to lose.
    pub(super) fn claim(&self, letter: Letter) -> bool {
        if matches!(letter.error, BatchError::Rejected(Reason::Shed)) {
            return false;
        }
        // Without an item, it is of a batch whose items were kept when its POST failed.
        if letter.item.is_some() {
            self.letters.keep([letter]);
        }
        true
    }
}
