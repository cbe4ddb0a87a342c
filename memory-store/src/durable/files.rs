//! The operating system's files, behind a trait that is small enough to be played by a disk that fails.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::Path;

/// A file system. All paths are of one directory.
pub(crate) trait Files: Debug + Send + Sync {
    /// An empty file, open for reading and writing; what had the name before is emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// A file that exists, open for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;
    /// Gives a file another name, in place of the file that had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a name away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order. Names that are not UTF-8 are none of ours and are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes durable which names the directory has.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock of a file, which is created if need be, until what is returned is dropped. [`io::ErrorKind::WouldBlock`] if it is
    /// taken.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>>;
}

/// An open file.
pub(crate) trait File: Debug + Send + Sync {
    /// Its size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads at most as many bytes as there is room for, and says how many; 0 at the end.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of it.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file longer, with zeros, and reserves the room for them on disk where the file system can.
    fn allocate(&self, size: u64) -> io::Result<()>;
    /// Makes durable what the file holds, and its size.
    fn sync_data(&self) -> io::Result<()>;
}

/// A lock, until it is dropped.
pub(crate) trait Held: Debug + Send + Sync {}

/// Reads until the room is full or the file ends, and says how many bytes it was.
pub(crate) fn read_full(file: &dyn File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OsFiles;

impl Files for OsFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(fs::File::options().read(true).write(true).create(true).truncate(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(fs::File::options().read(true).write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock()?;
        Ok(Box::new(Lock(file)))
    }
}

/// A lock that is given back, and not just closed: a process that is being started has the open files of this one for a moment, and
/// with them the lock.
#[derive(Debug)]
struct Lock(fs::File);

impl Held for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is as good, but for those who have it too.
        let _ = self.0.unlock();
    }
}

impl File for fs::File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        machine::read_at(self, into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        machine::write_all_at(self, bytes, offset)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        reserve(self, size)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }
}

pub(crate) use machine::reserve;

#[cfg(target_os = "linux")]
mod machine {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt as _;

    pub(super) fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(into, offset)
    }

    pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Makes a file `size` bytes long and reserves the blocks, so that a full disk is told here and not by a later write.
    pub(crate) fn reserve(file: &File, size: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        let from = file.metadata()?.len();
        if size <= from {
            return Ok(());
        }
        // Blocks first, the size after: a crash or a full disk in between leaves the old size, never one in the middle.
        loop {
            match fallocate(file, FallocateFlags::KEEP_SIZE, from, size - from) {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        file.set_len(size)
    }
}

/// Elsewhere a store is in memory: none is opened on disk.
#[cfg(not(target_os = "linux"))]
mod machine {
    use std::fs::File;
    use std::io;

    pub(super) fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn write_all_at(_: &File, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn reserve(_: &File, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a process has it that is just being started.
    #[test]
    fn a_lock_is_free_once_it_is_dropped_whoever_has_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("LOCK");
        let file = fs::File::options().write(true).create(true).truncate(false).open(&path).expect("opened");
        file.try_lock().expect("free");
        let inherited = file.try_clone().expect("another");
        let held = Lock(file);
        assert_eq!(OsFiles.lock(&path).expect_err("taken").kind(), io::ErrorKind::WouldBlock);
        drop(held);
        OsFiles.lock(&path).expect("free again");
        drop(inherited);
    }
}
