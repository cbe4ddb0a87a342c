//! Which state of the sources a run measured: the commit, and a fingerprint of what differs from it.

use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::Path;
use std::process::Command;

/// The state of a work tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revision {
    /// The commit checked out; `None` outside a git work tree.
    pub commit: Option<String>,
    /// A hash of the changes that are not committed, untracked files included; `None` when there are none.
    pub dirty: Option<String>,
}

impl Revision {
    /// Asks git for the state of the work tree at `folder`, leaving out the files and folders `besides`: limits and reports may
    /// change without making a measurement stale.
    #[must_use]
    pub fn of(folder: &Path, besides: &[&Path]) -> Self {
        let inside = besides.iter().filter_map(|path| path.strip_prefix(folder).ok());
        let inside = inside.filter(|path| !path.as_os_str().is_empty());
        let left_out = inside.map(|path| format!(":(exclude,literal){}", path.display()));
        let paths: Vec<String> = std::iter::once(".".to_owned()).chain(left_out).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let commit = git(folder, &["rev-parse", "HEAD"]).map(|text| String::from_utf8_lossy(&text).trim().to_owned());
        let changes = git(folder, &[&["diff", "HEAD", "--binary", "--"], &paths[..]].concat()).unwrap_or_default();
        let untracked =
            git(folder, &[&["ls-files", "--others", "--exclude-standard", "-z", "--"], &paths[..]].concat())
                .unwrap_or_default();
        if changes.is_empty() && untracked.is_empty() {
            return Self { commit, dirty: None };
        }
        // SipHash with fixed keys: the same bytes give the same text in every process.
        let mut hasher = DefaultHasher::new();
        hasher.write(&changes);
        for name in untracked.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            hasher.write(name);
            hasher.write(&fs::read(folder.join(&*String::from_utf8_lossy(name))).unwrap_or_default());
        }
        Self { commit, dirty: Some(format!("{:016x}", hasher.finish())) }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let commit = self.commit.as_deref().map_or("no commit", |commit| commit.get(..12).unwrap_or(commit));
        match &self.dirty {
            Some(dirty) => write!(f, "{commit} with changes {dirty}"),
            None => f.write_str(commit),
        }
    }
}

fn git(folder: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    output.status.success().then_some(output.stdout)
}
