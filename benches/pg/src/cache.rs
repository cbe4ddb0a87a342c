//! The user's cache folder: downloads, templates, and the state of `up`. Who changes it holds its lock.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The variable that names the folder.
pub(crate) const VARIABLE: &str = "EPHEMERAL_PG_CACHE";

/// The folder, made if need be: `EPHEMERAL_PG_CACHE`, or `ephemeral-postgres` in the user's cache folder. Root's is `/var/cache`: a server
/// that root starts runs as another user, who has to get there.
pub(crate) fn dir() -> Result<PathBuf, Error> {
    let dir = match (env::var_os(VARIABLE), env::var_os("XDG_CACHE_HOME"), env::var_os("HOME")) {
        (Some(dir), _, _) if !dir.is_empty() => PathBuf::from(dir),
        (_, Some(dir), _) if Path::new(&dir).is_absolute() => Path::new(&dir).join("ephemeral-postgres"),
        _ if rustix::process::geteuid().is_root() => PathBuf::from("/var/cache/ephemeral-postgres"),
        (_, _, Some(home)) if Path::new(&home).is_absolute() => Path::new(&home).join(".cache/ephemeral-postgres"),
        _ => {
            let reason = "neither it nor XDG_CACHE_HOME nor HOME names a folder".to_owned();
            return Err(Error::Setting { name: VARIABLE.to_owned(), reason });
        }
    };
    fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
    Ok(dir)
}

/// The name of what is this user's alone, where several share the folder.
pub(crate) fn own(name: &str) -> String {
    format!("{name}-{}", rustix::process::geteuid().as_raw())
}

/// Waits for the lock of a name in the cache folder and holds it until it is dropped, or until the process ends.
pub(crate) fn lock(dir: &Path, name: &str) -> Result<File, Error> {
    let file = lock_file(dir, name)?;
    file.lock().map_err(Error::io(dir.join(name)))?;
    Ok(file)
}

/// The file of a lock, not locked.
pub(crate) fn lock_file(dir: &Path, name: &str) -> Result<File, Error> {
    let path = dir.join(name);
    File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io(&path))
}

/// A folder of this name in the cache, filled by `fill` if it is not there. It appears as a whole or not at all.
pub(crate) fn folder<E: From<Error>>(
    cache: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let dir = cache.join(name);
    if dir.is_dir() {
        return Ok(dir);
    }
    let _alone = lock(cache, &format!("{name}.lock"))?;
    if dir.is_dir() {
        return Ok(dir);
    }
    let unfinished = cache.join(format!("{name}.unfinished"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(Error::io(&unfinished))?;
    }
    fs::create_dir(&unfinished).map_err(Error::io(&unfinished))?;
    fill(&unfinished)?;
    fs::rename(&unfinished, &dir).map_err(Error::io(&dir))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn folder_is_filled_once_and_never_seen_half_full() {
        let cache = tempfile::tempdir().expect("a folder");
        let failed: Result<PathBuf, Error> = folder(cache.path(), "thing", |dir| {
            fs::write(dir.join("first"), b"half").map_err(Error::io(dir))?;
            Err(Error::Unsupported)
        });
        assert!(matches!(failed, Err(Error::Unsupported)) && !cache.path().join("thing").exists());
        let filled = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let dir = folder(cache.path(), "thing", |dir| {
                        filled.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(fs::read_dir(dir).map_err(Error::io(dir))?.count(), 0, "what was left is gone");
                        fs::write(dir.join("first"), b"whole").map_err(Error::io(dir))
                    });
                    let text = fs::read(dir.expect("filled").join("first")).expect("there");
                    assert_eq!(text, b"whole");
                });
            }
        });
        assert_eq!(filled.into_inner(), 1);
    }

    #[test]
    fn what_cannot_be_made_is_an_error_with_its_path() {
        let error = lock(Path::new("/nowhere/at/all"), "x").expect_err("no folder");
        assert!(matches!(&error, Error::Io { path, source } if path == Path::new("/nowhere/at/all/x")
            && source.kind() == io::ErrorKind::NotFound));
    }
}
