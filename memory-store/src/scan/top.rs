//! The best so far.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering as Memory};

use crate::scoring::ScoreParts;

/// A row that is among the best.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) score: f64,
    pub(crate) id: u64,
    pub(crate) segment: u32,
    pub(crate) row: u32,
    pub(crate) parts: ScoreParts,
    pub(crate) recurrence: u32,
}

impl Found {
    /// Better first: the higher score, among equals the lower id.
    fn rank(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.id.cmp(&self.id))
    }
}

impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.rank(other).is_eq()
    }
}

impl Eq for Found {}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank(other)
    }
}

/// The best `k` rows that one thread has found.
#[derive(Debug)]
pub(crate) struct Top {
    k: usize,
    heap: BinaryHeap<Reverse<Found>>,
}

impl Top {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.min(1024)) }
    }

    /// Takes `found` if it is among the best. Returns the score of the last of the best, once there are `k`.
    pub(crate) fn offer(&mut self, found: Found) -> Option<f64> {
        if self.heap.len() < self.k {
            self.heap.push(Reverse(found));
        } else if let Some(mut last) = self.heap.peek_mut()
            && last.0 < found
        {
            last.0 = found;
        }
        if self.heap.len() < self.k { None } else { self.heap.peek().map(|last| last.0.score) }
    }

    /// The best, best first.
    pub(crate) fn into_sorted(self) -> Vec<Found> {
        self.heap.into_sorted_vec().into_iter().map(|Reverse(found)| found).collect()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for Reverse(found) in other.heap {
            self.offer(found);
        }
    }
}

/// The score that a row needs, for all threads of a query. It only rises.
#[derive(Debug)]
pub(crate) struct Bar(AtomicU64);

impl Bar {
    pub(crate) fn new(score: f64) -> Self {
        Self(AtomicU64::new(score.to_bits()))
    }

    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Memory::Relaxed))
    }

    pub(crate) fn raise(&self, score: f64) {
        let higher = |bits| (f64::from_bits(bits) < score).then_some(score.to_bits());
        let _ = self.0.fetch_update(Memory::Relaxed, Memory::Relaxed, higher);
    }
}
