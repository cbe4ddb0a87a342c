//! Why an operation was refused, and whether anything happened.

use std::io;
use std::path::{Path, PathBuf};

/// Why an operation was refused. Unless the variant says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A vector has another number of dimensions than the store.
    #[error("the vector has {got} dimensions, the store {expected}")]
    Dimensions {
        /// Dimensions of the store.
        expected: usize,
        /// Dimensions of the vector.
        got: usize,
    },
    /// A component of a vector is NaN or infinite, as it was given or after the store's normalizer.
    #[error("component {index} of the vector is not a finite number")]
    NonFinite {
        /// Where it stands.
        index: usize,
    },
    /// All components of a vector are zero, so it has no direction, and the store does not allow that.
    #[error("the vector has no direction: all its components are zero")]
    ZeroNorm,
    /// `k` is zero.
    #[error("k is 0: a query asks for at least one memory")]
    ZeroK,
    /// A number that has to be finite, positive or within a range is not.
    #[error("{what} is {value}: {allowed}")]
    InvalidValue {
        /// The name of the number.
        what: &'static str,
        /// What was given.
        value: f64,
        /// What would be allowed.
        allowed: &'static str,
    },
    /// The configuration contradicts itself or leaves an option's range.
    #[error("{option}: {reason}")]
    InvalidConfig {
        /// The option.
        option: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// A range of times that ends before it begins.
    #[error("the range of time ends before it begins")]
    InvalidRange,
    /// There is no room beside what is critical or pinned.
    #[error("no room: {protected} memories are critical or pinned, and what they leave does not suffice")]
    CapacityExhausted {
        /// Memories that are critical or pinned.
        protected: usize,
    },
    /// A single memory is larger than the whole capacity in bytes.
    #[error("the memory takes {bytes} bytes, the store holds at most {capacity}")]
    TooLarge {
        /// Bytes of the memory.
        bytes: u64,
        /// Capacity in bytes.
        capacity: u64,
    },
    /// A file of the store is damaged. It was left as it was.
    #[error("{} is damaged at byte {offset}: {reason}", file.display())]
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage was found, in bytes from the start.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A file of the store was written by another format version, or for another number of dimensions.
    #[error("{} cannot be opened: {reason}", file.display())]
    Incompatible {
        /// The file.
        file: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The directory is open in another store, of this process or of another.
    #[error("{} is in use by another store", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// A payload could not be turned into JSON or back: one that is written, or one that a file holds.
    #[error("payload{}: {source}", place.as_ref().map_or_else(String::new, |(file, id)| format!(" of memory {id} in {}", file.display())))]
    Payload {
        /// The file that it was read from, and the number of its memory.
        place: Option<(PathBuf, u64)>,
        /// What JSON says.
        source: serde_json::Error,
    },
    /// The operating system refused to read or write a file.
    #[error("{}: {source}, {outcome}", file.display())]
    Io {
        /// The file or directory.
        file: PathBuf,
        /// Whether the operation has happened all the same.
        outcome: Outcome,
        /// What the operating system said.
        source: io::Error,
    },
    /// An earlier write to the log failed, so that what is in memory is ahead of what is on disk. The store still answers; it takes
    /// no more writes until it is opened again.
    #[error("the log failed before: the store takes no more writes until it is opened again")]
    LogFailed,
    /// A payload takes a snapshot of the store while one writes it down (turns it into JSON, or reads that back): it would wait for itself.
    #[error("a payload takes a snapshot of the store that it is being written down for")]
    WouldDeadlock,
}

/// What has become of an operation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has not happened and will not.
    NotApplied,
    /// It is in effect in this process, or a part of it is if it concerns several memories; whether it survives a crash is not known.
    Unknown,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotApplied => "nothing was applied",
            Self::Unknown => "whether it survives a crash is not known",
        })
    }
}

impl From<serde_json::Error> for Error {
    fn from(source: serde_json::Error) -> Self {
        Self::Payload { place: None, source }
    }
}

impl Error {
    pub(crate) fn io(file: &Path, outcome: Outcome) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { file: file.to_owned(), outcome, source }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, reason: reason.into() }
    }
}
