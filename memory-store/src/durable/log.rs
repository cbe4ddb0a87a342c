//! A write-ahead log with group commit.
//!
//! # Files
//!
//! Little-endian. A file `log-<first lsn>.wal` is a header and records; zeros follow, up to a size that is a multiple of `step`:
//!
//! ```text
//! header  magic[8] version:u16 0:u16 dim:u32 fingerprint:u64 first_lsn:u64 salt:u32 step:u32 crc32:u32
//! record  length:u32 crc32:u32 lsn:u64 kind:u8 body[length]        crc32 over all of it but itself, begun with the salt
//! mark    a record of kind 0; its lsn is that of the record before it, its body durable:u64 size:u64 next:u64
//! ```
//!
//! # What can be told apart after a crash
//!
//! A mark says up to which lsn the log *was on disk* when the mark was written, and how long the file was there. One stands before each
//! batch that follows a synced one, and one is written, though not synced, as soon as a synced batch has nothing behind it. Under
//! [`Durability::Sync`] a file grows on disk before anything is written to what is new of it, and a mark with the new size stands before
//! that. The last mark of a file that another follows says where that begins, once it exists. Damage at record `n` is therefore
//!
//! - [`Error::Corrupt`] if a mark anywhere behind it proves that `n` was on disk, or a later file does (a file is synced before its
//!   successor exists), or a mark before it says that the file was longer or not the last, or the file's size was never one that the log
//!   gives: this is no trace of a crash.
//! - a torn tail otherwise: `n` and what follows are cut, and [`LogRecovery::torn`] says where and how much. Before the cut is made they are
//!   copied to a file `log-<first lsn>-<number>.torn`, which nothing removes: of what was never promised some may be worth a look.
//!
//! Under [`Durability::Sync`] one case is left in which a loss cannot be told from a torn write: the *last* acknowledged batch is damaged,
//! and the power was lost before the mark behind it reached the disk, which the operating system does within about half a minute.
//! After a crash of the process alone the mark is there. Under the other two, records that no mark covers yet were never promised to
//! survive a loss of power, and the operating system writes them in any order. A log that is closed is synced and marked, whatever its
//! durability, so only what a crash has interrupted can be torn.
//!
//! And under the other two a newest file that somebody cut at exactly a multiple of `step` looks like one whose tail was torn there.
//!
//! What is assumed of the disk: `fdatasync` tells the truth, and a sector that is written again with the same bytes keeps them. The cut is
//! made when the log is next written or synced; until then, and whenever there is an error, the files stay byte for byte as they were.

mod flush;
mod open;
mod record;
mod recover;
mod tail;
#[cfg(test)]
mod tests;

use std::io;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use self::record::MARK_BYTES;
#[cfg(fuzzing)]
pub(super) use self::record::reseal;
use self::tail::Tail;
use super::files::Files;
use super::{Durability, Lsn};
use crate::{Error, Outcome};

/// What all files of a log say about the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogHeader {
    /// Dimensions of the vectors.
    pub(crate) dim: u32,
    /// A hash of the configuration that the records depend on.
    pub(crate) fingerprint: u64,
}

/// Sizes that tests make small.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizing {
    /// Bytes that may wait in the buffer. As much again may be on its way to the file.
    pub(crate) buffer: usize,
    /// Files grow by multiples of this.
    pub(crate) step: u32,
}

impl Default for Sizing {
    fn default() -> Self {
        if cfg!(fuzzing) {
            // A store is opened for each input: pages that nothing comes to stand on would take most of the time.
            return Self { buffer: 1 << 14, step: 1 << 12 };
        }
        Self { buffer: 2 << 20, step: 1 << 20 }
    }
}

/// A record that is read back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// Its number.
    pub(crate) lsn: Lsn,
    /// What kind it was appended as.
    pub(crate) kind: u8,
    /// What was appended.
    pub(crate) body: &'a [u8],
    /// The file it stands in, for an error about the body.
    pub(crate) file: &'a Path,
    /// Where it begins there.
    pub(crate) offset: u64,
}

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogRecovery {
    /// Records that were replayed.
    pub(crate) records: u64,
    /// Bytes of their bodies.
    pub(crate) bytes: u64,
    /// What was left of a write that a crash interrupted.
    pub(crate) torn: Option<Torn>,
}

/// The rest of an interrupted write. It is no part of the log any more, and is overwritten when the log is next written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Torn {
    /// The file.
    pub(crate) file: PathBuf,
    /// Where the rest begins.
    pub(crate) offset: u64,
    /// How long it is.
    pub(crate) bytes: u64,
    /// Where it is kept before it is overwritten.
    pub(crate) copy: PathBuf,
}

/// The log of an open store.
///
/// [`wait_for_room`](Self::wait_for_room), then the store's lock and [`append`](Self::append), then, without the lock,
/// [`commit`](Self::commit). Dropping the log syncs it, if anything was appended; errors are lost then, so a store that wants to know calls
/// [`sync`](Self::sync) first.
#[derive(Debug)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    flusher: Option<JoinHandle<()>>,
}

/// Bytes of the buffer that are kept for the appends of one mutation. Dropping it gives back what was not used.
#[derive(Debug)]
#[must_use]
pub(crate) struct Room<'a> {
    log: &'a Log,
    left: usize,
}

#[derive(Debug)]
struct Shared {
    files: Arc<dyn Files>,
    dir: PathBuf,
    durability: Durability,
    sizing: Sizing,
    salt: u32,
    /// The last record when the log was opened.
    opened: Lsn,
    state: Mutex<State>,
    /// Something was written, synced, given back, or failed.
    progress: Condvar,
    /// There is work for the flusher.
    work: Condvar,
}

#[derive(Debug)]
struct State {
    /// Room for a mark, then the records that no leader has taken yet.
    buffer: Vec<u8>,
    /// The other buffer, unless a leader writes it just now.
    spare: Vec<u8>,
    reserved: usize,
    /// Those who wait for room.
    waiting: usize,
    appended: Lsn,
    written: Lsn,
    durable: Lsn,
    /// The end of the file, unless a leader has it just now.
    tail: Option<Tail>,
    /// The lsn that the newest file begins at.
    newest: Lsn,
    /// Older files, with the lsn each begins at, in order.
    older: Vec<(Lsn, PathBuf)>,
    failure: Option<Failure>,
    flusher: Flusher,
    closing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flusher {
    /// Waits for work.
    Idle,
    /// Waits for more to come before it writes.
    Gathering,
    /// All is written; waits until it is to be synced.
    Resting,
    Busy,
}

/// Why the log takes nothing any more.
#[derive(Debug)]
struct Failure {
    file: PathBuf,
    kind: io::ErrorKind,
    code: Option<i32>,
    text: String,
}

impl Failure {
    fn new(file: &Path, error: &io::Error) -> Self {
        Self { file: file.to_owned(), kind: error.kind(), code: error.raw_os_error(), text: error.to_string() }
    }

    /// For each of those that wait, as an `io::Error` cannot be cloned.
    fn error(&self) -> Error {
        let source = match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.kind, self.text.clone()),
        };
        Error::Io { file: self.file.clone(), outcome: Outcome::Unknown, source }
    }
}

/// What a leader does with what is buffered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Write,
    Sync,
    Rotate,
}

impl Log {
    /// Waits until the buffer has room for `bytes` of records (each takes [`Self::record_bytes`]) and keeps it. To be called before the
    /// store's lock is taken, since it may write to the file; and not by one who has a [`Room`] already, who might wait for himself.
    ///
    /// More than the buffer holds is admitted when it is empty.
    pub(crate) fn wait_for_room(&self, bytes: usize) -> Result<Room<'_>, Error> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        loop {
            if state.failure.is_some() {
                return Err(Error::LogFailed);
            }
            let empty = state.buffer.len() == MARK_BYTES;
            if state.buffer.len() + state.reserved + bytes <= shared.sizing.buffer || empty && state.reserved == 0 {
                state.reserved += bytes;
                return Ok(Room { log: self, left: bytes });
            }
            state = if empty || state.tail.is_none() {
                state.waiting += 1;
                let mut state = shared.wait(state);
                state.waiting -= 1;
                state
            } else {
                let task = if shared.durability == Durability::Sync { Task::Sync } else { Task::Write };
                shared.lead(state, task).0
            };
        }
    }

    /// What a record with a body of this size takes of the buffer.
    pub(crate) const fn record_bytes(body: usize) -> usize {
        record::RECORD_HEADER + body
    }

    /// Gives the record the next lsn and copies it into the buffer: no system call, and no allocation while it fits into `room`. A record
    /// that does not is taken all the same, because half of a mutation may have been appended: the buffer grows for it.
    ///
    /// Whatever it returns is decided here: after an error nothing was buffered. [`commit`](Self::commit) must follow.
    pub(crate) fn append(&self, room: &mut Room<'_>, kind: NonZeroU8, parts: &[&[u8]]) -> Result<Lsn, Error> {
        let body = parts.iter().map(|part| part.len()).sum();
        if body > record::MAX_BODY {
            return Err(Error::TooLarge { bytes: body as u64, capacity: record::MAX_BODY as u64 });
        }
        let mut state = self.shared.lock();
        if state.failure.is_some() {
            return Err(Error::LogFailed);
        }
        let lsn = Lsn(state.appended.0 + 1);
        record::encode(&mut state.buffer, self.shared.salt, lsn, kind.get(), parts);
        state.appended = lsn;
        let used = Self::record_bytes(body).min(room.left);
        state.reserved -= used;
        room.left -= used;
        Ok(lsn)
    }

    /// Why the log takes nothing any more, to one of whose records some were taken before it failed.
    pub(crate) fn failure(&self) -> Error {
        self.shared.lock().failure.as_ref().map_or(Error::LogFailed, Failure::error)
    }

    /// Returns once a record has the durability of the log. The first to come writes and syncs all that is buffered, those that come
    /// meanwhile wait and are served together by the next.
    ///
    /// An error is [`Outcome::Unknown`]: the record may survive or not.
    pub(crate) fn commit(&self, lsn: Lsn) -> Result<(), Error> {
        if self.shared.durability == Durability::Sync {
            return self.shared.reach(lsn, Task::Sync);
        }
        let mut state = self.shared.lock();
        if let Some(failure) = state.failure.as_ref().filter(|_| state.written < lsn) {
            return Err(failure.error());
        }
        let wake = match state.flusher {
            Flusher::Idle if self.shared.durability == Durability::Buffered => state.written < lsn,
            // Somebody who found the buffer full may have written it, but has not synced it.
            Flusher::Idle => state.durable < lsn,
            Flusher::Resting => state.written < lsn,
            Flusher::Gathering => state.buffer.len() > self.shared.sizing.buffer / 2,
            Flusher::Busy => false,
        };
        if wake {
            // Set here, so that the commits until the flusher runs do not wake it again.
            state.flusher = Flusher::Busy;
            drop(state);
            self.shared.work.notify_one();
        }
        Ok(())
    }

    /// Returns once all that was appended before the call is on disk, whatever the durability of the log.
    pub(crate) fn sync(&self) -> Result<Lsn, Error> {
        let lsn = self.shared.lock().appended;
        self.shared.reach(lsn, Task::Sync)?;
        Ok(lsn)
    }

    /// The last record that was appended.
    pub(crate) fn appended(&self) -> Lsn {
        self.shared.lock().appended
    }

    /// Syncs what was appended before the call and starts a new file for what follows; returns the last lsn of the old one. Appends go on
    /// meanwhile, into the buffer.
    ///
    /// [`Outcome::NotApplied`] if the new file could not be made: the log goes on in the old one.
    pub(crate) fn rotate(&self) -> Result<Lsn, Error> {
        let mut state = self.shared.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.error());
            }
            if state.tail.is_some() {
                let last = state.appended;
                return self.shared.lead(state, Task::Rotate).1.map(|()| last);
            }
            state = self.shared.wait(state);
        }
    }

    /// Removes the files that hold nothing but records up to `up_to`, once a durable snapshot holds those. The newest file stays.
    pub(crate) fn forget(&self, up_to: Lsn) -> Result<(), Error> {
        let mut state = self.shared.lock();
        let newest = state.newest.0;
        let older = std::mem::take(&mut state.older);
        drop(state);
        let mut kept = Vec::new();
        let mut outcome = Ok(());
        for (at, (first, path)) in older.iter().enumerate() {
            let next = older.get(at + 1).map_or(newest, |(next, _)| next.0);
            // In order and not past a failure: what is left is one stretch without a hole.
            let done = outcome.is_ok() && next <= up_to.0 + 1 && {
                outcome = match self.shared.files.remove(path) {
                    // An attempt that was told of as failed may have removed it all the same.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        Err(Error::io(path, Outcome::NotApplied)(error))
                    }
                    _ => Ok(()),
                };
                outcome.is_ok()
            };
            if !done {
                kept.push((*first, path.clone()));
            }
        }
        let mut state = self.shared.lock();
        // A rotation may have added to the list meanwhile.
        kept.append(&mut state.older);
        state.older = kept;
        outcome
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut state = self.log.shared.lock();
        state.reserved -= self.left;
        let somebody_waits = state.waiting > 0;
        drop(state);
        // Also if all was used: who waits for more than there is room for may write what is buffered now.
        if somebody_waits {
            self.log.shared.progress.notify_all();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let shared = &*self.shared;
        shared.lock().closing = true;
        shared.work.notify_one();
        if let Some(flusher) = self.flusher.take() {
            // Its panic has failed the log already.
            let _ = flusher.join();
        }
        // Also if that was never promised: the mark behind it tells damage that comes later from what a crash leaves.
        let last = shared.lock().appended;
        if last > shared.opened {
            let _ = shared.reach(last, Task::Sync);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A leader that panics fails the log before it gives the lock back; nothing else leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.progress.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once `lsn` is written or on disk, and does that itself unless another does.
    fn reach(&self, lsn: Lsn, task: Task) -> Result<(), Error> {
        let mut state = self.lock();
        let lsn = lsn.min(state.appended);
        loop {
            let reached = if task == Task::Write { state.written } else { state.durable };
            if reached >= lsn {
                return Ok(());
            }
            if let Some(failure) = &state.failure {
                return Err(failure.error());
            }
            state = if state.tail.is_some() { self.lead(state, task).0 } else { self.wait(state) };
        }
    }

    /// Takes what is buffered, writes it and whatever else the task asks. The error is that of a rotation that did not happen; any other
    /// fails the log.
    fn lead<'a>(&'a self, mut state: MutexGuard<'a, State>, task: Task) -> (MutexGuard<'a, State>, Result<(), Error>) {
        let mut tail = state.tail.take().expect("the caller has seen that nobody leads");
        let mut batch = std::mem::take(&mut state.spare);
        batch.resize(MARK_BYTES, 0);
        std::mem::swap(&mut batch, &mut state.buffer);
        let (last, before, durable) = (state.appended, state.written, state.durable);
        drop(state);
        let mut leading = Leading { shared: self, has_finished: false };
        // Those who wait for room have it now.
        self.progress.notify_all();

        let mut done = tail.write(&mut batch, before, durable);
        if done.is_ok() && task != Task::Write {
            done = tail.sync();
        }
        batch.truncate(MARK_BYTES);
        batch.shrink_to(self.sizing.buffer);

        let mut state = self.lock();
        state.spare = batch;
        if done.is_ok() {
            state.written = last;
            if task != Task::Write {
                state.durable = last;
                if task == Task::Sync && state.buffer.len() == MARK_BYTES {
                    // Nobody waits for the mark: those who are served go on.
                    drop(state);
                    self.progress.notify_all();
                    done = tail.mark(last);
                    state = self.lock();
                }
            }
        }
        let mut rotated = Ok(());
        if done.is_ok() && task == Task::Rotate && tail.header.first <= last {
            drop(state);
            let header = record::FileHeader { first: Lsn(last.0 + 1), ..tail.header };
            let made = Tail::create(&self.files, &self.dir, header, self.durability);
            let made = made.and_then(|next| {
                tail.end_before(next.header.first).map_err(Error::io(&tail.path, Outcome::Unknown))?;
                Ok(next)
            });
            state = self.lock();
            match made {
                Ok(next) => {
                    state.older.push((tail.header.first, tail.path));
                    state.newest = next.header.first;
                    tail = next;
                }
                Err(Error::Io { file, outcome: Outcome::Unknown, source }) => {
                    // The file may be there: the log must not go on in the old one, which would then hold the same lsns.
                    tail.path = file;
                    done = Err(source);
                }
                Err(error) => rotated = Err(error),
            }
        }
        if let Err(error) = &done {
            let failure = Failure::new(&tail.path, error);
            if task == Task::Rotate {
                rotated = Err(failure.error());
            }
            state.failure.get_or_insert(failure);
        }
        state.tail = Some(tail);
        drop(state);
        leading.has_finished = true;
        drop(leading);
        (self.lock(), rotated)
    }
}

/// Sees to it that those who wait learn how it ended, even if the leader panics. Who panicked before, and writes in a destructor, is a
/// leader like any other.
struct Leading<'a> {
    shared: &'a Shared,
    has_finished: bool,
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if !self.has_finished {
            let mut state = self.shared.lock();
            let error = io::Error::other("the thread that wrote the log panicked");
            state.failure.get_or_insert_with(|| Failure::new(&self.shared.dir, &error));
        }
        self.shared.progress.notify_all();
    }
}
