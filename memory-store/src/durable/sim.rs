//! A disk in memory that can be told to fail, and that forgets at a crash what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::files::{File, Files, Held};

/// What a crash keeps or loses as a whole.
const SECTOR: usize = 512;

/// A disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimFiles(Arc<Mutex<Disk>>);

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and has not happened.
    Refuse,
    /// It fails half way: a write is cut short, a sync keeps some sectors and forgets that the others were not written, a rename has
    /// happened.
    Half,
    /// The power goes: it happens half way, and everything after it fails until [`SimFiles::crash`].
    PowerLoss,
    /// It panics.
    Panic,
}

#[derive(Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that are not synced: what the name stands for since.
    name_changes: Vec<(PathBuf, Option<usize>)>,
    /// Directories that were synced, those of no file too.
    synced_dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    /// The most bytes that were asked for at once.
    longest_read: usize,
    operations: u64,
    syncs: u64,
    sync_takes: Duration,
    fault: Option<(u64, Fault)>,
    dead: bool,
    random: Option<fastrand::Rng>,
}

#[derive(Debug, Default)]
struct Inode {
    now: Vec<u8>,
    synced: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

impl SimFiles {
    /// Lets the `n`-th of the following operations that change something fail; 0 is the next.
    pub(crate) fn fail_at(&self, n: u64, fault: Fault, seed: u64) {
        let mut disk = self.disk();
        disk.fault = Some((disk.operations + n, fault));
        disk.random = Some(fastrand::Rng::with_seed(seed));
    }

    /// Operations so far that change something.
    pub(crate) fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Syncs of files so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.disk().syncs
    }

    /// Whether a directory was ever synced.
    pub(crate) fn has_synced_dir(&self, dir: &Path) -> bool {
        self.disk().synced_dirs.contains(dir)
    }

    /// The most bytes that were asked for at once.
    pub(crate) fn longest_read(&self) -> usize {
        self.disk().longest_read
    }

    /// Whether the fault has come to pass.
    pub(crate) fn has_failed(&self) -> bool {
        self.disk().fault.is_none()
    }

    /// The power goes: nothing succeeds until [`crash`](Self::crash).
    pub(crate) fn power_off(&self) {
        self.disk().dead = true;
    }

    /// Lets each sync of a file take this long.
    pub(crate) fn slow_down(&self, sync: Duration) {
        self.disk().sync_takes = sync;
    }

    /// The power comes back. Of what was not synced, each sector has the content of some moment since, and the directory is as it was at
    /// one moment since.
    pub(crate) fn crash(&self, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut disk = self.disk();
        let kept = random.usize(0..=disk.name_changes.len());
        let mut names = disk.synced_names.clone();
        for (path, inode) in disk.name_changes.drain(..).take(kept) {
            match inode {
                Some(inode) => names.insert(path, inode),
                None => names.remove(&path),
            };
        }
        disk.synced_names.clone_from(&names);
        disk.names = names;
        for inode in &mut disk.inodes {
            inode.lose(&mut random);
        }
        disk.locks.clear();
        disk.dead = false;
        disk.fault = None;
    }

    /// The names and contents of all files.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let disk = self.disk();
        disk.names.iter().map(|(path, inode)| (path.clone(), disk.inodes[*inode].now.clone())).collect()
    }

    /// A disk with these files, all of them synced.
    pub(crate) fn with(contents: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let mut disk = Disk::default();
        for (path, bytes) in contents {
            disk.names.insert(path.clone(), disk.inodes.len());
            disk.inodes.push(Inode { now: bytes.clone(), synced: bytes.clone(), changes: Vec::new() });
        }
        disk.synced_names.clone_from(&disk.names);
        Self(Arc::new(Mutex::new(disk)))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation. `Ok(Some(_))` says that it is to happen half way.
    fn operation(&self) -> io::Result<(MutexGuard<'_, Disk>, Option<Fault>)> {
        let mut disk = self.disk();
        if disk.dead {
            return Err(io::Error::other("the power is off"));
        }
        let number = disk.operations;
        disk.operations += 1;
        let fault = disk.fault.take_if(|(at, _)| *at == number).map(|(_, fault)| fault);
        match fault {
            Some(Fault::Refuse) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Panic) => panic!("as the test wants it"),
            Some(Fault::PowerLoss) => {
                disk.dead = true;
                Ok((disk, fault))
            }
            Some(Fault::Half) | None => Ok((disk, fault)),
        }
    }
}

fn failed<T>() -> io::Result<T> {
    Err(io::Error::other("as the test wants it"))
}

impl Disk {
    fn half(&mut self) -> bool {
        self.random.as_mut().is_none_or(fastrand::Rng::bool)
    }

    fn name(&mut self, path: &Path, inode: Option<usize>) {
        match inode {
            Some(inode) => self.names.insert(path.to_owned(), inode),
            None => self.names.remove(path),
        };
        self.name_changes.push((path.to_owned(), inode));
    }
}

impl Inode {
    fn apply(&mut self, change: Change) {
        match &change {
            Change::Write(at, bytes) => {
                if self.now.len() < at + bytes.len() {
                    self.now.resize(at + bytes.len(), 0);
                    self.changes.push(Change::Size(at + bytes.len()));
                }
                self.now[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Change::Size(size) => self.now.resize(*size, 0),
        }
        self.changes.push(change);
    }

    /// What a disk may hold that was not synced since `synced`.
    fn survivor(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let grown = |change: &Change| match change {
            Change::Size(size) => *size,
            Change::Write(..) => 0,
        };
        let sizes = random.usize(0..=self.changes.len());
        let size = self.changes[..sizes].iter().map(grown).chain([self.synced.len()]).max().unwrap_or_default();
        let mut out = self.synced.clone();
        out.resize(size, 0);
        // All, nothing, or each sector by itself.
        let mood = random.u8(0..3);
        for start in (0..size).step_by(SECTOR) {
            let end = (start + SECTOR).min(size);
            let touching: Vec<(usize, &[u8])> = self
                .changes
                .iter()
                .filter_map(|change| match change {
                    Change::Write(at, bytes) if *at < end && at + bytes.len() > start => Some((*at, &**bytes)),
                    Change::Write(..) | Change::Size(_) => None,
                })
                .collect();
            if touching.is_empty() {
                continue;
            }
            let kept = match mood {
                0 => 0,
                1 => touching.len(),
                _ => random.usize(0..=touching.len()),
            };
            for (at, bytes) in &touching[..kept] {
                let (from, until) = (start.max(*at), end.min(at + bytes.len()));
                out[from..until].copy_from_slice(&bytes[from - at..until - at]);
            }
        }
        out
    }

    fn lose(&mut self, random: &mut fastrand::Rng) {
        self.now = self.survivor(random);
        self.synced.clone_from(&self.now);
        self.changes.clear();
    }
}

impl Files for SimFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let (mut disk, fault) = self.operation()?;
        // A file that is emptied is played by another one: none of ours needs the difference.
        let inode = disk.inodes.len();
        disk.inodes.push(Inode::default());
        disk.name(path, Some(inode));
        if fault.is_some() {
            return failed();
        }
        Ok(Box::new(SimFile { files: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let disk = self.disk();
        let Some(inode) = disk.names.get(path).copied() else { return Err(io::ErrorKind::NotFound.into()) };
        Ok(Box::new(SimFile { files: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut disk, fault) = self.operation()?;
        let Some(inode) = disk.names.get(from).copied() else { return Err(io::ErrorKind::NotFound.into()) };
        // One change of the directory, after which both are as they should be; a crash between the two halves is the worse case.
        disk.name(to, Some(inode));
        disk.name(from, None);
        if fault.is_some() { failed() } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut disk, fault) = self.operation()?;
        if !disk.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.name(path, None);
        if fault.is_some() { failed() } else { Ok(()) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let names = disk.names.keys().filter_map(|path| path.strip_prefix(dir).ok()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let (mut disk, fault) = self.operation()?;
        if fault.is_some() {
            return failed();
        }
        disk.synced_dirs.insert(dir.to_owned());
        if disk.name_changes.iter().all(|(path, _)| path.parent() == Some(dir)) {
            disk.synced_names = disk.names.clone();
            disk.name_changes.clear();
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        if !self.disk().locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { files: self.clone(), path: path.to_owned() }))
    }
}

#[derive(Debug)]
struct SimLock {
    files: SimFiles,
    path: PathBuf,
}

impl Held for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.files.disk().locks.remove(&self.path);
    }
}

#[derive(Debug)]
struct SimFile {
    files: SimFiles,
    inode: usize,
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.files.disk().inodes[self.inode].now.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.files.disk();
        disk.longest_read = disk.longest_read.max(into.len());
        let now = &disk.inodes[self.inode].now;
        let from = now.get(offset as usize..).unwrap_or_default();
        // Short reads now and then, as the operating system may give them.
        let length = from.len().min(into.len()).min(1 << 16);
        into[..length].copy_from_slice(&from[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut disk, fault) = self.files.operation()?;
        let kept = match fault {
            None => bytes.len(),
            Some(_) => disk.random.as_mut().map_or(0, |random| random.usize(0..=bytes.len())),
        };
        disk.inodes[self.inode].apply(Change::Write(offset as usize, bytes[..kept].to_vec()));
        if fault.is_some() { failed() } else { Ok(()) }
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let (mut disk, fault) = self.files.operation()?;
        if disk.inodes[self.inode].now.len() < size as usize && (fault.is_none() || disk.half()) {
            disk.inodes[self.inode].apply(Change::Size(size as usize));
        }
        if fault.is_some() { failed() } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let takes = self.files.disk().sync_takes;
        if !takes.is_zero() {
            std::thread::sleep(takes);
        }
        let (mut disk, fault) = self.files.operation()?;
        disk.syncs += 1;
        let mut random = disk.random.take().unwrap_or_default();
        let inode = &mut disk.inodes[self.inode];
        if fault.is_none() {
            inode.synced.clone_from(&inode.now);
            inode.changes.clear();
        } else if fault == Some(Fault::Half) {
            // The page cache holds all of it and believes that the disk does too.
            inode.synced = inode.survivor(&mut random);
            inode.changes.clear();
        }
        disk.random = Some(random);
        if fault.is_some() { failed() } else { Ok(()) }
    }
}
