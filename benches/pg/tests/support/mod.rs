//! What several tests do.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::Path;
use std::time::{Duration, Instant};

use ephemeral_postgres::{Profile, Server};

/// A fast server of our own, whatever `DATABASE_URL` says.
pub(crate) async fn fast() -> Server {
    Server::builder().profile(Profile::Fast).owned().start().await.expect("a server")
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Waits until something holds; at most so long.
pub(crate) fn within(patience: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + patience;
    while !holds() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// The directory of a server, from its URL over the socket.
pub(crate) fn directory(url: &str) -> std::path::PathBuf {
    let host = url.split_once('@').expect("a user").1.split_once(':').expect("a port").0;
    Path::new(&host.replace("%2F", "/")).to_owned()
}

/// The number of a server's process, from its directory.
pub(crate) fn process(directory: &Path) -> i32 {
    let text = std::fs::read_to_string(directory.join("data/postmaster.pid")).expect("it runs");
    text.lines().next().expect("a line").parse().expect("a number")
}
