//! What makes a store survive: a log of its mutations, immutable files of what has settled, and a manifest that names them.
//!
//! The order in which a store uses them is the whole protocol:
//!
//! 1. [`manifest::lock`], so that no other store has the directory.
//! 2. [`manifest::Manifest::load`], [`sections::SectionFile::open`] of the files it names, [`log::Log::open`] after its lsn.
//! 3. For a snapshot: [`log::Log::rotate`], write the section files, [`log::Log::sync`], so that the log holds all that they do,
//!    [`manifest::Manifest::store`], [`log::Log::forget`], [`manifest::sweep`]. A crash between any two of them leaves the old manifest
//!    with all that it needs, or the new one.
//!
//! Nothing here removes or overwrites a byte of a file that could not be read whole.

pub(crate) mod files;
#[cfg(fuzzing)]
pub mod fuzzing;
pub(crate) mod log;
pub(crate) mod manifest;
pub(crate) mod sections;
#[cfg(any(test, fuzzing))]
pub(crate) mod sim;

use std::time::Duration;

/// The number of a mutation in the log: 1 for the first, without gaps. 0 stands before all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Lsn(pub(crate) u64);

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What has become of a mutation by the time the call that made it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// It is in memory. It is handed to the operating system within about 10 ms, and synced to disk at a snapshot, at `sync`, or when
    /// the operating system sees fit, or when the store is closed. A crash of the process loses at most those 10 ms, a loss of power what
    /// was not synced.
    Buffered,
    /// As `Buffered`, and synced to disk in the background at most this long after (and the time that the disk takes), whatever comes
    /// after it. A loss of power loses at most about that long. What an earlier life of the store has left unsynced is synced this long
    /// after it is opened.
    Interval(Duration),
    /// It is on disk. One `fdatasync` serves all that wait for one at the same time.
    #[default]
    Sync,
}
