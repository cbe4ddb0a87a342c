//! Reading a file of the log, and telling a torn tail from damage.

use std::io;
use std::path::Path;

use super::super::Lsn;
use super::super::files::{File, read_full};
use super::record::{self, FILE_HEADER, FileHeader, MARK_BYTES, Mark, RECORD_HEADER, RawRecord};
use crate::{Error, Outcome};

/// What a file turned out to hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scanned {
    /// The lsn of its last intact record, or the one before its first.
    pub(super) last: Lsn,
    /// What it proves to be on disk.
    pub(super) durable: Lsn,
    /// The size that it is known to have on disk.
    pub(super) marked_size: u64,
    /// The end of its intact part.
    pub(super) end: u64,
    /// Up to here all is proven to be on disk.
    pub(super) proven: u64,
    /// The end of the torn part; `end` if there is none.
    pub(super) torn_until: u64,
    /// Its size.
    pub(super) size: u64,
}

/// Visits the intact records of a file in order. What comes after them is zeros, a torn tail, or damage, which is an error. Of a file
/// that another follows, which begins with the record `next`, only the mark that says so can be torn: the rest was synced before.
pub(super) fn scan(
    file: &dyn File,
    path: &Path,
    header: &FileHeader,
    next: Option<Lsn>,
    visit: &mut dyn FnMut(RawRecord<'_>, u64) -> Result<(), Error>,
) -> Result<Scanned, Error> {
    let failed = || Error::io(path, Outcome::NotApplied);
    let size = file.size().map_err(failed())?;
    if size == 0 || !size.is_multiple_of(u64::from(header.step)) {
        return Err(Error::corrupt(path, size, "the file is shorter or longer than it was ever made"));
    }
    let before = Lsn(header.first.0 - 1);
    let start = FILE_HEADER as u64;
    let marked_size = u64::from(header.step);
    let mut found =
        Scanned { last: before, durable: before, marked_size, end: start, proven: start, torn_until: start, size };
    let mut window = Window::new(file, size);
    while let Some(length) = record::length(window.peek(found.end, RECORD_HEADER).map_err(failed())?) {
        if length as u64 > size - found.end {
            break;
        }
        let Some(record) = record::decode(window.peek(found.end, length).map_err(failed())?, header.salt) else {
            break;
        };
        let end = found.end + length as u64;
        if record.kind == record::MARK {
            match record.mark() {
                Some(Mark { durable, size: marked_size, next: named })
                    if record.lsn == found.last && (found.durable..=found.last).contains(&durable) =>
                {
                    if marked_size > size {
                        let reason = format!("the file is cut off: it had {marked_size} bytes on disk");
                        return Err(Error::corrupt(path, size, reason));
                    }
                    if next.is_none() && named > Lsn(0) {
                        return Err(Error::corrupt(path, end, format!("the file that goes on at {named} is missing")));
                    }
                    found.durable = durable;
                    found.marked_size = found.marked_size.max(marked_size);
                    if durable == found.last {
                        found.proven = end;
                    }
                }
                _ => break,
            }
        } else {
            if record.lsn.0 != found.last.0 + 1 {
                break;
            }
            visit(record, found.end)?;
            found.last = record.lsn;
        }
        found.end = end;
    }

    // A whole file may have to be read again here, but only when something is wrong with it: otherwise this is what was reserved.
    let mut vouched = None;
    let mut at = found.end;
    while at < size {
        let rest = window.from(at).map_err(failed())?;
        if rest.is_empty() {
            return Err(Error::corrupt(path, at, "the file became shorter while it was read"));
        }
        if let Some(last) = last_used(rest) {
            found.torn_until = at + last as u64 + 1;
            if next.is_none() {
                vouched = vouched.max(proof(rest, header.salt));
            }
        }
        let end = at + rest.len() as u64;
        // A mark may lie across the end of what was read.
        at = if end < size { end.saturating_sub(MARK_BYTES as u64 - 1).max(at + 1) } else { end };
    }
    found.torn_until = found.torn_until.max(found.end);
    if found.torn_until > found.end {
        let damaged = Lsn(found.last.0 + 1);
        if next.is_some_and(|next| next != damaged) {
            return Err(Error::corrupt(
                path,
                found.end,
                format!("record {damaged} is damaged, and later files follow"),
            ));
        }
        if let Some(durable) = vouched.filter(|durable| *durable > found.last) {
            let reason = format!("record {damaged} is damaged, and the log says that all up to {durable} was on disk");
            return Err(Error::corrupt(path, found.end, reason));
        }
    }
    Ok(found)
}

/// The last byte that is not zero.
fn last_used(bytes: &[u8]) -> Option<usize> {
    let zeros = bytes.rchunks(64).position(|chunk| chunk.iter().any(|byte| *byte != 0))?;
    bytes[..bytes.len() - zeros * 64].iter().rposition(|byte| *byte != 0)
}

/// The furthest that any intact mark in these bytes, wherever it begins, says is on disk.
fn proof(bytes: &[u8], salt: u32) -> Option<Lsn> {
    bytes
        .windows(MARK_BYTES)
        .filter(|window| Mark::may_be(window))
        .filter_map(|window| Some(record::decode(window, salt)?.mark()?.durable))
        .max()
}

/// A stretch of a file that moves forward.
#[derive(Debug)]
struct Window<'a> {
    file: &'a dyn File,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    const BYTES: usize = 1 << 20;

    fn new(file: &'a dyn File, size: u64) -> Self {
        Self { file, size, start: 0, bytes: Vec::new() }
    }

    /// What there is from `at` on: of what was read already, if a mark fits in, or of the next stretch.
    fn from(&mut self, at: u64) -> io::Result<&[u8]> {
        let have = (self.start + self.bytes.len() as u64).saturating_sub(at);
        let length = if have >= MARK_BYTES as u64 { have as usize } else { Self::BYTES };
        self.peek(at, length)
    }

    /// The `length` bytes at `at`, or fewer at the end of the file.
    fn peek(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let have = self.start + self.bytes.len() as u64;
        if at < self.start || at + length as u64 > have && have < self.size {
            self.start = at;
            self.bytes.resize(length.max(Self::BYTES).min((self.size - at) as usize), 0);
            let read = read_full(self.file, &mut self.bytes, at)?;
            self.bytes.truncate(read);
        }
        let from = (at - self.start) as usize;
        Ok(&self.bytes[from.min(self.bytes.len())..(from + length).min(self.bytes.len())])
    }
}
