//! Writing a section file aside, and giving it its name once it is on disk.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::files::{File, Files};
use super::{BLOCK, ENDING, ENTRY, LINE, MAGIC, SectionHeader, seal};
use crate::{Error, Outcome};

/// Blocks that are written with one call.
const BLOCKS: usize = 16;

/// A section file that is being written. Dropping it before [`finish`](Self::finish) removes what there is of it.
#[derive(Debug)]
pub(crate) struct SectionWriter {
    files: Arc<dyn Files>,
    dir: PathBuf,
    aside: PathBuf,
    path: PathBuf,
    file: Option<Box<dyn File>>,
    pending: Vec<u8>,
    /// Where the pending bytes go: a multiple of a block.
    offset: u64,
    sections: Vec<Entry>,
    checksums: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tag: u32,
    offset: u64,
    length: u64,
}

impl SectionWriter {
    /// Begins a file, whose name must end in [`ENDING`].
    pub(crate) fn create(files: Arc<dyn Files>, dir: &Path, name: &str, header: &SectionHeader) -> Result<Self, Error> {
        debug_assert!(name.ends_with(ENDING), "{name} would not be swept");
        let aside = dir.join(format!("{name}.tmp"));
        let file = files.create(&aside).map_err(Error::io(&aside, Outcome::NotApplied))?;
        let mut pending = Vec::with_capacity(BLOCKS * BLOCK);
        pending.extend_from_slice(&header.encode());
        let (dir, path) = (dir.to_owned(), dir.join(name));
        let (sections, checksums) = (Vec::new(), Vec::new());
        Ok(Self { files, dir, aside, path, file: Some(file), pending, offset: 0, sections, checksums })
    }

    /// Writes a section in one piece.
    pub(crate) fn section(&mut self, tag: u32, bytes: &[u8]) -> Result<(), Error> {
        self.stream(tag, |out| out.write_all(bytes))
    }

    /// Writes a section piece by piece. After an error the file is of no use.
    pub(crate) fn stream(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        let offset = self.offset + self.pending.len() as u64;
        let mut body = Body { writer: self, length: 0 };
        let written = write(&mut body);
        let length = body.length;
        let padding = length.next_multiple_of(LINE as u64) - length;
        let padded = written.and_then(|()| self.put(&[0; LINE][..padding as usize]));
        self.sections.push(Entry { tag, offset, length });
        padded.map_err(Error::io(&self.aside, Outcome::NotApplied))
    }

    /// Makes the file durable under its name. After an error nothing refers to it: the snapshot it is for has not happened.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let written = self.write_table();
        written.map_err(Error::io(&self.aside, Outcome::NotApplied))?;
        self.files.rename(&self.aside, &self.path).map_err(Error::io(&self.path, Outcome::NotApplied))?;
        self.file = None;
        self.files.sync_dir(&self.dir).map_err(Error::io(&self.dir, Outcome::NotApplied))
    }

    fn write_table(&mut self) -> io::Result<()> {
        let end = self.offset + self.pending.len() as u64;
        self.write_pending(true)?;
        let mut table = Vec::with_capacity(self.sections.len() * ENTRY + self.checksums.len() * 4 + LINE);
        for entry in &self.sections {
            table.extend_from_slice(&entry.tag.to_le_bytes());
            table.extend_from_slice(&[0; 4]);
            table.extend_from_slice(&entry.offset.to_le_bytes());
            table.extend_from_slice(&entry.length.to_le_bytes());
        }
        for checksum in &self.checksums {
            table.extend_from_slice(&checksum.to_le_bytes());
        }
        let mut footer = [0; LINE];
        footer[..8].copy_from_slice(&MAGIC);
        footer[8..16].copy_from_slice(&end.to_le_bytes());
        footer[16..20].copy_from_slice(&(self.sections.len() as u32).to_le_bytes());
        footer[20..24].copy_from_slice(&(self.checksums.len() as u32).to_le_bytes());
        footer[24..28].copy_from_slice(&crc32fast::hash(&table).to_le_bytes());
        seal(&mut footer);
        table.extend_from_slice(&footer);
        let file = self.open_file()?;
        file.write_at(&table, end)?;
        file.sync_data()
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCKS * BLOCK - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == BLOCKS * BLOCK {
                self.write_pending(false)?;
            }
        }
        Ok(())
    }

    fn write_pending(&mut self, last: bool) -> io::Result<()> {
        debug_assert!(last || self.pending.len().is_multiple_of(BLOCK), "only the last block may be short");
        self.checksums.extend(self.pending.chunks(BLOCK).map(crc32fast::hash));
        self.open_file()?.write_at(&self.pending, self.offset)?;
        self.offset += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn open_file(&self) -> io::Result<&dyn File> {
        self.file.as_deref().ok_or_else(|| io::Error::other("the file was finished"))
    }
}

impl Drop for SectionWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What stays is swept later.
            let _ = self.files.remove(&self.aside);
        }
    }
}

/// A section while it is written.
struct Body<'a> {
    writer: &'a mut SectionWriter,
    length: u64,
}

impl Write for Body<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.put(bytes)?;
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
