//! A store on disk: its directory, the names and the sections of its files.

mod recovery;
mod snapshot;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use crate::clock::Clock;
use crate::config::{Config, ZeroVectors};
use crate::durable::files::Files;
use crate::durable::log::Log;
use crate::durable::manifest::{DirLock, Manifest};
use crate::durable::sections::ENDING;
use crate::error::Error;
use crate::store::{MemoryStore, ROTATION_SEED, Shared};

pub use recovery::{Recovery, TornWrite};

/// Where a store is kept.
#[derive(Debug)]
pub(crate) struct Disk<P> {
    pub(crate) log: Log,
    pub(crate) dir: PathBuf,
    files: Arc<dyn Files>,
    encode: fn(&P) -> serde_json::Result<Vec<u8>>,
    /// Whether a payload reads back.
    check: fn(&[u8]) -> serde_json::Result<()>,
    /// One snapshot at a time: the manifest that is in force.
    manifest: Mutex<Option<Manifest>>,
    /// The thread that turns payloads into JSON for a snapshot.
    writing: Mutex<Option<ThreadId>>,
    /// How often files of before stayed behind.
    cleanups_failed: AtomicU64,
    _lock: DirLock,
}

/// Kinds of section files.
const SEGMENT: u16 = 1;
const STATE: u16 = 2;

/// Sections of a state file: a value for each row of each segment, one after the other.
mod state {
    pub(super) const LAST_SEEN: u32 = 1;
    pub(super) const RECURRENCE: u32 = 2;
    pub(super) const IMPORTANCE: u32 = 3;
    pub(super) const WEIGHT: u32 = 4;
    /// Class in two bits, pinned, dead.
    pub(super) const TRAITS: u32 = 5;
    /// Names of incidents, a JSON list of pairs of number and name.
    pub(super) const INCIDENTS: u32 = 6;
    /// The latest moment that any memory was ever seen at, of one that is gone perhaps.
    pub(super) const NEWEST: u32 = 7;
}

const PINNED: u8 = 4;
const DEAD: u8 = 8;

/// The file of a segment's first `rows` rows. A segment that another life of the store has written keeps its uid, and none is given twice
/// as long as a manifest names a file by it: a name stands for one content.
fn segment_name(uid: u64, rows: usize) -> String {
    format!("segment-{uid}-{rows}{ENDING}")
}

/// The file of what all rows count for. Not named by its lsn: which rows there are changes without a record when segments are compacted.
fn state_name(uid: u64) -> String {
    format!("state-{uid}{ENDING}")
}

/// The uid in the name of a segment or a state.
fn uid_of(name: &str) -> Option<u64> {
    let stem = name.strip_suffix(ENDING)?;
    let uid = match stem.strip_prefix("state-") {
        Some(uid) => uid,
        None => stem.strip_prefix("segment-")?.split_once('-')?.0,
    };
    uid.parse().ok().filter(|&uid: &u64| uid < u64::MAX)
}

/// What codes and vectors depend on: a store opened with another value of these would not be the same.
pub(crate) fn fingerprint(config: &Config) -> u64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&ROTATION_SEED.to_le_bytes());
    hash.update(&[u8::from(config.zero_vectors == ZeroVectors::Unrelated)]);
    let mut parts = Vec::new();
    if let Some(normalizer) = &config.normalizer {
        normalizer.parts().for_each(|part| parts.extend_from_slice(&part.to_bits().to_le_bytes()));
    }
    hash.update(&parts);
    u64::from(hash.finalize()) | (parts.len() as u64) << 32
}

impl<P> Disk<P> {
    /// How often so far not all files of before could be removed.
    pub(crate) fn cleanups_failed(&self) -> u64 {
        self.cleanups_failed.load(Ordering::Relaxed)
    }

    /// A payload as it is written down, and read back at once: what JSON writes it does not always read (a NaN is written as `null`, a
    /// value nested deeper than 128 is refused), and a store with such a payload could not be opened.
    fn encode(&self, payload: &P) -> serde_json::Result<Vec<u8>> {
        let encoded = (self.encode)(payload)?;
        (self.check)(&encoded)?;
        Ok(encoded)
    }
}

impl<P, C> Shared<P, C> {
    /// A payload as it is written down; nothing in a store in memory. Code of the user's: not to be called under a lock.
    pub(crate) fn encode(&self, payload: &P) -> Result<Vec<u8>, Error> {
        let Some(disk) = &self.disk else { return Ok(Vec::new()) };
        Ok(disk.encode(payload)?)
    }
}

impl<P: Send + Sync, C: Clock> MemoryStore<P, C> {
    /// Returns once all that was written before the call is on disk, whatever the durability of the store. In memory it does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::LogFailed`] if the disk refused: what of it survives is not known.
    pub fn sync(&self) -> Result<(), Error> {
        self.shared.disk.as_ref().map_or(Ok(()), |disk| disk.log.sync().map(|_| ()))
    }
}

#[cfg(test)]
mod tests;
