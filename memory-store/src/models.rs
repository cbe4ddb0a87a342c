//! Models of what readers and the writer do to each other, under loom: every order of their steps, with all that the memory of a machine
//! may do about them. Rows are played by cells here; the bounds, the order in which they and the rows change, and the sequence are the
//! store's own.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::thread;

use crate::clock::Timestamp;
use crate::decay::DecayTable;
use crate::segment::{Maxima, Standing, raise_then};
use crate::view::Sequence;

fn standing(recurrence: u32) -> Standing {
    Standing { seen: Timestamp(i64::from(recurrence)), recurrence, importance: 0.5, weight: 1.0, class: 1 }
}

/// Whoever has seen a merge in a row never skips the row's group by bounds from before it: else it would see less later than sooner.
#[test]
fn loom_a_merge_raises_bounds_before_the_row() {
    loom::model(|| {
        let maxima = Maxima::new();
        maxima.raise(&standing(1));
        let shared = Arc::new((maxima, AtomicU32::new(1)));
        let writer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                raise_then(&[&shared.0], &standing(2), || shared.1.store(2, Ordering::Release));
            })
        };
        let seen = shared.1.load(Ordering::Acquire);
        let upper = shared.0.upper(&DecayTable::default(), Timestamp(0));
        assert!(upper.recurrence >= seen, "a row of {seen} is skipped as one of {}", upper.recurrence);
        writer.join().expect("a writer");
        assert_eq!(shared.0.upper(&DecayTable::default(), Timestamp(0)).recurrence, 2);
    });
}

/// A row is read only once it was written, and a row that replaces another is seen in its place: never both, never neither.
#[test]
fn loom_a_revision_is_seen_once() {
    struct Rows {
        published: Sequence,
        contents: [AtomicU32; 3],
        died: [AtomicU64; 3],
    }
    impl Rows {
        fn revise(&self, old: usize, new: usize) {
            // What is written without order here is written by plain stores in a segment.
            self.contents[new].store(7, Ordering::Relaxed);
            self.died[old].store(new as u64 + 1, Ordering::Release);
            self.published.publish(new as u64 + 1);
        }
    }
    loom::model(|| {
        let rows = Arc::new(Rows {
            published: Sequence::new(1),
            contents: [AtomicU32::new(7), AtomicU32::new(0), AtomicU32::new(0)],
            died: [AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)],
        });
        let writer = {
            let rows = Arc::clone(&rows);
            thread::spawn(move || {
                rows.revise(0, 1);
                rows.revise(1, 2);
            })
        };
        let now = rows.published.now();
        let mut seen = 0;
        for row in 0..now as usize {
            if Sequence::sees(now, rows.died[row].load(Ordering::Acquire)) {
                assert_eq!(rows.contents[row].load(Ordering::Relaxed), 7, "a row is whole");
                seen += 1;
            }
        }
        assert_eq!(seen, 1, "one row at {now}");
        writer.join().expect("a writer");
    });
}

/// Two writers of the same: each looks without the lock, then at what came since with it. One memory, counted twice.
#[test]
fn loom_identical_writes_make_one_memory() {
    struct Store {
        published: Sequence,
        /// The recurrence of each memory; all are alike.
        counts: Mutex<Vec<u32>>,
    }
    loom::model(|| {
        let store = Arc::new(Store { published: Sequence::new(0), counts: Mutex::new(Vec::new()) });
        let write = |store: &Store| {
            let seen = store.published.now();
            let found = (seen > 0).then_some(0);
            let mut counts = store.counts.lock().expect("the lock");
            let late = (counts.len() as u64 > seen).then_some(seen as usize);
            match found.or(late) {
                Some(memory) => counts[memory] += 1,
                None => {
                    counts.push(1);
                    store.published.publish(counts.len() as u64);
                }
            }
        };
        let other = {
            let store = Arc::clone(&store);
            thread::spawn(move || write(&store))
        };
        write(&store);
        other.join().expect("a writer");
        assert_eq!(*store.counts.lock().expect("the lock"), [2]);
    });
}
