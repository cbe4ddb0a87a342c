//! A server dies with the process that holds it, however that dies.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{directory, fast, is_alive, process, within};

/// Full count: `CYCLES=1000 cargo test -p ephemeral-postgres --test parent_death`.
#[test]
fn killed_holder_leaves_no_process_and_the_next_start_removes_its_folder() {
    let cycles: u32 = std::env::var("CYCLES").map_or(10, |cycles| cycles.parse().expect("a number"));
    let cache = tempfile::tempdir().expect("a folder");
    let mut left = None;
    for cycle in 0..cycles {
        let mut holder = Command::new(env!("CARGO_BIN_EXE_ephemeral-postgres"))
            .args(["up", "--fast"])
            .env_remove("DATABASE_URL")
            // A state of its own, and one template for all.
            .env("EPHEMERAL_PG_CACHE", open(cache.path()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut url = String::new();
        BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut url).expect("said");
        let directory = directory(url.trim());
        let server = process(&directory);
        assert!(is_alive(server) && directory.is_dir(), "cycle {cycle}: {url}");
        if let Some(left) = left.replace(directory) {
            let left: std::path::PathBuf = left;
            assert!(!left.exists(), "cycle {cycle}: the start has not removed {}", left.display());
        }
        holder.kill().expect("killed");
        holder.wait().expect("waited for");
        assert!(within(Duration::from_secs(10), || !is_alive(server)), "cycle {cycle}: the server lives on");
    }
    // And so does the last one's.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    drop(runtime.block_on(fast()));
    assert!(left.is_some_and(|left| !left.exists()), "the last folder is left");
}

/// The user that a server of root runs as has to get to it.
fn open(dir: &std::path::Path) -> &std::path::Path {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("opened");
    dir
}

#[test]
fn server_outlives_the_thread_that_asked_for_it() {
    let asked = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = runtime.block_on(fast());
        let pid = runtime.block_on(server.process()).expect("it runs");
        (server, pid)
    });
    let (server, pid) = asked.join().expect("joined");
    std::thread::sleep(Duration::from_millis(300));
    assert!(is_alive(pid));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let row = runtime.block_on(async {
        server.connect().await.expect("a client").query_one("SELECT 1", &[]).await.expect("an answer")
    });
    assert_eq!(row.get::<_, i32>(0), 1);
    drop(server);
    assert!(!is_alive(pid));
}
