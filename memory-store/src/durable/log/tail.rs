//! The end of the newest file: the one place where the log writes.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::files::{File, Files, read_full};
use super::super::{Durability, Lsn};
use super::Torn;
use super::record::{FILE_HEADER, FileHeader, MARK_BYTES, Mark};
use super::recover::Scanned;
use crate::{Error, Outcome};

const PREFIX: &str = "log-";
const SUFFIX: &str = ".wal";

/// The name of the file whose first record has this lsn.
pub(super) fn name(first: Lsn) -> String {
    format!("{PREFIX}{first:020}{SUFFIX}")
}

/// The lsn of the first record of a file of this name; `None` if it is no file of the log.
pub(super) fn first_of(file: &str) -> Option<Lsn> {
    let first = Lsn(file.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()?);
    (name(first) == file).then_some(first)
}

/// A name that none of `names` is, for what is left of a torn write in the file whose first record has this lsn.
pub(super) fn free_name(first: Lsn, names: &[String]) -> String {
    let name = |number: usize| format!("{PREFIX}{first:020}-{number}.torn");
    (1..).map(name).find(|name| !names.contains(name)).expect("there are more numbers than names")
}

/// The newest file and where its next record goes.
#[derive(Debug)]
pub(super) struct Tail {
    files: Arc<dyn Files>,
    file: Box<dyn File>,
    pub(super) path: PathBuf,
    pub(super) header: FileHeader,
    /// Where the next record goes.
    end: u64,
    /// The size of the file, zeros included.
    size: u64,
    /// What of that is known to be on disk.
    durable_size: u64,
    /// What the last mark in the file says is on disk: records, and the size.
    marked: (Lsn, u64),
    /// Whether the file grows on disk before it is written there.
    syncs: bool,
    mend: Option<Mend>,
}

/// What is to be done to a file that another run left behind, before it is written.
#[derive(Debug)]
struct Mend {
    /// From here on it may be in the page cache alone.
    unproven: u64,
    /// What is left of a torn write.
    torn: Option<Torn>,
}

impl Tail {
    /// A new file, which is durable under its name. Until it has the name, an error leaves things as they were.
    pub(super) fn create(
        files: &Arc<dyn Files>,
        dir: &Path,
        header: FileHeader,
        durability: Durability,
    ) -> Result<Self, Error> {
        let path = dir.join(name(header.first));
        let aside = dir.join(format!("{}.tmp", name(header.first)));
        let size = u64::from(header.step);
        let made = files.create(&aside).and_then(|file| {
            file.allocate(size)?;
            file.write_at(&header.encode(), 0)?;
            file.sync_data()?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                // The name is free for the next attempt either way: `create` empties what has it.
                let _ = files.remove(&aside);
                return Err(Error::io(&aside, Outcome::NotApplied)(error));
            }
        };
        files.rename(&aside, &path).map_err(Error::io(&path, Outcome::Unknown))?;
        files.sync_dir(dir).map_err(Error::io(dir, Outcome::Unknown))?;
        let (durable_size, marked) = (size, (Lsn(header.first.0 - 1), size));
        let (files, end, syncs) = (Arc::clone(files), FILE_HEADER as u64, durability == Durability::Sync);
        Ok(Self { files, file, path, header, end, size, durable_size, marked, syncs, mend: None })
    }

    /// The end of a file that was read whole. Nothing is written yet.
    pub(super) fn resume(
        files: &Arc<dyn Files>,
        file: Box<dyn File>,
        path: PathBuf,
        header: FileHeader,
        found: &Scanned,
        torn: Option<Torn>,
        durability: Durability,
    ) -> Self {
        let (files, end, size, durable_size) = (Arc::clone(files), found.end, found.size, found.marked_size);
        let (marked, syncs) = ((found.durable, durable_size), durability == Durability::Sync);
        let mend = Some(Mend { unproven: found.proven, torn });
        Self { files, file, path, header, end, size, durable_size, marked, syncs, mend }
    }

    /// Writes a batch: `batch` begins with room for a mark, which is used if there is news of what is on disk.
    pub(super) fn write(&mut self, batch: &mut [u8], before: Lsn, durable: Lsn) -> io::Result<()> {
        self.mend()?;
        if batch.len() == MARK_BYTES {
            return Ok(());
        }
        self.make_room(batch.len())?;
        let news = (durable, self.durable_size);
        if news == self.marked {
            return self.put(&batch[MARK_BYTES..]);
        }
        let mark = Mark { durable, size: self.durable_size, next: Lsn(0) };
        batch[..MARK_BYTES].copy_from_slice(&mark.encode(self.header.salt, before));
        self.put(batch)?;
        self.marked = news;
        Ok(())
    }

    /// Leaves word in the file that all of it is on disk.
    pub(super) fn mark(&mut self, last: Lsn) -> io::Result<()> {
        if last > self.marked.0 {
            self.put_mark(last, Lsn(0))?;
        }
        Ok(())
    }

    /// Leaves word in the file that all of it is on disk, and that a file which begins with `next` is too.
    pub(super) fn end_before(&mut self, next: Lsn) -> io::Result<()> {
        self.put_mark(Lsn(next.0 - 1), next)
    }

    fn put_mark(&mut self, last: Lsn, next: Lsn) -> io::Result<()> {
        self.make_room(MARK_BYTES)?;
        let size = self.durable_size;
        self.put(&Mark { durable: last, size, next }.encode(self.header.salt, last))?;
        self.marked = (last, size);
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.mend()?;
        self.sync_data()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.durable_size = self.size;
        Ok(())
    }

    /// Makes the file longer unless so many bytes, and a mark behind them, fit. So there is always a place for the mark that tells of a new
    /// size before anything stands in what is new, and a file that is cut to an old size says so.
    fn make_room(&mut self, bytes: usize) -> io::Result<()> {
        let end = self.end + (bytes + MARK_BYTES) as u64;
        if end > self.size {
            let step = u64::from(self.header.step);
            let slack = (self.size / 2).clamp(step, 16 * step);
            let size = (end + slack).next_multiple_of(step);
            self.file.allocate(size)?;
            self.size = size;
        }
        if self.syncs && self.durable_size < self.size {
            self.sync_data()?;
        }
        Ok(())
    }

    /// Writes what there is room for.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file safe to write on.
    ///
    /// What another run wrote last may be in the page cache and yet never reach the disk, if that run's `fdatasync` failed: the pages
    /// count as clean then. They are written once more. Likewise the names of the files: that run may have failed between giving a name
    /// and syncing the directory. And what a torn write left must be gone, on disk too, before a record takes its
    /// place: records behind the torn one might fit onto the new one by chance of their lsns. A copy of it is kept, since what was not
    /// promised may be dear all the same.
    fn mend(&mut self) -> io::Result<()> {
        let Some(mend) = &self.mend else { return Ok(()) };
        self.read(mend.unproven..self.end, |bytes, at| self.file.write_at(bytes, at))?;
        let dir = self.path.parent().unwrap_or(Path::new("."));
        if let Some(torn) = &mend.torn {
            let until = torn.offset + torn.bytes;
            let mut aside = torn.copy.clone().into_os_string();
            aside.push(".tmp");
            let copy = self.files.create(Path::new(&aside))?;
            self.read(torn.offset..until, |bytes, at| copy.write_at(bytes, at - torn.offset))?;
            copy.sync_data()?;
            self.files.rename(Path::new(&aside), &torn.copy)?;
            self.files.sync_dir(dir)?;
            let zeros = vec![0; CHUNK.min(torn.bytes as usize)];
            for at in (torn.offset..until).step_by(CHUNK) {
                self.file.write_at(&zeros[..zeros.len().min((until - at) as usize)], at)?;
            }
            self.file.sync_data()?;
        }
        self.files.sync_dir(dir)?;
        self.mend = None;
        Ok(())
    }

    /// Reads a part of the file, a stretch at a time.
    fn read(&self, part: Range<u64>, mut visit: impl FnMut(&[u8], u64) -> io::Result<()>) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        for at in part.clone().step_by(CHUNK) {
            let chunk = &mut chunk[..CHUNK.min((part.end - at) as usize)];
            if read_full(&*self.file, chunk, at)? < chunk.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            visit(chunk, at)?;
        }
        Ok(())
    }
}

/// Bytes that are read or written at once.
const CHUNK: usize = 1 << 20;
