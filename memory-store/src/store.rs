//! The store: what it is made of, and how it is read.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::ArcSwap;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{Config, Recency};
use crate::decay::RetentionClass;
use crate::durable::Lsn;
use crate::error::Error;
use crate::incidents::Incidents;
use crate::journal::Journal;
use crate::kernel::Kernel;
use crate::memory::{MemoryId, Recalled};
use crate::meter;
use crate::persist::Disk;
use crate::prepared::Prepared;
use crate::quantize::rotate::Rotation;
use crate::query::{Exactness, Hit, Query, Retrieved, ScanStats};
use crate::scan::{Found, Scan, run};
use crate::segment::{Rows, Shape};
use crate::view::{Moment, View};
use crate::writer::{Writer, standing};

/// An adaptive memory: vectors with payloads, ranked by similarity, age and recurrence. Clones are the same store.
///
/// `P` is what is stored beside a vector, `C` the clock that ages are counted by.
///
/// # Consistency
///
/// Writes are one after the other; a write that has returned is seen by every query that begins after it. A query sees the memories of the
/// moment at which it began, and never waits for a write, but to [touch](Query::touch) what it has found, or for a moment if it asks by an
/// [incident](Query::incident). What is changed while it runs (a
/// recurrence, a class) counts for each memory as it was at some moment of the query; what is removed may or may not be found. An update
/// that replaces a vector or a payload is seen as a whole: the memory is found once, with the old or with the new one.
///
/// # Panics
///
/// A condition of the user's that panics ends its own query. Nothing of the store's is locked while it runs.
pub struct MemoryStore<P = serde_json::Value, C = SystemClock> {
    pub(crate) shared: Arc<Shared<P, C>>,
}

/// What the clones of a store share.
pub(crate) struct Shared<P, C> {
    pub(crate) config: Config,
    pub(crate) shape: Shape,
    pub(crate) rotation: Rotation,
    pub(crate) kernel: Kernel,
    pub(crate) clock: C,
    pub(crate) view: ArcSwap<View<P>>,
    writer: Mutex<Writer<P>>,
    /// For each id that was revised the segment of the row that now stands for it.
    revisions: RwLock<HashMap<u64, u64>>,
    incidents: RwLock<Incidents>,
    /// Memories, as the last change left them, and what they take.
    live: AtomicUsize,
    bytes: AtomicU64,
    /// Where its vectors lie; `None` for memory.
    dir: Option<PathBuf>,
    /// Where it is kept, if it is.
    pub(crate) disk: Option<Disk<P>>,
}

/// The rotation of all stores: a file of one is read by another.
pub(crate) const ROTATION_SEED: u64 = 0x706c_756d_626c_696e;

impl<P, C> Clone for MemoryStore<P, C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<P, C> fmt::Debug for MemoryStore<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("dimensions", &self.shared.config.dimensions).finish_non_exhaustive()
    }
}

impl<P, C> Shared<P, C> {
    /// Where the vectors of segments go; `None` for memory.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    pub(crate) fn revisions(&self) -> RwLockReadGuard<'_, HashMap<u64, u64>> {
        self.revisions.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn revisions_mut(&self) -> RwLockWriteGuard<'_, HashMap<u64, u64>> {
        self.revisions.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn incidents(&self) -> RwLockReadGuard<'_, Incidents> {
        self.incidents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn incidents_mut(&self) -> RwLockWriteGuard<'_, Incidents> {
        self.incidents.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Send + Sync, C> Shared<P, C> {
    /// The living row of `id` in the present view: its segment, and its place in it. For the writer.
    pub(crate) fn find(&self, view: &View<P>, id: u64) -> Option<(usize, usize)> {
        if let Some(at) = view.find(id) {
            return Some(at);
        }
        let uid = *self.revisions().get(&id)?;
        view.find_revision(id, uid).ok().flatten()
    }
}

impl<P: Send + Sync, C: Clock> Shared<P, C> {
    pub(crate) fn new(config: Config, clock: C, dir: Option<PathBuf>) -> Result<Self, Error> {
        let shape = Shape::new(config.dimensions);
        let (writer, view) = Writer::new(shape, &config.capacity, dir.as_deref())?;
        Ok(Self {
            shape,
            rotation: Rotation::new(config.dimensions, ROTATION_SEED),
            kernel: Kernel::detect(),
            clock,
            view: ArcSwap::from_pointee(view),
            writer: Mutex::new(writer),
            revisions: RwLock::default(),
            incidents: RwLock::default(),
            live: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            dir,
            disk: None,
            config,
        })
    }

    /// Makes a change, alone, whose records have bodies of up to `bytes` bytes. Returns once it has the durability of the store. What it
    /// leaves to be dropped is dropped once others may go on.
    pub(crate) fn change<R>(
        &self,
        bytes: usize,
        change: impl FnOnce(&mut Writer<P>, &mut Journal<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut last = None;
        let result = self.begin(bytes, &mut last, change);
        // Also after an error: what was written down before it has happened.
        self.commit(last)?;
        result
    }

    /// The first half of [`change`](Self::change): it is in effect, and to be committed up to `last`.
    pub(crate) fn begin<R>(
        &self,
        bytes: usize,
        last: &mut Option<Lsn>,
        change: impl FnOnce(&mut Writer<P>, &mut Journal<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut journal = match &self.disk {
            Some(disk) => Journal::of(&disk.log, bytes)?,
            None => Journal::none(),
        };
        let (result, retired) = self.locked(|writer| change(writer, &mut journal));
        *last = journal.last().or(*last);
        // Payloads may go with what is retired, and their destructors may write: they are not to wait for the room that this has.
        drop(journal);
        drop(retired);
        result
    }

    /// Returns once what was written down up to `last` has the durability of the store.
    pub(crate) fn commit(&self, last: Option<Lsn>) -> Result<(), Error> {
        match (&self.disk, last) {
            (Some(disk), Some(lsn)) => disk.log.commit(lsn),
            _ => Ok(()),
        }
    }

    /// Does what leaves nothing to write down.
    pub(crate) fn alone<R>(&self, with: impl FnOnce(&mut Writer<P>) -> R) -> R {
        self.locked(with).0
    }

    /// What is done under the lock, and what is to be dropped by one who holds no lock at all.
    fn locked<R>(&self, with: impl FnOnce(&mut Writer<P>) -> R) -> (R, Vec<Arc<View<P>>>) {
        let mut writer: MutexGuard<'_, _> = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let evicted = writer.evicted();
        let result = with(&mut writer);
        let evicted = writer.evicted() - evicted;
        let retired = std::mem::take(&mut writer.retired);
        self.live.store(writer.tally.memories, Ordering::Release);
        self.bytes.store(writer.tally.bytes, Ordering::Release);
        drop(writer);
        meter::levels(|| (self.live.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire)), evicted);
        (result, retired)
    }

    /// Runs `with` on a vector made ready, in memory that is used again.
    pub(crate) fn prepare<R>(
        &self,
        vector: &[f32],
        with: impl FnOnce(&mut Prepared) -> Result<R, Error>,
    ) -> Result<R, Error> {
        thread_local! {
            static SPARE: std::cell::Cell<Option<Box<Prepared>>> = const { std::cell::Cell::new(None) };
        }
        // A condition of the user's may ask the store again on this thread: it then gets a new one.
        let mut prepared = SPARE.take().unwrap_or_default();
        let result = prepared.set(vector, &self.config, &self.rotation, self.kernel).and_then(|()| with(&mut prepared));
        SPARE.set(Some(prepared));
        result
    }

    /// The moment that scores are to be counted at, asked of the clock only if they depend on it.
    fn scoring_moment(&self, at: Option<Timestamp>) -> Timestamp {
        match at {
            Some(moment) => moment,
            None if self.config.scoring.weights().temporal == 0.0 => Timestamp(0),
            None => self.clock.now(),
        }
    }

    fn recalled(&self, rows: &Rows<'_, P>, row: usize) -> Recalled<P> {
        let standing = standing(&self.config, rows, row);
        let number = rows.incident(row);
        Recalled {
            id: MemoryId(rows.id(row)),
            payload: Arc::clone(rows.payload(row)),
            first_seen: rows.first_seen(row),
            last_seen: rows.last_seen(row),
            recurrence: standing.recurrence,
            class: RetentionClass::from_bits(standing.class),
            pinned: rows.is_pinned(row),
            importance: standing.importance,
            weight: standing.weight,
            incident: if number == 0 { None } else { self.incidents().name(number).cloned() },
        }
    }
}

impl<P: Send + Sync> MemoryStore<P> {
    /// An empty store in memory, on the machine's clock.
    ///
    /// # Errors
    ///
    /// None at present: a [`Config`] is checked when it is built.
    pub fn new(config: Config) -> Result<Self, Error> {
        Self::with_clock(config, SystemClock)
    }
}

impl<P: Send + Sync, C: Clock> MemoryStore<P, C> {
    /// An empty store in memory, on `clock`.
    ///
    /// # Errors
    ///
    /// None at present: a [`Config`] is checked when it is built.
    pub fn with_clock(config: Config, clock: C) -> Result<Self, Error> {
        Ok(Self { shared: Arc::new(Shared::new(config, clock, None)?) })
    }

    /// The instructions that its loops use, as this machine has them: `avx512`, `avx2` or `scalar`. Answers are the same with all.
    #[must_use]
    pub fn instructions(&self) -> &'static str {
        self.shared.kernel.name()
    }

    /// What the store is set to.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Memories that it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.live.load(Ordering::Acquire)
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The best memories for a query: those that would come first if every score were computed and sorted, highest first, the lowest id
    /// first among equals. Synchronous; a large store takes more than a moment, see the crate's documentation on asynchronous programs.
    ///
    /// Costs a scan of what the bounds leave, and the allocation of the answer.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroK`], [`Error::InvalidValue`] for a tolerance that is negative or no number, and those of a vector: [`Error::Dimensions`],
    /// [`Error::NonFinite`], [`Error::ZeroNorm`]. Those of a failed log if what is found is [touched](Query::touch) in a store on disk.
    pub fn retrieve(&self, query: &Query<'_, P>) -> Result<Retrieved<P>, Error> {
        query.check()?;
        let shared = &*self.shared;
        let now = shared.scoring_moment(query.at);
        let view = shared.view.load();
        let (found, scanned) = shared.prepare(query.vector, |prepared| {
            prepared.encode(shared.config.dimensions);
            let moment = view.now();
            let scan = self.scan(query, prepared, moment, now);
            Ok(run(&[scan], &[query.k], moment.segments(), shared.config.query_threads).swap_remove(0))
        })?;
        self.answer(query, &view, found, scanned)
    }

    /// [`retrieve`](Self::retrieve) as of `moment`: ages are counted at it, and what was first seen after it is left out. How often a memory
    /// was seen, and when last, is what holds today. The same as a query [at](Query::at) that moment.
    ///
    /// # Errors
    ///
    /// Those of [`retrieve`](Self::retrieve).
    pub fn retrieve_at(&self, query: &Query<'_, P>, moment: Timestamp) -> Result<Retrieved<P>, Error> {
        self.retrieve(&query.at(moment))
    }

    /// [`retrieve`](Self::retrieve) for many queries: each part of the store is read once for all of them. Answers come in the order of the
    /// queries, each as it would be alone; all see the same memories.
    ///
    /// # Errors
    ///
    /// Those of `retrieve` for the first query that is refused; none is then answered.
    pub fn retrieve_batch(&self, queries: &[Query<'_, P>]) -> Result<Vec<Retrieved<P>>, Error> {
        let shared = &*self.shared;
        let view = shared.view.load();
        let moment = view.now();
        let mut prepared = Vec::with_capacity(queries.len());
        for query in queries {
            query.check()?;
            let mut one = Prepared::default();
            one.set(query.vector, &shared.config, &shared.rotation, shared.kernel)?;
            one.encode(shared.config.dimensions);
            prepared.push(one);
        }
        let present = queries.iter().any(|query| query.at.is_none()).then(|| shared.scoring_moment(None));
        let scans: Vec<Option<Scan<'_, P>>> = queries
            .iter()
            .zip(&prepared)
            .map(|(query, one)| self.scan(query, one, moment, query.at.or(present).unwrap_or_default()))
            .collect();
        let ks: Vec<usize> = queries.iter().map(|query| query.k).collect();
        let found = run(&scans, &ks, moment.segments(), shared.config.query_threads);
        queries.iter().zip(found).map(|(query, (found, scanned))| self.answer(query, &view, found, scanned)).collect()
    }

    /// What a query becomes; `None` if nothing can pass its filter.
    fn scan<'a>(
        &'a self,
        query: &Query<'a, P>,
        prepared: &'a Prepared,
        moment: Moment<'a, P>,
        now: Timestamp,
    ) -> Option<Scan<'a, P>> {
        let incident = match query.filter.incident {
            Some(name) => Some(self.shared.incidents().find(name)?),
            None => None,
        };
        Some(Scan {
            config: &self.shared.config,
            kernel: self.shared.kernel,
            prepared,
            now,
            not_after: query.at,
            tolerance: query.tolerance,
            filter: query.filter,
            incident,
            moment,
        })
    }

    fn answer(
        &self,
        query: &Query<'_, P>,
        view: &View<P>,
        found: Vec<Found>,
        scanned: ScanStats,
    ) -> Result<Retrieved<P>, Error> {
        let hit = |found: Found| {
            let (rows, row) = (view.all_rows(found.segment as usize), found.row as usize);
            Hit {
                id: MemoryId(found.id),
                score: found.score,
                parts: found.parts,
                recurrence: found.recurrence,
                class: RetentionClass::from_bits(rows.class(row)),
                first_seen: rows.first_seen(row),
                last_seen: rows.last_seen(row),
                payload: Arc::clone(rows.payload(row)),
            }
        };
        let hits: Vec<_> = found.into_iter().map(hit).collect();
        if query.touch && self.shared.config.recency == Recency::LastAccessed {
            self.touch(hits.iter().map(|hit| hit.id))?;
        }
        meter::retrieved(1);
        let tolerance = query.tolerance;
        let exactness = if tolerance > 0.0 { Exactness::Bounded { tolerance } } else { Exactness::Exact };
        Ok(Retrieved { hits, exactness, scanned })
    }

    /// The memory of `id`, if it is there. It does not wait for the lock of writers, but for a moment for one that a write takes if the memory
    /// belongs to an incident or was replaced.
    #[must_use]
    pub fn get(&self, id: MemoryId) -> Option<Recalled<P>> {
        self.with_row(id, |rows, row| self.shared.recalled(&rows, row))
    }

    /// The vector of `id` as the store keeps it: normalised, if it does that.
    #[must_use]
    pub fn vector(&self, id: MemoryId) -> Option<Vec<f32>> {
        self.with_row(id, |rows, row| rows.vector(row).to_vec())
    }

    fn with_row<R>(&self, id: MemoryId, with: impl FnOnce(Rows<'_, P>, usize) -> R) -> Option<R> {
        loop {
            let view = self.shared.view.load();
            if let Some((segment, row)) = view.find(id.0) {
                return Some(with(view.all_rows(segment), row));
            }
            let uid = *self.shared.revisions().get(&id.0)?;
            if let Ok(Some((segment, row))) = view.find_revision(id.0, uid) {
                return Some(with(view.all_rows(segment), row));
            }
            // Just moved or revised again: where it stands now is written down a moment later.
            std::thread::yield_now();
        }
    }

    /// The memories that were first seen within a range of time, in the order in which they were; of equal moments the lowest id first.
    ///
    /// Costs a look at every row and a sort of what is found.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRange`] if the range ends before it begins.
    pub fn replay(&self, range: impl std::ops::RangeBounds<Timestamp>) -> Result<Vec<Recalled<P>>, Error> {
        use std::ops::Bound::{Excluded, Included};
        if let (Included(from) | Excluded(from), Included(to) | Excluded(to)) = (range.start_bound(), range.end_bound())
            && from > to
        {
            return Err(Error::InvalidRange);
        }
        let view = self.shared.view.load();
        let within = view.now().iter().filter(|(rows, row)| range.contains(&rows.first_seen(*row)));
        let mut found: Vec<_> = within.map(|(rows, row)| self.shared.recalled(&rows, row)).collect();
        found.sort_by_key(|recalled| (recalled.first_seen, recalled.id));
        Ok(found)
    }
}
