//! What can keep a server from being there.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What to install when there is no PostgreSQL.
pub const INSTALL: &str = "apt-get install postgresql (15 or newer; its own cluster is not used), or Python's pip";

/// A place where PostgreSQL was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The place.
    pub place: String,
    /// Why it will not do.
    pub outcome: String,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.outcome)
    }
}

/// Why there is no server, or no such fault. What `expect` prints is the same text: it says what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No PostgreSQL was found; [`INSTALL`] says what to do about it.
    #[error("no PostgreSQL: {INSTALL}. Tried:{}", lines(.tried))]
    NotFound {
        /// The places, in the order of the search.
        tried: Vec<Tried>,
    },
    /// A file that was downloaded, now or earlier, is not the one that it should be. It is left where it is.
    #[error("{}: its SHA-256 is {got}, not {expected}", .path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// What its content must come to, in hexadecimal.
        expected: String,
        /// What it comes to.
        got: String,
    },
    /// `initdb` failed.
    #[error("initdb failed: {log}")]
    Init {
        /// What it printed.
        log: String,
    },
    /// The server did not come up.
    #[error("the server did not start: {log}")]
    Start {
        /// The end of its log.
        log: String,
    },
    /// The server did not stop when it was told to, and was killed.
    #[error("the server did not stop within {0:?} and was killed")]
    Killed(std::time::Duration),
    /// Another process holds the server of `up`.
    #[error("a server is up already: {url}")]
    IsUp {
        /// Where it is.
        url: String,
    },
    /// A server that was only lent (`DATABASE_URL`) is neither stopped nor signalled.
    #[error("the server of DATABASE_URL is not ours to stop, signal or suspend")]
    NotOwned,
    /// The server is stopped.
    #[error("the server is stopped")]
    Stopped,
    /// The server has no process of this number.
    #[error("the server has no process {0}")]
    NoSuchBackend(i32),
    /// The unprivileged user that the server runs as may not search a folder on the way to its files.
    #[error("{}: the user that the server runs as may not search this folder; set {variable} to another", .dir.display())]
    Permission {
        /// The first such folder.
        dir: PathBuf,
        /// The environment variable that names another place.
        variable: &'static str,
    },
    /// A durable server was asked for where nothing is durable.
    #[error("{} is on {file_system}, which forgets: set EPHEMERAL_PG_DIR to a folder on a disk", .dir.display())]
    Volatile {
        /// The folder.
        dir: PathBuf,
        /// Its file system.
        file_system: String,
    },
    /// A setting or an environment variable that will not do.
    #[error("{name}: {reason}")]
    Setting {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// Not on this platform.
    #[error("ephemeral-postgres runs servers on Linux alone; DATABASE_URL works everywhere")]
    Unsupported,
    /// The server refused a connection or a statement.
    #[error(transparent)]
    Sql(#[from] tokio_postgres::Error),
    /// The operating system refused something.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or program.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    pub(crate) fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.as_ref().to_owned(), source }
    }
}

fn lines(tried: &[Tried]) -> String {
    tried.iter().map(|tried| format!("\n  {tried}")).collect()
}
