//! Reading a section file: nothing of it is handed out before all of it was checked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytemuck::AnyBitPattern;

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
    pub(crate) fn open(dir: &Path, name: &str, expected: &SectionHeader, threads: usize) -> Result<Self, Error> {
        let path = dir.join(name);
        let bytes = Mapping::open(&path).map_err(Error::io(&path, Outcome::NotApplied))?;
        bytes.prefetch();
        let sections = check(&bytes, &path, expected, threads)?;
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

/// Checks every byte, from the outside in: what is not yet checked is believed in nothing.
fn check(bytes: &[u8], path: &Path, expected: &SectionHeader, threads: usize) -> Result<Vec<Section>, Error> {
    let corrupt = |offset: usize, reason: &str| Error::corrupt(path, offset as u64, reason);
    let (Some(header), Some((body, footer))) = (bytes.first_chunk::<LINE>(), bytes.split_last_chunk::<LINE>()) else {
        return Err(corrupt(bytes.len(), "the file is cut off"));
    };
    expected.check(header, path)?;
    if !is_sealed(footer) || footer[..8] != MAGIC {
        return Err(corrupt(body.len(), "the footer does not match its checksum, or the file is cut off"));
    }
    let number = |at: usize| u32::from_le_bytes(*footer[at..].first_chunk().expect("within the footer")) as usize;
    let table_start = u64::from_le_bytes(*footer[8..].first_chunk().expect("within the footer"));
    let (entries, blocks) = (number(16), number(20));
    let table_start = usize::try_from(table_start).ok().filter(|start| (LINE..=body.len()).contains(start));
    let Some(table_start) = table_start else {
        return Err(corrupt(body.len(), "the footer points outside of the file"));
    };
    let (content, table) = body.split_at(table_start);
    let lengths = entries.checked_mul(ENTRY).zip(blocks.checked_mul(4));
    let length = lengths.and_then(|(entries, blocks)| entries.checked_add(blocks));
    if length != Some(table.len()) || blocks != content.len().div_ceil(BLOCK) {
        return Err(corrupt(body.len(), "the footer does not fit the file"));
    }
    if crc32fast::hash(table) != number(24) as u32 {
        return Err(corrupt(table_start, "the table does not match its checksum"));
    }
    let (entries, checksums) = table.split_at(entries * ENTRY);
    if let Some(block) = first_damaged(content, checksums, threads) {
        return Err(corrupt(block * BLOCK, "these 64 KiB do not match their checksum"));
    }
    let mut sections: Vec<Section> = Vec::with_capacity(entries.len() / ENTRY);
    for (at, entry) in entries.chunks_exact(ENTRY).enumerate() {
        let section = section(entry, content.len()).filter(|new| sections.iter().all(|old| old.tag != new.tag));
        let outside = || corrupt(table_start + at * ENTRY, "the table has an entry that was never written");
        sections.push(section.ok_or_else(outside)?);
    }
    Ok(sections)
}

/// An entry of the table, if it is one of a section within `content` bytes.
fn section(entry: &[u8], content: usize) -> Option<Section> {
    let tag = u32::from_le_bytes(*entry.first_chunk()?);
    let start = usize::try_from(u64::from_le_bytes(*entry.get(8..)?.first_chunk()?)).ok()?;
    let length = usize::try_from(u64::from_le_bytes(*entry.get(16..)?.first_chunk()?)).ok()?;
    let end = start.checked_add(length)?;
    (start >= LINE && start.is_multiple_of(LINE) && end <= content).then_some(Section { tag, start, end })
}

/// The first block that does not match its checksum.
fn first_damaged(content: &[u8], checksums: &[u8], threads: usize) -> Option<usize> {
    let blocks = checksums.len() / 4;
    let next = AtomicUsize::new(0);
    let damaged = AtomicUsize::new(usize::MAX);
    let work = || {
        loop {
            let from = next.fetch_add(STRIDE, Ordering::Relaxed);
            if from >= blocks.min(damaged.load(Ordering::Relaxed)) {
                return;
            }
            let until = (from + STRIDE).min(blocks);
            for (block, bytes) in (from..until).zip(content[from * BLOCK..].chunks(BLOCK)) {
                if crc32fast::hash(bytes).to_le_bytes() != checksums[block * 4..block * 4 + 4] {
                    damaged.fetch_min(block, Ordering::Relaxed);
                    break;
                }
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
    Some(damaged.into_inner()).filter(|block| *block != usize::MAX)
}

/// Checks bytes as if they were a file.
#[cfg(fuzzing)]
pub(in crate::durable) fn check_bytes(
    bytes: &[u8],
    expected: &SectionHeader,
) -> Result<Vec<std::ops::Range<usize>>, Error> {
    let sections = check(bytes, Path::new("fuzzed"), expected, 1)?;
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
