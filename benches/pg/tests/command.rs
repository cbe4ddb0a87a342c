//! The command, as a user types it.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use tokio_postgres::NoTls;

/// A user that every Linux has: `initdb` wants its user to have a name.
const DAEMON: u32 = 1;

struct Shell {
    program: PathBuf,
    cache: tempfile::TempDir,
    user: Option<u32>,
    variables: Vec<(&'static str, OsString)>,
}

impl Shell {
    fn new() -> Self {
        let cache = tempfile::tempdir().expect("a folder");
        fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        Self { program: env!("CARGO_BIN_EXE_ephemeral-postgres").into(), cache, user: None, variables: Vec::new() }
    }

    /// With its program where every user gets to it, as long as the folder is there.
    fn for_everybody() -> (Self, tempfile::TempDir) {
        let folder = tempfile::tempdir_in("/tmp").expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        let (shell, program) = (Self::new(), folder.path().join("ephemeral-postgres"));
        fs::copy(&shell.program, &program).expect("copied");
        (Self { program, ..shell }, folder)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_remove("DATABASE_URL").env("EPHEMERAL_PG_CACHE", self.cache.path());
        command.envs(self.variables.iter().cloned());
        if let Some(user) = self.user {
            command.uid(user).gid(user).current_dir("/");
        }
        command.output().expect("started")
    }

    fn say(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn fail(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

async fn answers(url: &str) -> bool {
    let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await else { return false };
    tokio::spawn(connection);
    client.query_one("SELECT 1", &[]).await.is_ok()
}

#[tokio::test]
async fn server_is_up_until_it_is_taken_down() {
    let shell = Shell::new();
    for asked in ["url", "status", "down"] {
        assert!(shell.fail(&[asked], 1).contains("no server is up"), "{asked}");
    }
    let url = shell.say(&["up", "--detach"]);
    assert!(answers(&url).await);
    assert_eq!(shell.say(&["url"]), url);
    assert!(answers(&shell.say(&["url", "--tcp"])).await);
    let status = shell.say(&["status"]);
    assert!(status.contains("fsync on") && status.contains(&url) && status.contains("held by process"), "{status}");
    for again in [&["up", "--detach"][..], &["up"]] {
        assert!(shell.fail(again, 1).contains(&url), "the one that is up is named");
    }
    shell.say(&["down"]);
    assert!(!answers(&url).await);
    shell.fail(&["down"], 1);
    let url = shell.say(&["up", "--detach", "--fast"]);
    assert!(shell.say(&["status"]).contains("fsync off"));
    shell.say(&["down"]);
    assert!(!answers(&url).await);
}

#[test]
fn wrong_usage_is_told_from_failure() {
    let shell = Shell::new();
    for arguments in [&[][..], &["sideways"], &["up", "--slow"], &["url", "--tcp", "more"], &["down", "now"]] {
        assert!(shell.fail(arguments, 2).contains("up [--fast]"), "{arguments:?}");
    }
    assert!(shell.say(&["--help"]).contains("Exit codes"));
}

/// Root's servers run as another user; a user's run as that user. Root's run of the tests proves both.
#[tokio::test]
async fn user_without_privileges_has_a_server_too() {
    let (mut shell, _folder) = Shell::for_everybody();
    if is_root() {
        shell.user = Some(DAEMON);
        std::os::unix::fs::chown(shell.cache.path(), Some(DAEMON), Some(DAEMON)).expect("given away");
    }
    let url = shell.say(&["up", "--detach", "--fast"]);
    assert!(answers(&url).await);
    shell.say(&["down"]);
    assert!(!answers(&url).await);
}

/// What one leaves in the cache is not for the other to read.
#[tokio::test]
async fn root_and_a_user_may_have_one_cache() {
    if !is_root() {
        return;
    }
    for users in [[None, Some(DAEMON)], [Some(DAEMON), None]] {
        let (mut shell, _folder) = Shell::for_everybody();
        fs::set_permissions(shell.cache.path(), fs::Permissions::from_mode(0o1777)).expect("opened");
        for user in users {
            shell.user = user;
            let url = shell.say(&["up", "--detach", "--fast"]);
            assert!(answers(&url).await);
            shell.say(&["down"]);
        }
    }
}

#[test]
fn server_that_is_not_up_in_time_does_not_come_up_later() {
    let mut shell = Shell::new();
    let programs = tempfile::tempdir().expect("a folder");
    for program in ["initdb", "postgres"] {
        // It never says its version.
        let path = programs.path().join(program);
        fs::write(&path, "#!/bin/sh\necho $$ > \"$0.pid\"\nexec sleep 600\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made a program");
    }
    shell.variables = vec![("PG_BINDIR", programs.path().into()), ("EPHEMERAL_PG_UP_SECONDS", "1".into())];
    let said = shell.fail(&["up", "--detach"], 1);
    // Whoever holds a server, or is about to, has locked a file.
    let is_lock = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "lock");
    let files = fs::read_dir(shell.cache.path()).expect("listed").map(|entry| entry.expect("there").path());
    let locks: Vec<PathBuf> = files.filter(is_lock).collect();
    let free = locks.iter().filter(|lock| fs::File::open(lock).expect("there").try_lock().is_ok()).count();
    let pid = fs::read_to_string(programs.path().join("postgres.pid")).expect("it was asked");
    Command::new("kill").arg(pid.trim()).status().expect("started");
    assert!(said.contains("did not come up within 1s"), "{said}");
    assert_eq!((locks.len(), free), (1, 1), "somebody is about to hold a server");
}

#[test]
fn folder_that_the_server_cannot_enter_is_named() {
    if !is_root() {
        // Everybody else may enter the own folders, and the server runs as the same user.
        return;
    }
    let closed = tempfile::tempdir_in("/tmp").expect("a folder");
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).expect("closed");
    let inner = closed.path().join("inner");
    fs::create_dir(&inner).expect("made");
    let shell = Shell::new();
    for (variable, dir) in [("EPHEMERAL_PG_DIR", &inner), ("EPHEMERAL_PG_CACHE", &inner)] {
        let output = Command::new(&shell.program)
            .args(["up"])
            .env_remove("DATABASE_URL")
            .env("EPHEMERAL_PG_CACHE", shell.cache.path())
            .env(variable, dir)
            .output()
            .expect("started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let first = format!("{}: ", closed.path().display());
        assert!(said.contains(&first) && said.contains(variable) && !output.status.success(), "{said}");
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(Path::new("/proc/self")).expect("there").uid() == 0
}
