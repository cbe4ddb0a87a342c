//! What a run was: `run.json` beside its results.

use std::path::Path;

use harness::environment::Environment;
use serde::{Deserialize, Serialize};

use crate::revision::Revision;

/// A run: what was measured, of which sources, where, and what went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunManifest {
    /// Name of the run, which every record carries.
    pub run: String,
    /// Commit of the sources, if they are under git.
    pub commit: Option<String>,
    /// Fingerprint of what differs from the commit, if anything does.
    pub dirty: Option<String>,
    /// `quick` or `full`.
    pub profile: String,
    /// The filter that the run was limited to.
    pub filter: Option<String>,
    /// When it began, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Whether it came to its end.
    pub completed: bool,
    /// Every benchmark that the bench binaries list.
    pub benches: Vec<String>,
    /// Where it ran.
    pub env: Environment,
    /// Benchmarks that failed, and why.
    pub failures: Vec<(String, String)>,
}

impl RunManifest {
    /// Reads `run.json` in `folder`; `None` if there is none that can be read.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join("run.json")).ok()?).ok()
    }

    /// The sources that were measured.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision { commit: self.commit.clone(), dirty: self.dirty.clone() }
    }
}
