//! The measurement file: the one format that suites write and the gate reads.
//!
//! One file holds what one benchmark measured in one way: `<run>/<bench>.<source>.json`, slashes of the id written as `+`. The
//! run folder is `$GATE_RUN` when the gate started the benchmark, otherwise `target/gate/bench` below the workspace. A file is
//! written under a temporary name, synced and renamed, so a reader never sees half of one.
//!
//! Values carry their unit (`ns`, `B`, `B/h`, `1/s`, `1`); an interval is at the level that it states. A record without a
//! [`Proof`] is a number of unknown origin: the gate calls it missing.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use serde::{Deserialize, Serialize};

use crate::environment::{Environment, Noise};
use crate::metric::Metric;

/// The version of the file format that this code reads and writes.
pub const SCHEMA: u32 = 1;

/// Everything that one benchmark measured in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the format, [`SCHEMA`].
    pub schema: u32,
    /// Name of the run, `$GATE_RUN_ID`, otherwise the name of the folder.
    pub run: String,
    /// Benchmark id, `<crate>/<group>/<case>`.
    pub bench: String,
    /// How it was measured.
    pub source: Source,
    /// The figures.
    pub metrics: Vec<Figure>,
    /// Comparisons with another benchmark whose rounds alternated with this one's in the same process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paired: Vec<Paired>,
    /// How often it was repeated.
    pub n: Replication,
    /// What the work should have produced and what it did.
    pub proof: Option<Proof>,
    /// Where it ran.
    pub env: Environment,
    /// What disturbed it.
    pub noise: Noise,
    /// Remarks that every report repeats (`"median of groups of 8 operations"`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The distribution of single operations in nanoseconds, HdrHistogram V2, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<String>,
}

/// One figure with its unit and, where it was sampled, its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Which figure.
    pub metric: Metric,
    /// The point estimate, in `unit`.
    pub value: f64,
    /// The unit, [`Metric::unit`].
    pub unit: String,
    /// Interval of the estimate; absent for an exact count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<Interval>,
    /// Why this machine cannot tell (a spin floor of the same threads that does not scale): the gate answers INCONCLUSIVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inconclusive: Option<String>,
    /// For a speed-up: how many threads shared the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
}

impl Figure {
    /// An exact figure in the unit of its metric.
    #[must_use]
    pub fn exact(metric: Metric, value: f64) -> Self {
        Self { metric, value, unit: metric.unit().to_owned(), ci: None, inconclusive: None, threads: None }
    }

    /// A sampled figure with its interval, both in the unit of the metric.
    #[must_use]
    pub fn sampled(metric: Metric, value: f64, ci: Interval) -> Self {
        Self { ci: Some(ci), ..Self::exact(metric, value) }
    }
}

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
    /// Confidence, for example 0.95.
    pub level: f64,
}

/// A comparison by alternating rounds in one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paired {
    /// Id of the other benchmark.
    pub of: String,
    /// Which figure was compared.
    pub metric: Metric,
    /// How many times better this benchmark is: above 1, ours is better.
    pub ratio: f64,
    /// Interval of the ratio over the rounds.
    pub ci: Interval,
}

/// How often something was repeated at each level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replication {
    /// Separate builds.
    pub builds: u64,
    /// Separate processes.
    pub processes: u64,
    /// Samples in all.
    pub samples: u64,
}

impl Replication {
    /// `samples` from one process of one build.
    #[must_use]
    pub fn one_process(samples: u64) -> Self {
        Self { builds: 1, processes: 1, samples }
    }
}

/// Evidence that the work was done: what it should have produced and what it did produce, as text that can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// What the benchmark should have produced.
    pub expected: String,
    /// What it produced.
    pub observed: String,
}

impl Proof {
    /// Whether the work was done.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.expected == self.observed
    }
}

/// How a record was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// Single operations, each timed.
    Op,
    /// Groups of operations too short to time alone.
    Group,
    /// Rounds of operations, each round timed.
    Round,
    /// Alternating rounds of two benchmarks.
    Pair,
    /// The counting allocator.
    Alloc,
    /// Memory of fresh processes.
    Mem,
    /// Several sizes or thread counts.
    Scaling,
    /// Load against a running service.
    Load,
    /// Instructions counted by callgrind.
    Callgrind,
    /// No figures: the proof of a criterion benchmark, whose figures criterion keeps.
    Proof,
}

impl Source {
    /// The name in files: `op`, `group`, `round`, `pair`, `alloc`, `mem`, `scaling`, `load`, `callgrind`, `proof`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Op => "op",
            Self::Group => "group",
            Self::Round => "round",
            Self::Pair => "pair",
            Self::Alloc => "alloc",
            Self::Mem => "mem",
            Self::Scaling => "scaling",
            Self::Load => "load",
            Self::Callgrind => "callgrind",
            Self::Proof => "proof",
        }
    }
}

/// A measurement file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file system refused; nothing was replaced.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not a measurement record.
    #[error("{path}: not a measurement record: {source}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The record is of a format version that this code does not know.
    #[error("{path}: schema {found}, this gate reads {SCHEMA}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u64,
    },
    /// A figure is NaN or infinite, which JSON cannot hold; nothing was written.
    #[error("{bench}: {metric} is {value}, which is no measurement")]
    NotFinite {
        /// The benchmark.
        bench: String,
        /// The figure.
        metric: Metric,
        /// The value.
        value: f64,
    },
}

impl Record {
    /// The file name of this record: the id with `/` written as `+`, the source, `.json`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.{}.json", self.bench.replace('/', "+"), self.source.name())
    }

    /// The distribution of single operations, in nanoseconds; `None` if there is none or it cannot be read.
    #[must_use]
    pub fn distribution(&self) -> Option<Histogram<u64>> {
        let bytes = BASE64.decode(self.histogram.as_deref()?).ok()?;
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).ok()?;
        (!histogram.is_empty()).then_some(histogram)
    }

    /// Writes the record into `folder` (made if absent) by temporary file, sync and rename; returns the file's path.
    ///
    /// # Errors
    /// [`RecordError::NotFinite`] if a figure is not a finite number, [`RecordError::Io`] if the file system refuses. In both
    /// cases an earlier record of the same name is untouched.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, RecordError> {
        for figure in &self.metrics {
            let ends = figure.ci.map_or([figure.value; 2], |ci| [ci.lo, ci.hi]);
            if let Some(&value) = [figure.value, ends[0], ends[1]].iter().find(|v| !v.is_finite()) {
                return Err(RecordError::NotFinite { bench: self.bench.clone(), metric: figure.metric, value });
            }
        }
        let path = folder.join(self.file_name());
        let io = |source| RecordError::Io { path: path.clone(), source };
        let text = serde_json::to_string_pretty(self)
            .map_err(|source| RecordError::Malformed { path: path.clone(), source })?;
        fs::create_dir_all(folder).map_err(io)?;
        replace_file(&path, text.as_bytes()).map_err(io)?;
        Ok(path)
    }

    /// Reads one record. The text is checked for its version first, so that an unknown format is named as such.
    ///
    /// # Errors
    /// [`RecordError::Io`], [`RecordError::Malformed`] or [`RecordError::Schema`].
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let text = fs::read(path).map_err(|source| RecordError::Io { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Parses the bytes of a record; `path` is only named in errors.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] or [`RecordError::Schema`].
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u64,
        }
        let malformed = |source| RecordError::Malformed { path: path.to_owned(), source };
        let version: Version = serde_json::from_slice(text).map_err(malformed)?;
        if version.schema != u64::from(SCHEMA) {
            return Err(RecordError::Schema { path: path.to_owned(), found: version.schema });
        }
        serde_json::from_slice(text).map_err(malformed)
    }
}

/// Replaces the file at `path` with `content` so that a crash at any time leaves the old file or the whole of the new one. A link to a file
/// stays one, and the new file may be read and written by whoever the old one could.
///
/// # Errors
/// What the file system says; the old file is then untouched.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = fs::canonicalize(path);
    let path = target.as_deref().unwrap_or(path);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // On Linux the new name lasts once its folder is synced; elsewhere a folder cannot be opened like this.
        File::open(folder).and_then(|folder| folder.sync_all()).or(Ok(()))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
