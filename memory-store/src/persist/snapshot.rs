//! A store written down as a whole, while it goes on.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use super::{DEAD, Disk, PINNED, SEGMENT, STATE, fingerprint, segment_name, state, state_name};
use crate::clock::{Clock, Timestamp};
use crate::durable::Lsn;
use crate::durable::manifest::{self, Manifest, SegmentFile};
use crate::durable::sections::{SectionHeader, SectionWriter};
use crate::error::Error;
use crate::segment::{Rows, tag};
use crate::store::{MemoryStore, Shared};
use crate::view::View;

/// What rows count for, and whether they live.
#[derive(Debug, Default)]
struct State {
    last_seen: Vec<i64>,
    recurrence: Vec<u32>,
    importance: Vec<f32>,
    weight: Vec<f32>,
    traits: Vec<u8>,
}

impl State {
    fn with_capacity(rows: usize) -> Self {
        Self {
            last_seen: Vec::with_capacity(rows),
            recurrence: Vec::with_capacity(rows),
            importance: Vec::with_capacity(rows),
            weight: Vec::with_capacity(rows),
            traits: Vec::with_capacity(rows),
        }
    }

    fn add<P>(&mut self, rows: &Rows<'_, P>) {
        for row in 0..rows.len() {
            self.last_seen.push(rows.last_seen(row).0);
            self.recurrence.push(rows.recurrence(row));
            self.importance.push(rows.importance(row));
            self.weight.push(rows.weight(row));
            let pinned = if rows.is_pinned(row) { PINNED } else { 0 };
            let dead = if rows.died(row) != 0 { DEAD } else { 0 };
            self.traits.push(rows.class(row) | pinned | dead);
        }
    }
}

impl<P: Send + Sync, C: Clock> MemoryStore<P, C> {
    /// Writes the store down as a whole, so that it opens without the log of before, which is removed. Segments that have not changed
    /// are not written again. Queries and writes go on meanwhile; writes wait while what each memory counts for is copied, about 10 ms for
    /// a million. Another snapshot waits for this one. In memory it does nothing.
    ///
    /// Files of before that the disk refuses to remove are no error: the next snapshot, or opening, tries again, and
    /// [`Stats::cleanups_failed`](crate::Stats::cleanups_failed) counts how often it came to that.
    ///
    /// # Errors
    ///
    /// [`Error::Payload`] for a payload that is not to be turned into JSON or does not read back (one that has changed since it was written),
    /// [`Error::Io`] and [`Error::LogFailed`] for what the disk refuses; the store is on disk as before then, by its last snapshot and its
    /// log. [`Error::WouldDeadlock`] if a payload takes a snapshot while one writes it down; if it waits for another thread to take one, it waits
    /// for ever.
    pub fn snapshot(&self) -> Result<(), Error> {
        let shared = &*self.shared;
        let Some(disk) = &shared.disk else { return Ok(()) };
        if *disk.writing() == Some(thread::current().id()) {
            return Err(Error::WouldDeadlock);
        }
        // Dropped after the lock is given back: payloads may go with it, whose destructors may take a snapshot.
        let taken;
        let mut last = disk.manifest.lock().unwrap_or_else(PoisonError::into_inner);
        disk.log.rotate()?;
        taken = shared.alone(|writer| {
            let view = shared.view.load_full();
            let mut state = State::with_capacity(view.all());
            let rows: Vec<usize> = (0..view.segments().len()).map(|at| view.all_rows(at).len()).collect();
            (0..rows.len()).for_each(|at| state.add(&view.all_rows(at)));
            let incidents = shared.incidents().names();
            let (lsn, next_id, uid) = (disk.log.appended(), writer.next_id, writer.take_uid());
            let newest = writer.tally.newest();
            Taken { view, rows, state, incidents, newest, lsn, next_id, uid }
        });
        let manifest = disk.write(shared, &taken, last.as_ref())?;
        // What was written since the rotation is in the snapshot too. A log that ends before its snapshot is a damaged one.
        disk.log.sync()?;
        manifest.store(&*disk.files, &disk.dir)?;
        let manifest = last.insert(manifest);
        // The snapshot has happened, whatever becomes of the files of before.
        let cleanups = [disk.log.forget(manifest.lsn), manifest::sweep(&*disk.files, &disk.dir, manifest).map(drop)];
        disk.cleanups_failed.fetch_add(cleanups.iter().any(Result::is_err).into(), Ordering::Relaxed);
        Ok(())
    }
}

/// A store at one record of its log.
struct Taken<P> {
    view: Arc<View<P>>,
    /// Rows of each segment.
    rows: Vec<usize>,
    state: State,
    incidents: Vec<(u32, Arc<str>)>,
    newest: Timestamp,
    lsn: Lsn,
    next_id: u64,
    /// What tells its state from that of every other snapshot.
    uid: u64,
}

impl<P> Disk<P> {
    fn writing(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says which thread writes a snapshot down, until it is dropped.
struct Writing<'a, P>(&'a Disk<P>);

impl<'a, P> Writing<'a, P> {
    fn new(disk: &'a Disk<P>) -> Self {
        *disk.writing() = Some(thread::current().id());
        Self(disk)
    }
}

impl<P> Drop for Writing<'_, P> {
    fn drop(&mut self) {
        *self.0.writing() = None;
    }
}

impl<P: Send + Sync> Disk<P> {
    /// Writes what the last manifest does not name yet.
    fn write<C>(&self, shared: &Shared<P, C>, taken: &Taken<P>, last: Option<&Manifest>) -> Result<Manifest, Error> {
        let _writing = Writing::new(self);
        let (dim, fingerprint) = (shared.config.dimensions as u32, fingerprint(&shared.config));
        let mut segments = Vec::new();
        for (at, &count) in taken.rows.iter().enumerate() {
            if count == 0 {
                continue;
            }
            let segment = &taken.view.segments()[at];
            let name = segment_name(segment.uid(), count);
            let is_there = last.is_some_and(|last| last.segments.iter().any(|segment| segment.name == name));
            if !is_there {
                let header = SectionHeader { kind: SEGMENT, dim, fingerprint };
                let mut file = SectionWriter::create(Arc::clone(&self.files), &self.dir, &name, &header)?;
                let rows = segment.rows(count);
                rows.save(&mut file)?;
                self.save_payloads(&rows, &mut file)?;
                file.finish()?;
            }
            segments.push(SegmentFile { name, rows: count as u64 });
        }
        let state = match last {
            // Nothing has changed since.
            Some(last) if last.lsn == taken.lsn && last.segments == segments => last.state.clone(),
            _ => self.save_state(taken, SectionHeader { kind: STATE, dim, fingerprint })?,
        };
        Ok(Manifest { dim, fingerprint, lsn: taken.lsn, next_id: taken.next_id, state, segments })
    }

    fn save_state(&self, taken: &Taken<P>, header: SectionHeader) -> Result<String, Error> {
        let name = state_name(taken.uid);
        let mut file = SectionWriter::create(Arc::clone(&self.files), &self.dir, &name, &header)?;
        file.section(state::LAST_SEEN, bytemuck::cast_slice(&taken.state.last_seen))?;
        file.section(state::RECURRENCE, bytemuck::cast_slice(&taken.state.recurrence))?;
        file.section(state::IMPORTANCE, bytemuck::cast_slice(&taken.state.importance))?;
        file.section(state::WEIGHT, bytemuck::cast_slice(&taken.state.weight))?;
        file.section(state::TRAITS, &taken.state.traits)?;
        let names: Vec<(u32, &str)> = taken.incidents.iter().map(|(number, name)| (*number, &**name)).collect();
        file.section(state::INCIDENTS, &serde_json::to_vec(&names)?)?;
        file.section(state::NEWEST, &taken.newest.0.to_le_bytes())?;
        file.finish()?;
        Ok(name)
    }

    fn save_payloads(&self, rows: &Rows<'_, P>, file: &mut SectionWriter) -> Result<(), Error> {
        let mut ends = Vec::with_capacity(rows.len());
        let (mut end, mut refused) = (0u64, None);
        file.stream(tag::PAYLOADS, |out| {
            for row in 0..rows.len() {
                match self.encode(rows.payload(row)) {
                    Ok(bytes) => {
                        end += bytes.len() as u64;
                        ends.push(end);
                        out.write_all(&bytes)?;
                    }
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                }
            }
            Ok(())
        })?;
        match refused {
            Some(error) => Err(error.into()),
            None => file.section(tag::PAYLOAD_ENDS, bytemuck::cast_slice(&ends)),
        }
    }
}
