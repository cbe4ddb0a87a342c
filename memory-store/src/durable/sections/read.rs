//! Reading a section file: nothing of it is handed out before all of it was checked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{fs, io, thread};

use bytemuck::AnyBitPattern;

use super::super::files::{File, read_full};
#[cfg(fuzzing)]
use super::super::{files::Files as _, sim::SimFiles};
use super::{BLOCK, ENTRY, LINE, MAGIC, SectionHeader, is_sealed};
use crate::mapping::Mapping;
use crate::{Error, Outcome};

/// Blocks that a thread takes at a time: 1 MiB, so that threads seldom meet and end together.
const STRIDE: usize = 16;

/// A section file, mapped and found to be as it was written.
#[derive(Debug)]
pub(crate) struct SectionFile {
    path: PathBuf,
    bytes: Mapping,
    sections: Vec<Section>,
}

/// Where a section stands, checked to be within the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Section {
    tag: u32,
    start: usize,
    end: usize,
}

impl SectionFile {
    /// Maps a file and checks all of it, on as many threads.
    ///
    /// Nothing is looked at in memory before it is there: a sector that the disk does not give back is an error then, and no signal.
    pub(crate) fn open(dir: &Path, name: &str, expected: &SectionHeader, threads: usize) -> Result<Self, Error> {
        let path = dir.join(name);
        let failed = || Error::io(&path, Outcome::NotApplied);
        let file = fs::File::open(&path).map_err(failed())?;
        let bytes = Mapping::of(&file).map_err(failed())?;
        bytes.prefetch();
        let checked = Checked { file: &file, mapped: Some(&bytes), path: &path, size: bytes.len() };
        let sections = checked.check(expected, threads)?;
        Ok(Self { path, bytes, sections })
    }

    /// The bytes of a section, which begin at a multiple of 64.
    pub(crate) fn section(&self, tag: u32) -> Result<&[u8], Error> {
        let found = self.sections.iter().find(|section| section.tag == tag);
        let Some(section) = found else {
            return Err(Error::corrupt(&self.path, self.bytes.len() as u64, format!("it has no section {tag}")));
        };
        Ok(&self.bytes[section.start..section.end])
    }

    /// A section as a slice of numbers.
    pub(crate) fn numbers<T: AnyBitPattern>(&self, tag: u32) -> Result<&[T], Error> {
        let bytes = self.section(tag)?;
        bytemuck::try_cast_slice(bytes).map_err(|error| {
            let offset = bytes.as_ptr().addr() - self.bytes.as_ptr().addr();
            Error::corrupt(&self.path, offset as u64, format!("section {tag} is no list of its numbers: {error}"))
        })
    }

    /// The file, for errors about what the sections hold.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// A file that is being checked.
#[derive(Debug, Clone, Copy)]
struct Checked<'a> {
    file: &'a dyn File,
    /// The same file, in memory.
    mapped: Option<&'a Mapping>,
    path: &'a Path,
    size: usize,
}

impl Checked<'_> {
    /// Checks every byte, from the outside in: what is not yet checked is believed in nothing.
    fn check(&self, expected: &SectionHeader, threads: usize) -> Result<Vec<Section>, Error> {
        let corrupt = |offset: usize, reason: &str| Error::corrupt(self.path, offset as u64, reason);
        if self.size < 2 * LINE {
            return Err(corrupt(self.size, "the file is cut off"));
        }
        let (mut header, mut footer) = ([0; LINE], [0; LINE]);
        let end = self.size - LINE;
        self.read(&mut header, 0)?;
        expected.check(&header, self.path)?;
        self.read(&mut footer, end)?;
        if !is_sealed(&footer) || footer[..8] != MAGIC {
            return Err(corrupt(end, "the footer does not match its checksum, or the file is cut off"));
        }
        let number = |at: usize| u32::from_le_bytes(*footer[at..].first_chunk().expect("within the footer")) as usize;
        let content = u64::from_le_bytes(*footer[8..].first_chunk().expect("within the footer"));
        let (entries, blocks) = (number(16), number(20));
        let content = usize::try_from(content).ok().filter(|content| (LINE..=end).contains(content));
        let Some(content) = content else {
            return Err(corrupt(end, "the footer points outside of the file"));
        };
        let lengths = entries.checked_mul(ENTRY).zip(blocks.checked_mul(4));
        let length = lengths.and_then(|(entries, blocks)| entries.checked_add(blocks));
        if length != Some(end - content) || blocks != content.div_ceil(BLOCK) {
            return Err(corrupt(end, "the footer does not fit the file"));
        }
        let mut table = vec![0; end - content];
        self.read(&mut table, content)?;
        if crc32fast::hash(&table) != number(24) as u32 {
            return Err(corrupt(content, "the table does not match its checksum"));
        }
        let (entries, checksums) = table.split_at(entries * ENTRY);
        self.check_content(content, checksums, threads)?;
        let mut sections: Vec<Section> = Vec::with_capacity(entries.len() / ENTRY);
        for (at, entry) in entries.chunks_exact(ENTRY).enumerate() {
            let section = section(entry, content).filter(|new| sections.iter().all(|old| old.tag != new.tag));
            let outside = || corrupt(content + at * ENTRY, "the table has an entry that was never written");
            sections.push(section.ok_or_else(outside)?);
        }
        Ok(sections)
    }

    /// Compares each block with its checksum. The error is about the first of those that are not as they were.
    fn check_content(&self, content: usize, checksums: &[u8], threads: usize) -> Result<(), Error> {
        let blocks = checksums.len() / 4;
        let next = AtomicUsize::new(0);
        let first = AtomicUsize::new(usize::MAX);
        let damage: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let work = || {
            let mut buffer = Vec::new();
            loop {
                let from = next.fetch_add(STRIDE, Ordering::Relaxed);
                if from >= blocks.min(first.load(Ordering::Relaxed)) {
                    return;
                }
                let Err((block, error)) = self.check_blocks(content, checksums, from, &mut buffer) else { continue };
                first.fetch_min(block, Ordering::Relaxed);
                let mut damage = damage.lock().unwrap_or_else(PoisonError::into_inner);
                if damage.as_ref().is_none_or(|(other, _)| block < *other) {
                    *damage = Some((block, error));
                }
            }
        };
        let helpers = threads.min(blocks.div_ceil(STRIDE)).saturating_sub(1);
        thread::scope(|scope| {
            for _ in 0..helpers {
                // Fewer threads than hoped for make it slower, not wrong.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        damage.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Checks a stride of blocks. The error comes with the block that it is about.
    fn check_blocks(
        &self,
        content: usize,
        checksums: &[u8],
        from: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), (usize, Error)> {
        let start = from * BLOCK;
        let length = (STRIDE * BLOCK).min(content - start);
        let bytes = match self.mapped.and_then(|mapped| mapped.populated(start, length)) {
            Some(bytes) => bytes,
            None => {
                buffer.resize(length, 0);
                self.read(buffer, start).map_err(|error| (from, error))?;
                buffer
            }
        };
        for (block, bytes) in (from..).zip(bytes.chunks(BLOCK)) {
            if crc32fast::hash(bytes).to_le_bytes() != checksums[block * 4..block * 4 + 4] {
                let reason = "these 64 KiB do not match their checksum";
                return Err((block, Error::corrupt(self.path, (block * BLOCK) as u64, reason)));
            }
        }
        Ok(())
    }

    fn read(&self, into: &mut [u8], offset: usize) -> Result<(), Error> {
        match read_full(self.file, into, offset as u64) {
            Ok(read) if read == into.len() => Ok(()),
            Ok(read) => {
                let end = (offset + read) as u64;
                Err(Error::corrupt(self.path, end, "the file became shorter while it was read"))
            }
            Err(error) => {
                let reason = format!("{} bytes at {offset} were not to be read: {error}", into.len());
                Err(Error::io(self.path, Outcome::NotApplied)(io::Error::new(error.kind(), reason)))
            }
        }
    }
}

/// An entry of the table, if it is one of a section within `content` bytes.
fn section(entry: &[u8], content: usize) -> Option<Section> {
    let tag = u32::from_le_bytes(*entry.first_chunk()?);
    let start = usize::try_from(u64::from_le_bytes(*entry.get(8..)?.first_chunk()?)).ok()?;
    let length = usize::try_from(u64::from_le_bytes(*entry.get(16..)?.first_chunk()?)).ok()?;
    let end = start.checked_add(length)?;
    (start >= LINE && start.is_multiple_of(LINE) && end <= content).then_some(Section { tag, start, end })
}

/// Checks bytes as if they were a file.
#[cfg(fuzzing)]
pub(in crate::durable) fn check_bytes(
    bytes: &[u8],
    expected: &SectionHeader,
) -> Result<Vec<std::ops::Range<usize>>, Error> {
    let path = Path::new("fuzzed");
    let files = SimFiles::with(&[(path.to_owned(), bytes.to_vec())].into());
    let file = files.open(path).expect("it is there");
    let sections = Checked { file: &*file, mapped: None, path, size: bytes.len() }.check(expected, 1)?;
    Ok(sections.iter().map(|section| section.start..section.end).collect())
}

/// Makes the checksums of bytes right, as far as they can be those of a file.
#[cfg(fuzzing)]
pub(in crate::durable) fn reseal(bytes: &mut [u8], header: &SectionHeader) {
    if bytes.len() < 2 * LINE {
        return;
    }
    bytes[..LINE].copy_from_slice(&header.encode());
    let end = bytes.len() - LINE;
    let (body, footer) = bytes.split_at_mut(end);
    footer[..8].copy_from_slice(&MAGIC);
    let start = u64::from_le_bytes(*footer[8..].first_chunk().expect("within the footer")) as usize;
    if start <= body.len() {
        let (content, table) = body.split_at_mut(start);
        let sums = table.len().saturating_sub(content.len().div_ceil(BLOCK) * 4);
        for (sum, block) in table[sums..].chunks_exact_mut(4).zip(content.chunks(BLOCK)) {
            sum.copy_from_slice(&crc32fast::hash(block).to_le_bytes());
        }
        footer[24..28].copy_from_slice(&crc32fast::hash(table).to_le_bytes());
    }
    super::seal(footer.first_chunk_mut().expect("a line"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with a sector that it does not give back.
    #[derive(Debug)]
    struct Scratched {
        file: fs::File,
        sector: u64,
    }

    impl File for Scratched {
        fn size(&self) -> io::Result<u64> {
            self.file.size()
        }

        fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
            if (offset..offset + into.len() as u64).contains(&self.sector) {
                return Err(io::Error::from_raw_os_error(5));
            }
            self.file.read_at(into, offset)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            unreachable!("it is only read")
        }

        fn allocate(&self, _: u64) -> io::Result<()> {
            unreachable!("it is only read")
        }

        fn sync_data(&self) -> io::Result<()> {
            unreachable!("it is only read")
        }
    }

    #[test]
    fn a_sector_that_is_not_to_be_read_is_an_error_that_names_the_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let header = SectionHeader { kind: 1, dim: 2, fingerprint: 3 };
        let files = std::sync::Arc::new(crate::durable::files::OsFiles);
        let mut writer =
            super::super::SectionWriter::create(files, dir.path(), "a.sections", &header).expect("created");
        writer.section(1, &vec![7; 3 << 20]).expect("written");
        writer.finish().expect("finished");
        let path = dir.path().join("a.sections");
        let size = fs::metadata(&path).expect("a file").len();
        for (sector, place) in [(0, 0), (70_000, 0), (2 << 20, 2 << 20), (size - 1, size - 64)] {
            for threads in [1, 3] {
                let file = Scratched { file: fs::File::open(&path).expect("opened"), sector };
                let checked = Checked { file: &file, mapped: None, path: &path, size: size as usize };
                let Err(Error::Io { file, source, .. }) = checked.check(&header, threads) else {
                    panic!("byte {sector} was read")
                };
                assert!(file == path && source.to_string().contains(&format!("bytes at {place} ")), "{source}");
            }
        }
    }
}
