//! The bytes of the log: the header of a file, a record, a mark.

use std::path::Path;

use super::super::Lsn;
use super::LogHeader;
use crate::Error;

const MAGIC: [u8; 8] = *b"PLMEMLOG";
const VERSION: u16 = 2;

/// Bytes of a file's header.
pub(super) const FILE_HEADER: usize = 44;
/// Bytes of a record before its body.
pub(super) const RECORD_HEADER: usize = 17;
/// The kind of a mark, which no record has.
pub(super) const MARK: u8 = 0;
/// Bytes of a mark.
pub(super) const MARK_BYTES: usize = RECORD_HEADER + MARK_BODY;
const MARK_BODY: usize = 24;
/// The longest body, so that a damaged length is known as such and not tried.
pub(super) const MAX_BODY: usize = 1 << 30;

/// What a file of the log says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// What it says about the store.
    pub(super) store: LogHeader,
    /// The lsn of its first record.
    pub(super) first: Lsn,
    /// Where the checksums of its records begin.
    pub(super) salt: u32,
    /// Its size is a multiple of this.
    pub(super) step: u32,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER] {
        let mut out = [0; FILE_HEADER];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        // Two bytes stay zero: the numbers after them stand where their size divides.
        out[12..16].copy_from_slice(&self.store.dim.to_le_bytes());
        out[16..24].copy_from_slice(&self.store.fingerprint.to_le_bytes());
        out[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        out[32..36].copy_from_slice(&self.salt.to_le_bytes());
        out[36..40].copy_from_slice(&self.step.to_le_bytes());
        let crc = crc32fast::hash(&out[..40]);
        out[40..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header and compares it with what the store is.
    pub(super) fn decode(bytes: &[u8], file: &Path, store: LogHeader) -> Result<Self, Error> {
        let Some(bytes) = bytes.first_chunk::<FILE_HEADER>() else {
            return Err(Error::corrupt(file, 0, "the header is cut off"));
        };
        if u32_at(bytes, 40) != crc32fast::hash(&bytes[..40]) {
            return Err(Error::corrupt(file, 0, "the header does not match its checksum"));
        }
        let incompatible = |reason| Err(Error::Incompatible { file: file.to_owned(), reason });
        if bytes[..8] != MAGIC {
            return incompatible("it is not a log of a memory store".to_owned());
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return incompatible(format!("it has version {version}, this program reads {VERSION}"));
        }
        let found = LogHeader { dim: u32_at(bytes, 12), fingerprint: u64_at(bytes, 16) };
        if found.dim != store.dim {
            return incompatible(format!("it is for {} dimensions, the store has {}", found.dim, store.dim));
        }
        if found.fingerprint != store.fingerprint {
            return incompatible("it was written under another configuration".to_owned());
        }
        let header =
            Self { store: found, first: Lsn(u64_at(bytes, 24)), salt: u32_at(bytes, 32), step: u32_at(bytes, 36) };
        if header.first.0 == 0 || header.step == 0 {
            return Err(Error::corrupt(file, 0, "the header is not one that was ever written"));
        }
        Ok(header)
    }
}

/// Appends a record to `out`.
pub(super) fn encode(out: &mut Vec<u8>, salt: u32, lsn: Lsn, kind: u8, parts: &[&[u8]]) {
    let start = out.len();
    let body: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(body <= MAX_BODY, "checked by the caller");
    out.extend_from_slice(&(body as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&lsn.0.to_le_bytes());
    out.push(kind);
    for part in parts {
        out.extend_from_slice(part);
    }
    let crc = checksum(&out[start..], salt);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// What is known to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// All records up to this one.
    pub(super) durable: Lsn,
    /// The size of the file that the mark stands in.
    pub(super) size: u64,
    /// The file that comes after it, which begins with this record; 0 if there was none yet.
    pub(super) next: Lsn,
}

impl Mark {
    /// The mark as it stands in the file, behind the record `last`.
    pub(super) fn encode(&self, salt: u32, last: Lsn) -> [u8; MARK_BYTES] {
        let mut out = [0; MARK_BYTES];
        out[..4].copy_from_slice(&(MARK_BODY as u32).to_le_bytes());
        out[8..16].copy_from_slice(&last.0.to_le_bytes());
        out[16] = MARK;
        out[17..25].copy_from_slice(&self.durable.0.to_le_bytes());
        out[25..33].copy_from_slice(&self.size.to_le_bytes());
        out[33..].copy_from_slice(&self.next.0.to_le_bytes());
        let crc = checksum(&out, salt);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Whether these bytes, which are as many as a mark has, may begin like one.
    pub(super) fn may_be(bytes: &[u8]) -> bool {
        bytes[16] == MARK && bytes[..4] == (MARK_BODY as u32).to_le_bytes()
    }
}

/// A record as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawRecord<'a> {
    pub(super) lsn: Lsn,
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
}

impl RawRecord<'_> {
    /// What a mark says; `None` if it is no mark.
    pub(super) fn mark(&self) -> Option<Mark> {
        let number = |at| u64_at(self.body, at);
        let is_mark = self.kind == MARK && self.body.len() == MARK_BODY;
        is_mark.then(|| Mark { durable: Lsn(number(0)), size: number(8), next: Lsn(number(16)) })
    }
}

/// Bytes of the record that begins here, by its own word; `None` if there cannot be one.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let body = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    (bytes.len() >= RECORD_HEADER && body <= MAX_BODY).then_some(RECORD_HEADER + body)
}

/// The record that begins here, if it is whole and matches its checksum.
pub(super) fn decode(bytes: &[u8], salt: u32) -> Option<RawRecord<'_>> {
    let record = bytes.get(..length(bytes)?)?;
    (u32_at(record, 4) == checksum(record, salt)).then(|| RawRecord {
        lsn: Lsn(u64_at(record, 8)),
        kind: record[16],
        body: &record[RECORD_HEADER..],
    })
}

/// Over everything but itself. It begins with the salt, which nobody who fills a record knows, so that no payload can hold what passes
/// for a record of this file.
fn checksum(record: &[u8], salt: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

/// Makes bytes pass for the first file of a log: its header, and the checksums of what stands where records may.
#[cfg(fuzzing)]
pub(in crate::durable) fn reseal(bytes: &mut Vec<u8>, store: LogHeader) {
    const STEP: usize = 512;
    bytes.resize(bytes.len().max(1).next_multiple_of(STEP), 0);
    let header = FileHeader { store, first: Lsn(1), salt: 5, step: STEP as u32 };
    bytes[..FILE_HEADER].copy_from_slice(&header.encode());
    let mut at = FILE_HEADER;
    while let Some(length) = length(&bytes[at..]) {
        let Some(record) = bytes[at..].get_mut(..length).filter(|record| record[8..16] != [0; 8]) else { break };
        let crc = checksum(record, header.salt);
        // Some stay damaged, so that what comes after damage is seen too.
        if record[16] != 0xee {
            record[4..8].copy_from_slice(&crc.to_le_bytes());
        }
        at += length;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("the caller has checked the length"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the caller has checked the length"))
}
