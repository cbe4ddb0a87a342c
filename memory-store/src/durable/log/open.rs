//! Opening a log: which files it has, and whether they follow each other.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::record::{FILE_HEADER, FileHeader, MARK_BYTES};
use super::recover::{Scanned, scan};
use super::tail::{self, Tail};
use super::{Flusher, Log, LogHeader, LogRecovery, Record, Shared, Sizing, State, Torn};
use crate::durable::files::{Files, read_full};
use crate::durable::{Durability, Lsn};
use crate::{Error, Outcome};

/// Visits a record that follows the snapshot.
pub(crate) type Replay<'a> = dyn FnMut(Record<'_>) -> Result<(), Error> + 'a;

impl Log {
    /// Opens the log of a directory and calls `replay` for each record that follows `after`, the lsn of the snapshot, in order. Nothing is
    /// written, unless `after` is `None`, which stands for a store without a snapshot, and there is no log yet: then one is made.
    ///
    /// Files that hold nothing after the snapshot are not read.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        dir: &Path,
        header: LogHeader,
        after: Option<Lsn>,
        durability: Durability,
        replay: &mut Replay<'_>,
    ) -> Result<(Self, LogRecovery), Error> {
        Self::open_sized(files, dir, header, after, durability, Sizing::default(), replay)
    }

    pub(crate) fn open_sized(
        files: Arc<dyn Files>,
        dir: &Path,
        header: LogHeader,
        after: Option<Lsn>,
        durability: Durability,
        sizing: Sizing,
        replay: &mut Replay<'_>,
    ) -> Result<(Self, LogRecovery), Error> {
        let mut found = LogRecovery::default();
        let names = files.list(dir).map_err(Error::io(dir, Outcome::NotApplied))?;
        let mut firsts: Vec<Lsn> = names.iter().filter_map(|name| tail::first_of(name)).collect();
        firsts.sort_unstable();
        let snapshot = after.unwrap_or_default();
        let Some(newest) = firsts.last().copied() else {
            if after.is_some() {
                let reason = format!("there is no log, but the snapshot at {snapshot} has one");
                return Err(Error::corrupt(&dir.join(tail::name(Lsn(snapshot.0 + 1))), 0, reason));
            }
            let header = FileHeader { store: header, first: Lsn(1), salt: fastrand::u32(..), step: sizing.step };
            let tail = Tail::create(&files, dir, header, durability)?;
            let state = State::new(tail, Lsn(0), Lsn(0), Vec::new(), sizing);
            return Ok((Self::start(files, dir, durability, sizing, header.salt, state)?, found));
        };

        // The first that is needed is the last that begins no later than the record after the snapshot.
        let begin = firsts.partition_point(|first| first.0 <= snapshot.0 + 1).saturating_sub(1);
        let mut salt = None;
        let mut scanned: Option<(FileHeader, Scanned)> = None;
        let mut opened = None;
        for (at, first) in firsts.iter().enumerate().skip(begin) {
            let path = dir.join(tail::name(*first));
            let failed = || Error::io(&path, Outcome::NotApplied);
            let file = files.open(&path).map_err(failed())?;
            let mut bytes = [0; FILE_HEADER];
            let read = read_full(&*file, &mut bytes, 0).map_err(failed())?;
            let head = FileHeader::decode(&bytes[..read], &path, header)?;
            if head.first != *first || salt.is_some_and(|salt| salt != head.salt) {
                return Err(Error::corrupt(&path, 0, "the header is that of another file"));
            }
            salt = Some(head.salt);
            let expected = scanned.as_ref().map_or(snapshot.0 + 1, |(_, scanned)| scanned.last.0 + 1);
            let fits = if scanned.is_some() { first.0 == expected } else { first.0 <= expected };
            if !fits {
                let reason =
                    format!("the log goes on at {first} where {expected} is due: a file is missing, or cut off");
                return Err(Error::corrupt(&path, 0, reason));
            }
            let result = scan(&*file, &path, &head, firsts.get(at + 1).copied(), &mut |record, offset| {
                if record.lsn <= snapshot {
                    return Ok(());
                }
                found.records += 1;
                found.bytes += record.body.len() as u64;
                replay(Record { lsn: record.lsn, kind: record.kind, body: record.body, file: &path, offset })
            })?;
            scanned = Some((head, result));
            opened = Some((file, path));
        }
        let ((head, scanned), (file, path)) = scanned.zip(opened).expect("at least the newest file was read");
        if scanned.last < snapshot {
            let reason = format!("the log ends at {}, but the snapshot is of {snapshot}", scanned.last);
            return Err(Error::corrupt(&path, scanned.end, reason));
        }
        if scanned.torn_until > scanned.end {
            let bytes = scanned.torn_until - scanned.end;
            let copy = dir.join(tail::free_name(newest, &names));
            found.torn = Some(Torn { file: path.clone(), offset: scanned.end, bytes, copy });
        }
        let older = firsts[..firsts.len() - 1].iter().map(|first| (*first, dir.join(tail::name(*first)))).collect();
        let tail = Tail::resume(&files, file, path, head, &scanned, found.torn.clone(), durability);
        let state = State::new(tail, scanned.last, scanned.durable, older, sizing);
        Ok((Self::start(files, dir, durability, sizing, head.salt, state)?, found))
    }
}

impl Log {
    fn start(
        files: Arc<dyn Files>,
        dir: &Path,
        durability: Durability,
        sizing: Sizing,
        salt: u32,
        state: State,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            files,
            dir: dir.to_owned(),
            durability,
            sizing,
            salt,
            opened: state.appended,
            state: Mutex::new(state),
            progress: Condvar::new(),
            work: Condvar::new(),
        });
        let flusher = if durability == Durability::Sync {
            None
        } else {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name("memory-store-log".to_owned());
            Some(thread.spawn(move || shared.flush()).map_err(Error::io(dir, Outcome::NotApplied))?)
        };
        Ok(Self { shared, flusher })
    }
}

impl State {
    fn new(tail: Tail, last: Lsn, durable: Lsn, older: Vec<(Lsn, PathBuf)>, sizing: Sizing) -> Self {
        let buffer = || {
            // Every page is touched here, so that no append has to wait for one under the store's lock.
            let mut buffer = vec![1; sizing.buffer];
            buffer.truncate(MARK_BYTES);
            buffer
        };
        Self {
            buffer: buffer(),
            spare: buffer(),
            reserved: 0,
            waiting: 0,
            appended: last,
            written: last,
            durable,
            newest: tail.header.first,
            tail: Some(tail),
            older,
            failure: None,
            flusher: Flusher::Busy,
            closing: false,
        }
    }
}
