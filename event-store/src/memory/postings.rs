//! Where the events of a stream, a type or a tag lie: a list of event numbers, kept as runs of consecutive ones.
//!
//! An append of many events, or many appends in a row to one stream, make one run: they cost no memory. A run is an ordinal (how
//! many entries stand before it) and the number of its first event; it is written once. One writer, any number of readers
//! without a lock.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A list of ascending event numbers (from 0).
#[derive(Debug)]
pub(crate) struct Postings {
    /// Entries; stored after the run that holds the last one.
    len: AtomicU32,
    /// Runs; stored after the run itself.
    runs: AtomicU32,
    /// Entries at the front whose events are removed: of streams alone, and never more than there are.
    removed: AtomicU32,
    /// The first run: most lists need no other.
    first: AtomicU64,
    /// The runs after the first. Replaced by a larger copy when it is full.
    rest: ArcSwapOption<Box<[AtomicU64]>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RunStart {
    ordinal: u32,
    event: u32,
}

impl RunStart {
    fn pack(self) -> u64 {
        u64::from(self.ordinal) << 32 | u64::from(self.event)
    }

    fn unpack(bits: u64) -> Self {
        Self { ordinal: (bits >> 32) as u32, event: bits as u32 }
    }
}

impl Postings {
    pub(crate) fn new() -> Self {
        Self {
            len: AtomicU32::new(0),
            runs: AtomicU32::new(0),
            removed: AtomicU32::new(0),
            first: AtomicU64::new(0),
            rest: ArcSwapOption::empty(),
        }
    }

    /// Entries, those of appends that are not published yet included. For the writer.
    pub(crate) fn written(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// Entries at the front whose events are removed.
    pub(crate) fn removed(&self) -> u32 {
        self.removed.load(Ordering::Acquire)
    }

    /// Counts the first `entries` as removed, at most as many as there are and no fewer than before. For the writer.
    pub(crate) fn remove(&self, entries: u32) {
        self.removed.store(entries, Ordering::Release);
    }

    /// Adds the events `event..event + count`, all behind the last entry. For the writer, one call at a time.
    #[inline]
    pub(crate) fn push(&self, event: u32, count: u32) {
        let len = self.len.load(Ordering::Relaxed);
        let runs = self.runs.load(Ordering::Relaxed);
        let new = RunStart { ordinal: len, event };
        let continues = |last: RunStart| last.event + (len - last.ordinal) == event;
        match runs {
            0 => {
                self.first.store(new.pack(), Ordering::Relaxed);
                self.runs.store(1, Ordering::Release);
            }
            1 if continues(self.run(0, None)) => {}
            _ => self.push_to_rest(runs, new, continues),
        }
        self.len.store(len + count, Ordering::Release);
    }

    /// Adds the run `new` behind `runs` others, unless it `continues` the last of them.
    fn push_to_rest(&self, runs: u32, new: RunStart, continues: impl Fn(RunStart) -> bool) {
        let rest = self.rest.load();
        let slots = rest.as_deref().map_or(&[][..], |rest| &rest[..]);
        if runs > 1 && continues(self.run(runs - 1, Some(slots))) {
            return;
        }
        let index = runs as usize - 1;
        match slots.get(index) {
            Some(slot) => slot.store(new.pack(), Ordering::Relaxed),
            None => {
                let kept = slots.iter().map(|slot| slot.load(Ordering::Relaxed));
                let larger = kept.chain([new.pack()]).chain(std::iter::repeat(0)).take((index * 2).max(2));
                self.rest.store(Some(Arc::new(larger.map(AtomicU64::new).collect())));
            }
        }
        self.runs.store(runs + 1, Ordering::Release);
    }

    fn run(&self, index: u32, rest: Option<&[AtomicU64]>) -> RunStart {
        let slot = match index.checked_sub(1) {
            None => &self.first,
            Some(index) => &rest.expect("a second run was counted after its slot was made")[index as usize],
        };
        RunStart::unpack(slot.load(Ordering::Relaxed))
    }

    /// The entries below event `end`, the reader's watermark.
    pub(crate) fn view(&self, end: u32) -> PostingsView<'_> {
        // In this order: every entry counted in `len` lies in a run counted in `runs`, whose slot is in `rest`.
        let len = self.len.load(Ordering::Acquire);
        let runs = if len == 0 { 0 } else { self.runs.load(Ordering::Acquire) };
        let rest = if runs > 1 { self.rest.load_full() } else { None };
        let mut view = PostingsView { postings: self, rest, runs, len };
        // Appends since the watermark are seen here and not meant: few, or as many as a slow reader has let pass.
        if view.runs > 0 && view.start(view.runs - 1).event >= end {
            let (mut below, mut first_beyond) = (0, view.runs - 1);
            while below < first_beyond {
                let middle = below + (first_beyond - below) / 2;
                if view.start(middle).event < end { below = middle + 1 } else { first_beyond = middle }
            }
            view.runs = first_beyond;
        }
        if view.runs < runs {
            // The run that was cut off starts where the last one that counts has ended.
            view.len = view.len.min(view.start(view.runs).ordinal);
        }
        if let Some(last) = view.runs.checked_sub(1) {
            let last = view.start(last);
            view.len = view.len.min(last.ordinal + (end - last.event));
        } else {
            view.len = 0;
        }
        view
    }
}

/// The entries of a list up to a watermark.
#[derive(Debug, Clone)]
pub(crate) struct PostingsView<'a> {
    postings: &'a Postings,
    rest: Option<Arc<Box<[AtomicU64]>>>,
    runs: u32,
    len: u32,
}

impl PostingsView<'_> {
    /// How many entries there are, removed ones included.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// How many entries at the front are removed; there may be more than this view sees.
    pub(crate) fn removed(&self) -> u32 {
        self.postings.removed()
    }

    fn start(&self, run: u32) -> RunStart {
        self.postings.run(run, self.rest.as_deref().map(|rest| &**rest))
    }

    /// The ordinal behind the last entry of `run`.
    fn end_ordinal(&self, run: u32) -> u32 {
        if run + 1 < self.runs { self.start(run + 1).ordinal.min(self.len) } else { self.len }
    }

    /// The stretch of consecutive events that holds entry `ordinal`: the event itself, and how many follow it, itself
    /// included. The ordinal is below [`PostingsView::len`].
    pub(crate) fn stretch(&self, ordinal: u32) -> (u32, u32) {
        let run = self.last_run_where(|start| start.ordinal <= ordinal).unwrap_or(0);
        let start = self.start(run);
        (start.event + (ordinal - start.ordinal), self.end_ordinal(run) - ordinal)
    }

    /// As [`PostingsView::stretch`], looking backwards: the event of entry `ordinal`, and how many consecutive events end with
    /// it, itself included.
    pub(crate) fn stretch_before(&self, ordinal: u32) -> (u32, u32) {
        let run = self.last_run_where(|start| start.ordinal <= ordinal).unwrap_or(0);
        let start = self.start(run);
        let offset = ordinal - start.ordinal;
        (start.event + offset, offset + 1)
    }

    /// The first entry at or behind event `event`. `hint` is the run of the last call; seeking ahead gallops from there.
    pub(crate) fn seek(&self, event: u32, hint: &mut u32) -> Option<u32> {
        self.gallop(event, hint);
        (*hint..self.runs.min(*hint + 2)).find_map(|run| {
            let start = self.start(run);
            let count = self.end_ordinal(run) - start.ordinal;
            (event < start.event + count).then(|| event.max(start.event))
        })
    }

    /// The last entry at or before event `event`. `hint` is the run of the last call.
    pub(crate) fn seek_back(&self, event: u32, hint: &mut u32) -> Option<u32> {
        self.gallop(event, hint);
        if self.runs == 0 {
            return None;
        }
        let start = self.start(*hint);
        if start.event > event {
            return None;
        }
        Some(event.min(start.event + (self.end_ordinal(*hint) - start.ordinal) - 1))
    }

    /// Moves `hint` to the last run that starts at or before `event`, or to the first run.
    fn gallop(&self, event: u32, hint: &mut u32) {
        let starts_by = |run: u32| run < self.runs && self.start(run).event <= event;
        let (mut lo, mut hi) = if starts_by(*hint) {
            let mut step = 1;
            while starts_by(*hint + step) {
                step *= 2;
            }
            (*hint + step / 2, (*hint + step).min(self.runs))
        } else {
            (0, (*hint).min(self.runs))
        };
        while hi - lo > 1 {
            let middle = lo + (hi - lo) / 2;
            if starts_by(middle) { lo = middle } else { hi = middle }
        }
        *hint = lo;
    }

    fn last_run_where(&self, holds: impl Fn(RunStart) -> bool) -> Option<u32> {
        let (mut lo, mut hi) = (0, self.runs);
        while hi - lo > 1 {
            let middle = lo + (hi - lo) / 2;
            if holds(self.start(middle)) { lo = middle } else { hi = middle }
        }
        (lo < hi).then_some(lo)
    }
}

#[cfg(all(test, not(event_store_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(pushes: &[(u32, u32)]) -> (Postings, Vec<u32>) {
        let postings = Postings::new();
        let mut entries = Vec::new();
        let mut next = 0;
        for &(gap, count) in pushes {
            next += gap;
            postings.push(next, count);
            entries.extend(next..next + count);
            next += count;
        }
        (postings, entries)
    }

    #[test]
    fn consecutive_events_make_one_run() {
        let (postings, _) = filled(&[(5, 10), (0, 1), (0, 1_000)]);
        assert_eq!(postings.runs.load(Ordering::Relaxed), 1);
        assert!(postings.rest.load().is_none());
    }

    proptest! {
        /// Whatever was pushed and wherever the watermark stands, a view equals the plain list cut there.
        #[test]
        fn view_equals_a_plain_list(
            pushes in prop::collection::vec((0_u32..4, 1_u32..4), 0..40),
            end in 0_u32..160,
            probes in prop::collection::vec(0_u32..170, 1..20),
        ) {
            let (postings, entries) = filled(&pushes);
            let visible: Vec<u32> = entries.iter().copied().filter(|&event| event < end).collect();
            let view = postings.view(end);
            prop_assert_eq!(view.len() as usize, visible.len());
            for (ordinal, &event) in visible.iter().enumerate() {
                let (found, ahead) = view.stretch(ordinal as u32);
                prop_assert_eq!(found, event);
                prop_assert_eq!(&visible[ordinal..ordinal + ahead as usize], (event..event + ahead).collect::<Vec<_>>());
                let (found, behind) = view.stretch_before(ordinal as u32);
                prop_assert_eq!(found, event);
                let from = ordinal + 1 - behind as usize;
                prop_assert_eq!(&visible[from..=ordinal], (event + 1 - behind..=event).collect::<Vec<_>>());
            }
            let (mut ahead, mut back) = (0, 0);
            for probe in probes {
                let first = visible.iter().copied().find(|&event| event >= probe);
                prop_assert_eq!(view.seek(probe, &mut ahead), first, "from {}", probe);
                let last = visible.iter().copied().rfind(|&event| event <= probe);
                prop_assert_eq!(view.seek_back(probe, &mut back), last, "back from {}", probe);
            }
        }
    }
}
