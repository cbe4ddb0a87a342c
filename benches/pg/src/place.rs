//! The folder of one cluster: short, private, on the right kind of disk, and removed in the end.

use std::env;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;

/// The variable that names the folder in which clusters are made.
pub(crate) const VARIABLE: &str = "EPHEMERAL_PG_DIR";

/// What names of our folders begin with.
const PREFIX: &str = "eph-pg-";

/// What names of folders that are being made begin with.
const UNFINISHED: &str = ".eph-pg-";

/// The file that is locked as long as a folder has an owner.
const OWNER: &str = "owner.lock";

/// The longest base in bytes: with our name and that of the socket it stays below the 108 bytes that the kernel takes.
const LONGEST: usize = 60;

/// The user that servers of root run as: `nobody`, by its number on Linux.
pub(crate) const UNPRIVILEGED: u32 = 65534;

/// The user that the server runs as, if it is not this one: PostgreSQL refuses to be root.
pub(crate) fn server_user() -> Option<u32> {
    rustix::process::geteuid().is_root().then_some(UNPRIVILEGED)
}

/// A folder that is ours.
#[derive(Debug)]
pub(crate) struct Place {
    dir: PathBuf,
    _owner: File,
}

impl Place {
    /// Makes a folder, and removes those whose owners have died.
    pub(crate) fn new(durable: bool) -> Result<Self, Error> {
        let base = base(durable)?;
        sweep(&base);
        let name = format!("{:08x}", fastrand::u32(..));
        let (unfinished, dir) = (base.join(format!("{UNFINISHED}{name}")), base.join(format!("{PREFIX}{name}")));
        DirBuilder::new().mode(0o700).create(&unfinished).map_err(Error::io(&unfinished))?;
        let owner = File::create(unfinished.join(OWNER)).map_err(Error::io(&unfinished))?;
        owner.lock().map_err(Error::io(&unfinished))?;
        if let Some(user) = server_user() {
            chown(&unfinished, Some(user), Some(user)).map_err(Error::io(&unfinished))?;
        }
        fs::rename(&unfinished, &dir).map_err(Error::io(&dir))?;
        Ok(Self { dir, _owner: owner })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        kill_all(&self.data());
        // What cannot be removed now is removed by the next start.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The first folder that will do.
fn base(durable: bool) -> Result<PathBuf, Error> {
    let candidates = match env::var_os(VARIABLE) {
        Some(dir) if !dir.is_empty() => vec![PathBuf::from(dir)],
        _ => vec![env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")],
    };
    let mut first = None;
    for base in candidates {
        match suits(&base, durable) {
            Ok(base) => return Ok(base),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or(Error::Unsupported))
}

fn suits(base: &Path, durable: bool) -> Result<PathBuf, Error> {
    let base = base.canonicalize().map_err(Error::io(base))?;
    if base.as_os_str().len() > LONGEST {
        let reason = format!("{} is longer than {LONGEST} bytes, too long for a socket", base.display());
        return Err(Error::Setting { name: VARIABLE.to_owned(), reason });
    }
    let file_system = file_system(&base);
    if durable && matches!(&*file_system, "tmpfs" | "ramfs") {
        return Err(Error::Volatile { dir: base, file_system });
    }
    may_search(&base, VARIABLE)?;
    Ok(base)
}

/// Whether the user of the server gets to a folder: an error names the first on the way that it may not search.
pub(crate) fn may_search(dir: &Path, variable: &'static str) -> Result<(), Error> {
    let Some(user) = server_user() else { return Ok(()) };
    let mut way: Vec<&Path> = dir.ancestors().collect();
    way.reverse();
    for dir in way {
        let meta = fs::metadata(dir).map_err(Error::io(dir))?;
        let bit = match () {
            () if meta.uid() == user => 0o100,
            () if meta.gid() == user => 0o010,
            () => 0o001,
        };
        if meta.is_dir() && meta.mode() & bit == 0 {
            return Err(Error::Permission { dir: dir.to_owned(), variable });
        }
    }
    Ok(())
}

/// The kind of file system that a folder is on, as the kernel calls it.
pub(crate) fn file_system(dir: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    file_system_in(&mounts, dir).unwrap_or_else(|| "an unknown file system".to_owned())
}

/// Of the mount points that a path is below, the longest; of equal ones, the last, which hides the others.
fn file_system_in(mounts: &str, dir: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        // The kernel writes blanks and the like in octal.
        let point = before.split(' ').nth(4)?.replace("\\040", " ").replace("\\134", "\\");
        dir.starts_with(&point).then(|| (point.len(), after.split(' ').next().unwrap_or_default().to_owned()))
    };
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, name)| name)
}

/// Removes what clusters have left whose owner has died, with the processes that are still in them.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.filter_map(Result::ok) {
        let (name, dir) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        let is_abandoned = if name.starts_with(PREFIX) {
            is_unlocked(&dir.join(OWNER))
        } else if name.starts_with(UNFINISHED) {
            // Its owner needs a moment to lock it.
            let made = entry.metadata().and_then(|meta| meta.modified());
            let age = made.ok().and_then(|made| SystemTime::now().duration_since(made).ok());
            age.is_some_and(|age| age > Duration::from_secs(600)) && is_unlocked(&dir.join(OWNER))
        } else {
            false
        };
        if is_abandoned {
            kill_all(&dir.join("data"));
            // Those of another user stay.
            let _ = fs::remove_dir_all(&dir);
        }
    }
}

fn is_unlocked(path: &Path) -> bool {
    match File::options().write(true).open(path) {
        Ok(file) => !matches!(file.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_))),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The processes of the server that work in a folder, as all of a cluster's do; not a shell that somebody has opened there.
pub(crate) fn processes(data: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let link = |name: &str| fs::read_link(entry.path().join(name)).ok();
            let is_of_the_server = link("cwd")? == data
                // As well one that was replaced since, or that a wrapper starts.
                && link("exe")?.file_name().is_some_and(|name| name.to_string_lossy().contains("postgres"));
            is_of_the_server.then(|| Pid::from_raw(pid))?
        })
        .collect()
}

/// Kills the processes of the server that work in a folder, and waits until they are gone.
fn kill_all(data: &Path) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let left = processes(data);
        if left.is_empty() || Instant::now() > until {
            return;
        }
        for pid in left {
            // It may be gone by now.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    const MOUNTS: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /dev/shm rw,nosuid - tmpfs tmpfs rw
31 22 0:27 / /with\\040blank rw - xfs /dev/vdb rw
32 22 0:28 / /over rw - overlay overlay rw
33 32 0:29 / /over rw - tmpfs tmpfs rw
";

    #[test]
    fn file_system_is_that_of_the_nearest_mount() {
        let of = |dir: &str| file_system_in(MOUNTS, Path::new(dir));
        assert_eq!(of("/var/tmp").as_deref(), Some("ext4"));
        assert_eq!(of("/dev/shm/x").as_deref(), Some("tmpfs"));
        assert_eq!(of("/dev/shmx").as_deref(), Some("ext4"), "a name that begins alike is another");
        assert_eq!(of("/with blank/y").as_deref(), Some("xfs"));
        assert_eq!(of("/over/z").as_deref(), Some("tmpfs"), "the later mount hides the earlier");
        assert_eq!(file_system_in("", Path::new("/")), None);
    }

    #[test]
    fn folder_of_a_dead_owner_is_swept_and_that_of_a_living_one_stays() {
        let base = tempfile::tempdir().expect("a folder");
        let (dead, alive, unfinished) =
            (base.path().join("eph-pg-dead"), base.path().join("eph-pg-alive"), base.path().join(".eph-pg-new"));
        for dir in [&dead, &alive, &unfinished] {
            fs::create_dir(dir).expect("made");
            fs::write(dir.join(OWNER), b"").expect("written");
        }
        let owner = File::options().write(true).open(alive.join(OWNER)).expect("opened");
        owner.lock().expect("locked");
        fs::create_dir(base.path().join("another")).expect("made");
        sweep(base.path());
        assert!(!dead.exists() && alive.exists() && unfinished.exists() && base.path().join("another").exists());
    }

    #[test]
    fn processes_of_the_server_are_ended_and_somebody_who_looks_around_is_not() {
        let base = tempfile::tempdir().expect("a folder");
        let data = base.path().canonicalize().expect("there").join("eph-pg-dead/data");
        fs::create_dir_all(&data).expect("made");
        fs::write(data.with_file_name(OWNER), b"").expect("written");
        let postgres = base.path().join("postgres");
        // By another process: this one's other tests start programs, which would hold it open for writing for a moment.
        assert!(Command::new("cp").arg("/bin/sleep").arg(&postgres).status().expect("started").success());
        let start = |program: &Path| Command::new(program).arg("600").current_dir(&data).spawn().expect("started");
        let (mut server, mut guest) = (start(&postgres), start(Path::new("sleep")));
        sweep(base.path());
        assert!(!data.exists());
        assert_eq!(server.wait().expect("it ends").signal(), Some(9));
        assert_eq!(guest.try_wait().expect("asked"), None);
        guest.kill().expect("ended");
        guest.wait().expect("it ends");
    }

    #[test]
    fn base_that_is_too_long_for_a_socket_is_refused_by_name() {
        let base = tempfile::tempdir().expect("a folder");
        let long = base.path().join("x".repeat(LONGEST));
        fs::create_dir(&long).expect("made");
        let error = suits(&long, false).expect_err("refused");
        assert!(matches!(&error, Error::Setting { name, .. } if name == VARIABLE), "{error}");
        assert!(matches!(suits(Path::new("/nowhere"), false), Err(Error::Io { .. })));
    }

    #[test]
    fn durable_cluster_is_refused_on_a_disk_that_forgets() {
        let shm = Path::new("/dev/shm");
        if file_system(shm) == "tmpfs" {
            assert!(matches!(suits(shm, true), Err(Error::Volatile { file_system, .. }) if file_system == "tmpfs"));
            suits(shm, false).expect("good enough for a fast one");
        }
    }
}
