//! The one file that says which files are the store.
//!
//! `MANIFEST`, little-endian, replaced as a whole:
//!
//! ```text
//! magic[8] version:u16 0:u16 length of the file:u32 dim:u32 segments:u32 fingerprint:u64 lsn:u64 next_id:u64
//! state: name      segments: rows:u64 name      name: length:u16 bytes      crc32:u32 over all before it
//! ```

use std::io;
use std::path::Path;

use super::Lsn;
use super::files::{Files, Held, read_full};
use super::sections::ENDING;
use crate::{Error, Outcome};

const MAGIC: [u8; 8] = *b"PLMEMMAN";
const VERSION: u16 = 1;
const NAME: &str = "MANIFEST";
const ASIDE: &str = "MANIFEST.tmp";
const LOCK: &str = "LOCK";
/// Bytes before the names.
const HEADER: usize = 48;
/// More than a store has segments for: a damaged length is not believed.
const MAX_BYTES: u64 = 64 << 20;

/// What a snapshot consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Dimensions of the vectors.
    pub(crate) dim: u32,
    /// A hash of the configuration that the files depend on.
    pub(crate) fingerprint: u64,
    /// The last record of the log that the files contain.
    pub(crate) lsn: Lsn,
    /// The next id to be given.
    pub(crate) next_id: u64,
    /// The section file of what is not in a segment.
    pub(crate) state: String,
    /// The segments, in order.
    pub(crate) segments: Vec<SegmentFile>,
}

/// A segment and its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    /// The name of its section file.
    pub(crate) name: String,
    /// Its rows.
    pub(crate) rows: u64,
}

impl Manifest {
    /// The manifest of a directory; `None` if there is none, which is a store that was never snapshot.
    pub(crate) fn load(files: &dyn Files, dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(NAME);
        let failed = || Error::io(&path, Outcome::NotApplied);
        let file = match files.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed()(error)),
        };
        let size = file.size().map_err(failed())?;
        if size > MAX_BYTES {
            return Err(Error::corrupt(&path, MAX_BYTES, "it is longer than a manifest can be"));
        }
        let mut bytes = vec![0; size as usize];
        let read = read_full(&*file, &mut bytes, 0).map_err(failed())?;
        Self::decode(&bytes[..read], &path).map(Some)
    }

    /// Refuses a manifest of a store with other dimensions or another configuration.
    pub(crate) fn check(&self, dir: &Path, dim: u32, fingerprint: u64) -> Result<(), Error> {
        let reason = if self.dim != dim {
            format!("it is for {} dimensions, the store has {dim}", self.dim)
        } else if self.fingerprint != fingerprint {
            "it was written under another configuration".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::Incompatible { file: dir.join(NAME), reason })
    }

    /// Whether a directory without a manifest has no log either. It must not be what is left of a store: that has a log before it has any
    /// other file.
    pub(crate) fn is_new(files: &dyn Files, dir: &Path) -> Result<bool, Error> {
        let names = files.list(dir).map_err(Error::io(dir, Outcome::NotApplied))?;
        if names.iter().any(|name| name.starts_with("log-") && name.ends_with(".wal")) {
            return Ok(false);
        }
        match names.iter().find(|name| is_name(name)) {
            Some(left) => Err(Error::corrupt(&dir.join(NAME), 0, format!("it is not there, nor a log, but {left} is"))),
            None => Ok(true),
        }
    }

    /// Puts this manifest in the place of the old one, durably. [`Outcome::Unknown`] if either may be in place now: then no file that one
    /// of them names may be removed.
    pub(crate) fn store(&self, files: &dyn Files, dir: &Path) -> Result<(), Error> {
        let (aside, path) = (dir.join(ASIDE), dir.join(NAME));
        let bytes = self.encode()?;
        let written = files.create(&aside).and_then(|file| {
            file.write_at(&bytes, 0)?;
            file.sync_data()
        });
        written.map_err(Error::io(&aside, Outcome::NotApplied))?;
        files.rename(&aside, &path).map_err(Error::io(&path, Outcome::Unknown))?;
        files.sync_dir(dir).map_err(Error::io(dir, Outcome::Unknown))
    }

    fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; HEADER];
        put_name(&mut out, &self.state)?;
        for segment in &self.segments {
            out.extend_from_slice(&segment.rows.to_le_bytes());
            put_name(&mut out, &segment.name)?;
        }
        let length = out.len() + 4;
        if length as u64 > MAX_BYTES {
            return Err(Error::TooLarge { bytes: length as u64, capacity: MAX_BYTES });
        }
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(length as u32).to_le_bytes());
        out[16..20].copy_from_slice(&self.dim.to_le_bytes());
        out[20..24].copy_from_slice(&(self.segments.len() as u32).to_le_bytes());
        out[24..32].copy_from_slice(&self.fingerprint.to_le_bytes());
        out[32..40].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.next_id.to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        Ok(out)
    }

    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let corrupt = |offset: usize, reason: &str| Error::corrupt(path, offset as u64, reason);
        let Some((body, crc)) = bytes.split_last_chunk::<4>().filter(|(body, _)| body.len() >= HEADER) else {
            return Err(corrupt(bytes.len(), "the manifest is cut off"));
        };
        if *crc != crc32fast::hash(body).to_le_bytes() {
            return Err(corrupt(0, "the manifest does not match its checksum"));
        }
        if body[..8] != MAGIC {
            return Err(corrupt(0, "it is not a manifest of a memory store"));
        }
        let version = u16::from_le_bytes([body[8], body[9]]);
        if version != VERSION {
            let reason = format!("it has version {version}, this program reads {VERSION}");
            return Err(Error::Incompatible { file: path.to_owned(), reason });
        }
        let mut rest = Rest(&body[10..]);
        let all = |rest: &mut Rest<'_>| {
            let zero = rest.array().map(u16::from_le_bytes)?;
            let length = rest.array().map(u32::from_le_bytes)?;
            if zero != 0 || length as usize != bytes.len() {
                return None;
            }
            let dim = rest.array().map(u32::from_le_bytes)?;
            let count = rest.array().map(u32::from_le_bytes)?;
            let fingerprint = rest.array().map(u64::from_le_bytes)?;
            let lsn = rest.array().map(u64::from_le_bytes).map(Lsn)?;
            let next_id = rest.array().map(u64::from_le_bytes)?;
            let state = rest.name()?;
            let mut segments = Vec::new();
            for _ in 0..count {
                let rows = rest.array().map(u64::from_le_bytes)?;
                segments.push(SegmentFile { name: rest.name()?, rows });
            }
            rest.0.is_empty().then_some(Self { dim, fingerprint, lsn, next_id, state, segments })
        };
        all(&mut rest)
            .ok_or_else(|| corrupt(body.len() - rest.0.len(), "the manifest is not one that was ever written"))
    }

    fn names(&self, file: &str) -> bool {
        self.state == file || self.segments.iter().any(|segment| segment.name == file)
    }
}

/// What of a manifest was not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn name(&mut self) -> Option<String> {
        let length = usize::from(self.array().map(u16::from_le_bytes)?);
        let (name, rest) = self.0.split_at_checked(length)?;
        let name = std::str::from_utf8(name).ok().filter(|name| is_name(name))?;
        self.0 = rest;
        Some(name.to_owned())
    }
}

/// Whether a name stays within the directory and is one of a section file.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.len() <= 255 && name.strip_suffix(ENDING).is_some_and(|stem| !stem.is_empty()) && name.bytes().all(plain)
}

fn put_name(out: &mut Vec<u8>, name: &str) -> Result<(), Error> {
    if !is_name(name) {
        let reason = format!("{name:?} is no name of a section file");
        return Err(Error::InvalidConfig { option: "file name", reason });
    }
    out.extend_from_slice(&(name.len() as u16).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
    Ok(())
}

/// A manifest that is intact, and yet none that a store has made.
pub(crate) fn corrupt(dir: &Path, reason: String) -> Error {
    Error::corrupt(&dir.join(NAME), 0, reason)
}

/// The directory of a store, which no other store has as long as this lives.
#[derive(Debug)]
pub(crate) struct DirLock {
    _held: Box<dyn Held>,
}

/// Takes the directory for one store. The lock is the operating system's: it is free again when the process ends, however it ends.
pub(crate) fn lock(files: &dyn Files, dir: &Path) -> Result<DirLock, Error> {
    match files.lock(&dir.join(LOCK)) {
        Ok(held) => Ok(DirLock { _held: held }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Error::Locked { dir: dir.to_owned() }),
        Err(error) => Err(Error::io(&dir.join(LOCK), Outcome::NotApplied)(error)),
    }
}

/// Removes what crashes and older snapshots left: section files that `manifest` does not name, and files that were never finished. Files
/// of other kinds are not touched. Returns how many it was.
///
/// Nothing is removed unless `manifest` is what the directory holds. To be called when all that it names was opened, and while no
/// section file is being written.
pub(crate) fn sweep(files: &dyn Files, dir: &Path, manifest: &Manifest) -> Result<usize, Error> {
    if Manifest::load(files, dir)?.as_ref() != Some(manifest) {
        return Ok(0);
    }
    // The name of the manifest may have come from a run that could not sync the directory.
    files.sync_dir(dir).map_err(Error::io(dir, Outcome::NotApplied))?;
    let (mut removed, mut outcome) = (0, Ok(()));
    for name in files.list(dir).map_err(Error::io(dir, Outcome::NotApplied))? {
        let unfinished = name.strip_suffix(".tmp").is_some_and(|stem| {
            let log = stem.starts_with("log-") && (stem.ends_with(".wal") || stem.ends_with(".torn"));
            stem == NAME || is_name(stem) || log || stem.starts_with("scratch-")
        });
        if unfinished || is_name(&name) && !manifest.names(&name) {
            let path = dir.join(&name);
            match files.remove(&path) {
                Ok(()) => removed += 1,
                // Vectors have a name for a moment, which is taken back while the store goes on.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // The others go all the same.
                Err(error) => outcome = outcome.and(Err(Error::io(&path, Outcome::NotApplied)(error))),
            }
        }
    }
    outcome.map(|()| removed)
}

#[cfg(test)]
mod tests;
