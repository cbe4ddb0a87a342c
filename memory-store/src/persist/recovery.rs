//! Opening: the last snapshot, then the log of what was changed since.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{DEAD, Disk, PINNED, SEGMENT, STATE, fingerprint, segment_name, state, uid_of};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{Config, Recency, ZeroVectors};
use crate::durable::Durability;
use crate::durable::files::{Files, OsFiles};
use crate::durable::log::{Log, LogHeader, Record, Torn};
use crate::durable::manifest::{self, Manifest, SegmentFile};
use crate::durable::sections::{SectionFile, SectionHeader};
use crate::error::{Error, Outcome};
use crate::journal::{Change, Journal, RowRecord, is_weight};
use crate::segment::{Restored, RestoredRow, Segment, Standing, tag};
use crate::store::{MemoryStore, Shared};
use crate::write::{Coded, Payload};
use crate::writer::After;

/// What opening a store found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Memories that the store holds.
    pub memories: usize,
    /// Of these, memories that the snapshot held.
    pub from_snapshot: usize,
    /// Changes that the log has added to the snapshot.
    pub replayed: u64,
    /// What a crash left of the writes that it interrupted, if it left anything: in a store that [syncs](Durability::Sync) of one that was
    /// never acknowledged, in another perhaps of those that it does not promise to keep. No part of the store, and overwritten by the next write.
    pub torn: Option<TornWrite>,
}

/// The rest of a write that a crash interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornWrite {
    /// The file of the log.
    pub file: PathBuf,
    /// Where the rest begins, in bytes from the start.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// The file that it is copied to before it is overwritten. The store does not read it, and never removes it.
    pub copy: PathBuf,
}

/// Makes a directory, and those that it lies in. Says how many were made.
fn create_dir(dir: &Path) -> io::Result<usize> {
    let missing = dir.ancestors().take_while(|part| !part.as_os_str().is_empty() && !part.exists()).count();
    fs::create_dir_all(dir)?;
    Ok(missing)
}

/// Makes durable the name of a directory and of those that it lies in, since no file in it outlives what has no name. The `made` innermost
/// are new, and another may have made the others and not come to this.
fn sync_names(files: &dyn Files, dir: &Path, made: usize) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    for (depth, part) in dir.ancestors().filter(|part| !part.as_os_str().is_empty()).enumerate() {
        let Some(parent) = part.parent() else { break };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match files.sync_dir(parent) {
            // Where a store may make no directory none was made.
            Err(error)
                if depth >= made
                    && matches!(error.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported) => {}
            synced => synced?,
        }
    }
    Ok(())
}

impl<P> MemoryStore<P>
where
    P: Serialize + DeserializeOwned + Send + Sync,
{
    /// Opens the store of a directory, or makes one, on the machine's clock; see [`open_with`](Self::open_with).
    ///
    /// # Errors
    ///
    /// Those of [`open_with`](Self::open_with).
    pub fn open(dir: impl AsRef<Path>, config: Config) -> Result<(Self, Recovery), Error> {
        Self::open_with(dir, config, Durability::default(), SystemClock)
    }
}

impl<P, C> MemoryStore<P, C>
where
    P: Serialize + DeserializeOwned + Send + Sync,
    C: Clock,
{
    /// Opens the store of a directory, which is made if need be, and brings back all that was acknowledged: the last snapshot, and the log of
    /// what was changed since. Payloads are kept as JSON.
    ///
    /// Vectors stay in files of the directory, which are mapped into memory; nobody else may write to them while the store is open. All of them
    /// are read now; a page that the disk does not give back later ends the process by a signal (`SIGBUS`), as with all mapped memory.
    /// A store is closed when its last clone is dropped.
    ///
    /// # Errors
    ///
    /// Files are left as they are: [`Error::Corrupt`] names the file and the place of a damage, [`Error::Incompatible`] is a store of other
    /// dimensions, another normalizer or another version, [`Error::Locked`] a directory that another store has, [`Error::Payload`] a payload
    /// that is no `P`, [`Error::Io`] what the operating system refuses: all of it, as [`io::ErrorKind::Unsupported`], where that is not Linux
    /// on a little-endian machine.
    pub fn open_with(
        dir: impl AsRef<Path>,
        config: Config,
        durability: Durability,
        clock: C,
    ) -> Result<(Self, Recovery), Error> {
        let dir = dir.as_ref();
        if !cfg!(all(target_os = "linux", target_endian = "little")) {
            return Err(Error::io(dir, Outcome::NotApplied)(io::ErrorKind::Unsupported.into()));
        }
        Self::open_on(Arc::new(OsFiles), dir, config, durability, clock)
    }

    pub(crate) fn open_on(
        files: Arc<dyn Files>,
        dir: &Path,
        config: Config,
        durability: Durability,
        clock: C,
    ) -> Result<(Self, Recovery), Error> {
        let made = create_dir(dir).map_err(Error::io(dir, Outcome::NotApplied))?;
        let lock = manifest::lock(&*files, dir)?;
        let (dim, fingerprint) = (config.dimensions as u32, fingerprint(&config));
        let manifest = Manifest::load(&*files, dir)?;
        match &manifest {
            Some(manifest) => manifest.check(dir, dim, fingerprint)?,
            None if Manifest::is_new(&*files, dir)? => {
                sync_names(&*files, dir, made).map_err(Error::io(dir, Outcome::NotApplied))?;
            }
            None => {}
        }
        let mut store = Shared::new(config, clock, Some(dir.to_owned()))?;
        let mut recovery = Recovery::default();
        if let Some(manifest) = &manifest {
            store.load(dir, manifest, fingerprint)?;
            store.alone(|writer| writer.join_short_segments(&store))?;
            recovery.from_snapshot = store.alone(|writer| writer.tally.memories);
        }
        let header = LogHeader { dim, fingerprint };
        let after = manifest.as_ref().map(|manifest| manifest.lsn);
        let mut replay = |record: Record<'_>| store.replay(&record);
        let (log, found) = Log::open(Arc::clone(&files), dir, header, after, durability, &mut replay)?;
        recovery.replayed = found.records;
        recovery.torn = found.torn.map(|Torn { file, offset, bytes, copy }| TornWrite { file, offset, bytes, copy });
        recovery.memories = store.alone(|writer| writer.tally.memories);
        let swept = manifest.as_ref().map(|manifest| manifest::sweep(&*files, dir, manifest));
        let stayed = swept.is_some_and(|swept| swept.is_err());
        store.disk = Some(Disk {
            log,
            dir: dir.to_owned(),
            files,
            encode: serde_json::to_vec::<P>,
            check: |bytes| serde_json::from_slice::<P>(bytes).map(drop),
            manifest: Mutex::new(manifest),
            writing: Mutex::new(None),
            cleanups_failed: AtomicU64::new(stayed.into()),
            _lock: lock,
        });
        Ok((Self { shared: Arc::new(store) }, recovery))
    }
}

impl<P, C> Shared<P, C>
where
    P: DeserializeOwned + Send + Sync,
    C: Clock,
{
    /// Takes over a snapshot. The store is empty.
    fn load(&self, dir: &Path, manifest: &Manifest, fingerprint: u64) -> Result<(), Error> {
        let (dim, next_uid) = (manifest.dim, next_uid(dir, manifest)?);
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        let state = SectionFile::open(dir, &manifest.state, &SectionHeader { kind: STATE, dim, fingerprint }, threads)?;
        let rows = manifest.segments.iter().fold(0, |rows: u64, segment| rows.saturating_add(segment.rows));
        let standings = standings(&state, rows)?;
        let names: Vec<(u32, String)> = serde_json::from_slice(state.section(state::INCIDENTS)?)
            .map_err(|error| Error::corrupt(state.path(), 0, format!("names of incidents: {error}")))?;
        let newest = state.numbers::<i64>(state::NEWEST)?;
        let &[newest] = newest else { return Err(Error::corrupt(state.path(), 0, "it has no latest moment")) };
        let header = SectionHeader { kind: SEGMENT, dim, fingerprint };
        let mut parts = Vec::with_capacity(manifest.segments.len());
        let mut from = 0;
        for file in &manifest.segments {
            let until = from + file.rows as usize;
            parts.push((file, &standings[from..until]));
            from = until;
        }
        let restored =
            in_parallel(&parts, threads, |&(file, standings)| self.load_segment(dir, file, &header, standings))?;
        let incidents: HashSet<u32> = names.iter().map(|(number, _)| *number).collect();
        self.incidents_mut().restore(names);
        check_ids(&restored, manifest.next_id).map_err(|reason| manifest::corrupt(dir, reason))?;
        for segment in &restored {
            let rows = segment.rows(usize::MAX);
            for row in 0..rows.len() {
                let number = rows.incident(row);
                if rows.died(row) == 0 && number != 0 {
                    if !incidents.contains(&number) {
                        return Err(Error::corrupt(state.path(), 0, format!("incident {number} has no name")));
                    }
                    self.incidents_mut().add(number, rows.id(row));
                }
            }
        }
        self.alone(|writer| {
            writer.tally.see(Timestamp(newest));
            writer.restore(self, restored, manifest.next_id, next_uid)
        })
    }

    fn load_segment(
        &self,
        dir: &Path,
        named: &SegmentFile,
        header: &SectionHeader,
        standings: &[RestoredRow],
    ) -> Result<Arc<Segment<P>>, Error> {
        let file = Arc::new(SectionFile::open(dir, &named.name, header, 1)?);
        let corrupt = |reason: &str| Error::corrupt(file.path(), 0, reason);
        let first_id =
            file.numbers::<u64>(tag::FIRST_ID)?.first().copied().ok_or_else(|| corrupt("it has no first id"))?;
        let (order, revised) = (file.numbers::<u64>(tag::ORDER)?, file.numbers::<u64>(tag::REVISED)?);
        let mut before = 0;
        for (&id, &revised) in order.iter().zip(revised) {
            if if revised == 0 { id <= before || id < first_id } else { id != before } {
                return Err(corrupt(&format!("its rows are in no order: {id} after {before}")));
            }
            before = id;
        }
        let (ends, bytes) = (file.numbers::<u64>(tag::PAYLOAD_ENDS)?, file.section(tag::PAYLOADS)?);
        if ends.len() != standings.len() {
            return Err(corrupt("it has another number of rows than the manifest says"));
        }
        let mut payloads = Vec::with_capacity(ends.len());
        let mut from = 0;
        for (row, &end) in ends.iter().enumerate() {
            let until = usize::try_from(end).unwrap_or(usize::MAX);
            let payload = bytes.get(from..until).ok_or_else(|| corrupt("a payload ends outside of its section"))?;
            let id = revised.get(row).filter(|&&id| id != 0).or(order.get(row)).copied().unwrap_or_default();
            let refused = |source| Error::Payload { place: Some((file.path().to_owned(), id)), source };
            payloads.push(Arc::new(serde_json::from_slice(payload).map_err(refused)?));
            from = until;
        }
        // Ages count from the first sight in some stores.
        let mut standings = standings.to_vec();
        if self.config.recency == Recency::FirstSeen {
            let first_seen = file.numbers::<i64>(tag::FIRST_SEEN)?;
            for (standing, &seen) in standings.iter_mut().zip(first_seen) {
                standing.counts.seen = Timestamp(seen);
            }
        }
        let rows = Restored { file: &file, first_id, payloads: &payloads, standings: &standings };
        let uid = uid_of(&named.name).expect("checked with the manifest");
        Segment::restore(uid, self.shape, &rows)
    }

    /// Does again what a record says. Doing it twice does no harm.
    fn replay(&self, record: &Record<'_>) -> Result<(), Error> {
        let mut journal = Journal::none();
        match Change::decode(record, self.config.dimensions)? {
            Change::Row(row, vector) => self.replay_row(record, &row, vector),
            Change::Standing { id, last_seen, mut standing, pinned, incident } => self.alone(|writer| {
                let view = self.view.load_full();
                let Some((segment, row)) = self.find(&view, id) else { return Ok(()) };
                let rows = view.all_rows(segment);
                if self.config.recency == Recency::FirstSeen {
                    standing.seen = rows.first_seen(row);
                }
                let incident = Some(incident).filter(|name| !name.is_empty());
                writer.set(self, &mut journal, &rows, row, &After { last_seen, standing, pinned, incident })
            }),
            Change::Remove(ids) => self.alone(|writer| {
                for id in ids.as_chunks().0 {
                    let view = self.view.load_full();
                    if let Some((segment, row)) = self.find(&view, u64::from_le_bytes(*id)) {
                        writer.remove(self, &view.all_rows(segment), row);
                        writer.compact_if_due(self);
                    }
                }
                Ok(())
            }),
        }
    }

    fn replay_row(&self, record: &Record<'_>, row: &RowRecord<'_>, vector: &[u8]) -> Result<(), Error> {
        let vector: Vec<f32> = vector.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let mut unit = vec![0.0; self.rotation.padded()];
        let is_finite = vector.iter().all(|x| x.is_finite());
        if !is_finite || !self.rotation.unit(&vector, &mut unit) {
            if !is_finite || self.config.zero_vectors == ZeroVectors::Refuse {
                return Err(Error::corrupt(record.file, record.offset, "a vector that no store takes"));
            }
            unit.fill(0.0);
        }
        let coded = Coded::of(&unit, self.config.dimensions);
        let refused = |source| Error::Payload { place: Some((record.file.to_owned(), row.id)), source };
        let next_id = self.alone(|writer| writer.next_id);
        if row.id > next_id {
            let reason = format!("a memory {}, where the next is {next_id}", row.id);
            return Err(Error::corrupt(record.file, record.offset, reason));
        }
        let payload = Arc::new(serde_json::from_slice(row.payload).map_err(refused)?);
        let payload = Payload { payload, bytes: row.payload_bytes, encoded: &[] };
        let draft = coded.draft(&vector, payload);
        let seen = if self.config.recency == Recency::FirstSeen { row.first_seen } else { row.last_seen };
        let (recurrence, importance, weight, class) = (row.recurrence, row.importance, row.weight, row.class);
        let standing = Standing { seen, recurrence, importance, weight, class };
        let incident = Some(row.incident).filter(|name| !name.is_empty());
        let after = After { last_seen: row.last_seen, standing, pinned: row.pinned, incident };
        self.alone(|writer| writer.replay_row(self, row, draft, &after))
    }
}

/// Whether each living row is the one that is found by its id.
fn check_ids<P: Send + Sync>(segments: &[Arc<Segment<P>>], next_id: u64) -> Result<(), String> {
    // No store lives long enough to give half of the numbers that there are; from here on none runs out.
    if next_id == 0 || next_id >= 1 << 63 {
        return Err(format!("the next id is {next_id}"));
    }
    let (mut last, mut revisions) = (0, HashMap::new());
    for segment in segments {
        let rows = segment.rows(usize::MAX);
        if segment.first_id() <= last && last > 0 {
            return Err(format!("a segment begins at the id {} after {last}", segment.first_id()));
        }
        for row in 0..rows.len() {
            let (id, lives) = (rows.id(row), rows.died(row) == 0);
            if id == 0 || id >= next_id {
                return Err(format!("a row has the id {id}"));
            }
            if !rows.is_revision(row) {
                last = id;
            } else if lives && revisions.insert(id, segment.uid()).is_some()
                || !lives && revisions.get(&id) == Some(&segment.uid())
            {
                // The last revision in a segment is the one that is found there.
                return Err(format!("the id {id} is that of two rows"));
            }
        }
    }
    for segment in segments.iter().filter(|_| !revisions.is_empty()) {
        let rows = segment.rows(usize::MAX);
        let stands_twice =
            |row: &usize| rows.died(*row) == 0 && !rows.is_revision(*row) && revisions.contains_key(&rows.id(*row));
        if let Some(row) = (0..rows.len()).find(stands_twice) {
            return Err(format!("the id {} is that of two rows", rows.id(row)));
        }
    }
    Ok(())
}

/// The first uid that is free, if the files of a manifest have names that a store gives.
fn next_uid(dir: &Path, manifest: &Manifest) -> Result<u64, Error> {
    let mut segments = HashSet::new();
    let named = |name: &str| {
        uid_of(name).ok_or_else(|| manifest::corrupt(dir, format!("{name} is no file that a store has written")))
    };
    let mut last = named(&manifest.state)?;
    for segment in &manifest.segments {
        let uid = named(&segment.name)?;
        if !segments.insert(uid) || segment.name != segment_name(uid, segment.rows as usize) {
            return Err(manifest::corrupt(dir, format!("{} is no file of this segment", segment.name)));
        }
        last = last.max(uid);
    }
    Ok(last + 1)
}

/// What rows count for, from a state file. When they were first seen is not in it.
fn standings(file: &SectionFile, rows: u64) -> Result<Vec<RestoredRow>, Error> {
    let corrupt = |reason: &str| Error::corrupt(file.path(), 0, reason);
    let last_seen = file.numbers::<i64>(state::LAST_SEEN)?;
    let recurrence = file.numbers::<u32>(state::RECURRENCE)?;
    let importance = file.numbers::<f32>(state::IMPORTANCE)?;
    let weight = file.numbers::<f32>(state::WEIGHT)?;
    let traits = file.section(state::TRAITS)?;
    let lengths = [last_seen.len(), recurrence.len(), importance.len(), weight.len(), traits.len()];
    if lengths.iter().any(|&length| length as u64 != rows) {
        return Err(corrupt("it has another number of rows than the manifest says"));
    }
    let row = |row: usize| {
        let (seen, traits) = (Timestamp(last_seen[row]), traits[row]);
        let (importance, weight) = (importance[row], weight[row]);
        if traits >= 16 || !is_weight(importance, weight) {
            return Err(corrupt("a row counts for what no row can"));
        }
        let counts = Standing { seen, recurrence: recurrence[row], importance, weight, class: traits & 3 };
        Ok(RestoredRow { last_seen: seen, counts, pinned: traits & PINNED != 0, is_dead: traits & DEAD != 0 })
    };
    (0..rows as usize).map(row).collect()
}

/// Maps `items` on a few threads; the first error wins.
fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    map: impl Fn(&T) -> Result<R, Error> + Sync,
) -> Result<Vec<R>, Error> {
    if threads <= 1 || items.len() < 2 {
        return items.iter().map(map).collect();
    }
    let map = &map;
    let work = |items: &[T]| -> Result<Vec<R>, Error> { items.iter().map(map).collect() };
    std::thread::scope(|scope| {
        // Where the system has no more threads, this one does the work.
        let start = |items| std::thread::Builder::new().spawn_scoped(scope, move || work(items)).map_err(|_| items);
        let working: Vec<_> = items.chunks(items.len().div_ceil(threads)).map(start).collect();
        let mut all = Vec::with_capacity(items.len());
        for part in working {
            all.extend(match part {
                // Code of the user's panicked: so does the opening.
                Ok(part) => part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(items) => work(items),
            }?);
        }
        Ok(all)
    })
}
