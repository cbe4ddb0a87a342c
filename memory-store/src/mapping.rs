//! Files as memory.
#![allow(unsafe_code, reason = "a mapped file is memory that the compiler cannot vouch for")]

use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{Mmap, MmapMut, MmapRaw};

use crate::durable::files::reserve;
use crate::{Error, Outcome};

/// A file that is read as memory. The address is that of a page.
#[derive(Debug)]
pub(crate) struct Mapping(Option<Mmap>);

impl Mapping {
    /// Maps a whole file, which must be one that nobody writes to: those that a manifest names are not written again.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            // The operating system maps nothing that is empty.
            return Ok(Self(None));
        }
        // SAFETY: the bytes must not change while they are borrowed, and the file must not be cut. Section files are written once, under
        // another name, and the store's lock on the directory keeps other stores away. A stranger who writes to the files of a running
        // store breaks it, as he breaks every program that maps files; the documentation of the store says so.
        let mapped = unsafe { Mmap::map(file)? };
        Ok(Self(Some(mapped)))
    }

    /// Asks for the pages before they are needed. Only a matter of speed.
    pub(crate) fn prefetch(&self) {
        #[cfg(target_os = "linux")]
        if let Some(mapped) = &self.0 {
            // A file system that gives no advice is as good.
            let _ = mapped.advise(Advice::WillNeed);
        }
    }

    /// A part of the file once it is in memory. `None` if it cannot be: a sector is not to be read, which a look at it would be told by a
    /// signal, or the operating system cannot tell (Linux before 5.14).
    pub(crate) fn populated(&self, start: usize, len: usize) -> Option<&[u8]> {
        let part = self.get(start..)?.get(..len)?;
        #[cfg(target_os = "linux")]
        let is_there =
            self.0.as_ref().is_some_and(|mapped| mapped.advise_range(Advice::PopulateRead, start, len).is_ok());
        #[cfg(not(target_os = "linux"))]
        let is_there = false;
        is_there.then_some(part)
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Tells the names of one process from each other.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Zeroed memory of a fixed size for vectors. Pages that nobody has touched take no memory.
///
/// With a directory it is a file there without a name, whose pages the operating system may write out and take back when memory is
/// short; it is gone when this is dropped, or the process ends. Its blocks are reserved, since a disk that fills up later could be told
/// by a signal only. Without a directory it is anonymous memory, in huge pages where the system has them.
#[derive(Debug)]
pub(crate) struct Scratch {
    mapped: MmapRaw,
    len: usize,
}

impl Scratch {
    /// Memory of `len` bytes, at least one page.
    pub(crate) fn new(dir: Option<&Path>, len: usize) -> Result<Self, Error> {
        let place = dir.unwrap_or(Path::new("anonymous memory"));
        let made = match dir {
            Some(dir) => Self::unnamed(dir, len.max(1)),
            None => Self::anonymous(len.max(1)),
        };
        let mapped = made.map_err(Error::io(place, Outcome::NotApplied))?;
        Ok(Self { mapped, len })
    }

    fn unnamed(dir: &Path, len: usize) -> io::Result<MmapRaw> {
        // The name lives for a moment only; a crash in between leaves an empty file that the sweep knows by its ending. Until then it may
        // be in the way of another process of the same number, which takes it over: who has the directory has it alone.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("scratch-{}-{number}.tmp", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        match fs::remove_file(&path) {
            // A sweep has seen the name and was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        reserve(&file, len as u64)?;
        MmapRaw::map_raw(&file)
    }

    fn anonymous(len: usize) -> io::Result<MmapRaw> {
        let mapped = MmapMut::map_anon(len)?;
        #[cfg(target_os = "linux")]
        // Without huge pages it is slower, not wrong.
        let _ = mapped.advise(Advice::HugePage);
        Ok(mapped.into())
    }

    /// Where it begins: the address of a page. It stays the same until this is dropped. What is read and written there, by whom and in
    /// which order, is up to the caller.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.mapped.as_mut_ptr()
    }

    /// Bytes that may be used.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_is_zeroed_and_takes_no_name() {
        let dir = tempfile::tempdir().expect("a directory");
        for place in [Some(dir.path()), None] {
            let scratch = Scratch::new(place, 3 << 20).expect("memory");
            assert_eq!(scratch.len(), 3 << 20);
            assert_eq!(scratch.as_ptr().align_offset(4096), 0);
            // SAFETY: within its length, and nobody else has it.
            unsafe {
                assert_eq!(scratch.as_ptr().add((3 << 20) - 1).read(), 0);
                scratch.as_ptr().write(7);
                assert_eq!(scratch.as_ptr().read(), 7);
            }
        }
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    /// In a container every process may have the same number.
    #[test]
    fn what_a_crash_left_is_not_in_the_way_of_scratch() {
        let dir = tempfile::tempdir().expect("a directory");
        let next = NEXT.load(Ordering::Relaxed);
        for number in next..next + 100 {
            fs::write(dir.path().join(format!("scratch-{}-{number}.tmp", std::process::id())), b"old")
                .expect("written");
        }
        let scratch = Scratch::new(Some(dir.path()), 10).expect("memory");
        // SAFETY: within its length, and nobody else has it.
        assert_eq!(unsafe { scratch.as_ptr().read() }, 0);
    }

    #[test]
    fn scratch_of_nothing_is_fine_and_of_too_much_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Scratch::new(Some(dir.path()), 0).expect("memory").len(), 0);
        assert!(Scratch::new(Some(dir.path()), usize::MAX / 2).is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn an_empty_file_maps_to_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("empty"), b"").expect("written");
        assert!(Mapping::of(&File::open(dir.path().join("empty")).expect("opened")).expect("mapped").is_empty());
    }
}
