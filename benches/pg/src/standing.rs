//! The server of `up`: one a user, found by whoever asks for it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::cache;
use crate::error::Error;
use crate::server::{Server, ServerReport};

/// The name of two files, one that says where the server is (`.json`), and one that its holder locks, so that there is one (`.lock`).
const NAME: &str = "up";

/// How long the holder may take to end.
const PATIENCE: Duration = Duration::from_secs(70);

/// A server that another process holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Standing {
    /// The number of the process that holds it.
    pub holder: i32,
    /// When that process began, which tells it from a later one of the same number.
    started: u64,
    /// Where it is, over its socket.
    pub url: String,
    /// Where it is over TCP.
    pub tcp_url: Option<String>,
    /// What it is.
    pub report: ServerReport,
}

impl Standing {
    /// The server that is up, if one is.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Setting`] if there is no cache folder.
    pub fn find() -> Result<Option<Self>, Error> {
        let path = cache::dir()?.join(cache::own(NAME) + ".json");
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path)(error)),
            Ok(bytes) => {
                let read = serde_json::from_slice(&bytes).map_err(io::Error::from);
                let standing: Self = read.map_err(Error::io(&path))?;
                Ok(Some(standing).filter(Self::is_held))
            }
        }
    }

    /// Has the holder stop the server, and waits until it is gone.
    ///
    /// # Errors
    /// [`Error::Killed`] if the holder does not end within 70 s; [`Error::Io`].
    pub fn end(&self) -> Result<(), Error> {
        if let Some(holder) = Pid::from_raw(self.holder).filter(|_| self.is_held()) {
            let refused = |error: rustix::io::Errno| Error::Io { path: "kill".into(), source: error.into() };
            kill_process(holder, Signal::TERM).map_err(refused)?;
        }
        let until = Instant::now() + PATIENCE;
        while self.is_held() {
            if Instant::now() > until {
                return Err(Error::Killed(PATIENCE));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn is_held(&self) -> bool {
        started(self.holder) == Some(self.started)
    }
}

/// When a process began, in ticks since the machine did; `None` if there is none of this number (proc(5), the 22nd field of `stat`).
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses with anything in it; the third says whether it is dead.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    (rest.next()? != "Z").then(|| rest.nth(18)?.parse().ok())?
}

/// Says where a server is, until it is dropped.
#[derive(Debug)]
pub struct Holder {
    state: PathBuf,
    _lock: File,
}

impl Holder {
    /// Takes the place of the server that is up.
    ///
    /// # Errors
    /// [`Error::IsUp`] if another process has it; [`Error::Io`].
    pub fn new() -> Result<Self, Error> {
        let cache = cache::dir()?;
        let name = cache::own(NAME);
        let (lock_name, state) = (format!("{name}.lock"), cache.join(format!("{name}.json")));
        let lock = cache::lock_file(&cache, &lock_name)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { state, _lock: lock }),
            Err(TryLockError::Error(error)) => Err(Error::io(cache.join(lock_name))(error)),
            Err(TryLockError::WouldBlock) => {
                let url = Standing::find()?.map_or_else(|| "it is starting".to_owned(), |standing| standing.url);
                Err(Error::IsUp { url })
            }
        }
    }

    /// Says where the server is.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn announce(&self, server: &Server) -> Result<(), Error> {
        let holder = rustix::process::getpid().as_raw_nonzero().get();
        let standing = Standing {
            holder,
            started: started(holder).unwrap_or_default(),
            url: server.url().to_owned(),
            tcp_url: server.tcp_url(),
            report: server.report().clone(),
        };
        let unfinished = self.state.with_extension("unfinished");
        let text = serde_json::to_vec_pretty(&standing).map_err(io::Error::from).map_err(Error::io(&self.state))?;
        // The URL over TCP has a password in it.
        write_private(&unfinished, &text).map_err(Error::io(&unfinished))?;
        fs::rename(&unfinished, &self.state).map_err(Error::io(&self.state))
    }
}

fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options().create_new(true).write(true).mode(0o600).open(path)?.write_all(text)
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.state);
    }
}
