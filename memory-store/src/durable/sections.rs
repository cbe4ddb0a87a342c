//! Immutable files of named sections, each byte of which is covered by a checksum.
//!
//! Little-endian:
//!
//! ```text
//! header   magic[8] version:u16 kind:u16 dim:u32 fingerprint:u64, zeros to 60, crc32:u32
//! sections each begins at a multiple of 64; zeros between them
//! table    for each section: tag:u32 0:u32 offset:u64 length:u64
//!          for each 64 KiB of what comes before the table: crc32:u32
//! footer   magic[8] table:u64 sections:u32 blocks:u32 crc32 of the table:u32, zeros to 60, crc32:u32
//! ```
//!
//! The footer stands at the very end, so that a file that was cut has none.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::path::Path;

pub(crate) use read::SectionFile;
#[cfg(fuzzing)]
pub(super) use read::{check_bytes, reseal};
pub(crate) use write::SectionWriter;

use crate::Error;

/// The ending of every section file: by it, files that no manifest names are known as the store's own.
pub(crate) const ENDING: &str = ".sections";

const MAGIC: [u8; 8] = *b"PLMEMSEC";
const VERSION: u16 = 1;
/// Bytes of one checksum, at most.
const BLOCK: usize = 64 << 10;
/// Bytes of the header and of the footer, and what sections are aligned to: a cache line, and the widest vector register.
const LINE: usize = 64;
const ENTRY: usize = 24;

/// What a section file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SectionHeader {
    /// What it holds.
    pub(crate) kind: u16,
    /// Dimensions of the vectors.
    pub(crate) dim: u32,
    /// A hash of the configuration that its bytes depend on.
    pub(crate) fingerprint: u64,
}

impl SectionHeader {
    fn encode(&self) -> [u8; LINE] {
        let mut out = [0; LINE];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[10..12].copy_from_slice(&self.kind.to_le_bytes());
        out[12..16].copy_from_slice(&self.dim.to_le_bytes());
        out[16..24].copy_from_slice(&self.fingerprint.to_le_bytes());
        seal(&mut out);
        out
    }

    /// Refuses a header that is damaged, or of another store.
    fn check(&self, bytes: &[u8; LINE], file: &Path) -> Result<(), Error> {
        if !is_sealed(bytes) {
            return Err(Error::corrupt(file, 0, "the header does not match its checksum"));
        }
        if *bytes == self.encode() {
            return Ok(());
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        let dim = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        let reason = if bytes[..8] != MAGIC {
            "it is not a section file of a memory store".to_owned()
        } else if version != VERSION {
            format!("it has version {version}, this program reads {VERSION}")
        } else if bytes[10..12] != self.kind.to_le_bytes() {
            "it holds something else".to_owned()
        } else if dim != self.dim {
            format!("it is for {dim} dimensions, the store has {}", self.dim)
        } else {
            "it was written under another configuration".to_owned()
        };
        Err(Error::Incompatible { file: file.to_owned(), reason })
    }
}

/// Puts the checksum of a line into its last four bytes.
fn seal(line: &mut [u8; LINE]) {
    let crc = crc32fast::hash(&line[..LINE - 4]);
    line[LINE - 4..].copy_from_slice(&crc.to_le_bytes());
}

fn is_sealed(line: &[u8; LINE]) -> bool {
    line[LINE - 4..] == crc32fast::hash(&line[..LINE - 4]).to_le_bytes()
}
