//! Rivals side by side: ours and theirs take turns in fresh processes, and the ratio is that of neighbours in time.
//!
//! Rivals live in a workspace of their own, `benches/peers`, each in a package of its own at `<component>/<peer>`; the peer `ours`
//! is this workspace's component under the same works. A rival that does not build or run is absent with its reason, and the
//! others go on.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cargo_metadata::{Message, MetadataCommand};
use harness::metric::Metric;
use harness::record::{Interval, Record};
use harness::stats;

use crate::run::{RunError, list, lock, wait};

/// The peer that rivals are compared with.
const OURS: &str = "ours";
/// Pairs of processes at first: three times ours, theirs, theirs, ours.
const PAIRS: usize = 6;
/// Pairs of processes where the first ones do not tell.
const MOST_PAIRS: usize = 18;

/// A component and its rivals.
#[derive(Debug)]
pub struct Contest {
    component: String,
    folder: PathBuf,
    ours: Contender,
    rivals: Vec<Contender>,
    _lock: fs::File,
}

#[derive(Debug)]
struct Contender {
    peer: String,
    package: PathBuf,
    /// The executable and the works that it lists, or why there are none.
    binary: Result<(PathBuf, BTreeSet<String>), String>,
}

/// Ours and a rival's at one work.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The work, `save/1`.
    pub work: String,
    /// The rival.
    pub peer: String,
    /// What was found, or why there is nothing.
    pub outcome: Result<Measured, String>,
}

/// Mean latencies in nanoseconds an operation, and how many times better ours is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Mean over the processes.
    pub ours: f64,
    /// Mean over the processes.
    pub theirs: f64,
    /// The geometric mean of theirs / ours over pairs of processes that followed each other.
    pub ratio: f64,
    /// Its interval: Student's t over the logarithms.
    pub interval: Interval,
    /// Pairs of processes.
    pub pairs: u64,
}

/// Why a contest did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContestError {
    /// There are no rivals for this component.
    #[error("no rivals of `{component}` in {folder}")]
    Unknown {
        /// What was asked for.
        component: String,
        /// Where rivals are.
        folder: PathBuf,
    },
    /// The workspace of the rivals cannot be read.
    #[error("{folder}: {reason}")]
    Workspace {
        /// Where.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// Our own side does not build or run: nothing can be compared.
    #[error("ours: {0}")]
    Ours(String),
    /// The folder of results.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl Contest {
    /// Builds `component` and its rivals in the workspace `peers`, into the folder `target`; results go below `out`.
    ///
    /// # Errors
    /// [`ContestError`]. A rival that does not build is no error: its comparisons say so.
    pub fn prepare(peers: &Path, component: &str, target: &Path, out: &Path) -> Result<Self, ContestError> {
        let workspace = |reason: String| ContestError::Workspace { folder: peers.to_owned(), reason };
        let metadata = MetadataCommand::new().manifest_path(peers.join("Cargo.toml")).no_deps().exec();
        let metadata = metadata.map_err(|error| workspace(error.to_string()))?;
        let home = metadata.workspace_root.join(component);
        let members = metadata.packages.iter().filter(|package| {
            let is_here = package.manifest_path.parent().and_then(|folder| folder.parent()) == Some(&home);
            is_here && package.targets.iter().any(cargo_metadata::Target::is_bin)
        });
        let members: Vec<_> = members.collect();
        if members.is_empty() {
            return Err(ContestError::Unknown { component: component.to_owned(), folder: peers.to_owned() });
        }
        let io = |source| RunError::Io { path: out.to_owned(), source };
        fs::create_dir_all(out).map_err(io)?;
        let lock = lock(out)?;
        let folder = out.join("peers").join(component);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(io)?;
        }
        fs::create_dir_all(&folder).map_err(io)?;
        let mut contenders: Vec<Contender> = members
            .into_iter()
            .map(|package| {
                let folder = package.manifest_path.parent().map_or_else(PathBuf::new, |p| p.as_std_path().to_owned());
                let peer = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                eprintln!("building {peer}");
                let binary = build(peers, &package.name, target).and_then(|binary| {
                    let benches = list(&peer, &binary, &folder).map_err(|error| error.to_string())?;
                    let (prefix, suffix) = (format!("peers/{component}/"), format!("/{peer}"));
                    let works = benches.iter().filter_map(|id| id.strip_prefix(&prefix)?.strip_suffix(&suffix));
                    Ok((binary, works.map(str::to_owned).collect()))
                });
                Contender { peer, package: folder, binary }
            })
            .collect();
        let place = contenders.iter().position(|contender| contender.peer == OURS);
        let ours = contenders.swap_remove(place.ok_or_else(|| workspace(format!("no peer `{OURS}`")))?);
        if let Err(reason) = &ours.binary {
            return Err(ContestError::Ours(reason.clone()));
        }
        contenders.sort_by(|a, b| a.peer.cmp(&b.peer));
        Ok(Self { component: component.to_owned(), folder, ours, rivals: contenders, _lock: lock })
    }

    /// Compares ours with every rival at every work that `selects` picks. `is_undecided(comparison)` asks for more processes.
    ///
    /// # Errors
    /// [`ContestError::Ours`] if our own side fails.
    pub fn run(
        &self,
        selects: impl Fn(&str) -> bool,
        is_undecided: impl Fn(&Comparison) -> bool,
    ) -> Result<Vec<Comparison>, ContestError> {
        let (binary, works) = self.ours.binary.as_ref().map_err(|reason| ContestError::Ours(reason.clone()))?;
        let mut comparisons = Vec::new();
        for work in works.iter().filter(|work| selects(work)) {
            for rival in &self.rivals {
                let comparison = |outcome| Comparison { work: work.clone(), peer: rival.peer.clone(), outcome };
                let theirs = match &rival.binary {
                    Err(reason) => {
                        comparisons.push(comparison(Err(reason.clone())));
                        continue;
                    }
                    Ok((_, works)) if !works.contains(work) => {
                        comparisons.push(comparison(Err("it does not do this work".to_owned())));
                        continue;
                    }
                    Ok((binary, _)) => binary,
                };
                eprintln!("{work}: {OURS} and {}", rival.peer);
                let (mut own_times, mut their_times) = (Vec::new(), Vec::new());
                let mut found = comparison(Err("not measured".to_owned()));
                // Two looks and no more: going on until it tells would make it tell what is not there.
                for pairs in [PAIRS, MOST_PAIRS] {
                    let mut absence = Ok(());
                    while absence.is_ok() && own_times.len() < pairs {
                        absence = self.block(work, binary, rival, theirs, &mut own_times, &mut their_times)?;
                    }
                    found = comparison(absence.and_then(|()| compare(&own_times, &their_times)));
                    if found.outcome.is_err() || !is_undecided(&found) {
                        break;
                    }
                }
                comparisons.push(found);
            }
        }
        Ok(comparisons)
    }

    /// Ours, theirs, theirs, ours: what drifts meets both sides alike. The inner error is the rival's.
    fn block(
        &self,
        work: &str,
        ours: &Path,
        rival: &Contender,
        theirs: &Path,
        own_times: &mut Vec<f64>,
        their_times: &mut Vec<f64>,
    ) -> Result<Result<(), String>, ContestError> {
        for is_ours in [true, false, false, true] {
            let turn = own_times.len() + their_times.len();
            if is_ours {
                own_times.push(self.turn(work, &self.ours, ours, turn).map_err(ContestError::Ours)?);
            } else {
                match self.turn(work, rival, theirs, turn) {
                    Ok(time) => their_times.push(time),
                    Err(reason) => return Ok(Err(reason)),
                }
            }
        }
        Ok(Ok(()))
    }

    /// One fresh process; its mean latency.
    fn turn(&self, work: &str, contender: &Contender, binary: &Path, turn: usize) -> Result<f64, String> {
        let id = format!("peers/{}/{work}/{}", self.component, contender.peer);
        let folder = self.folder.join(format!("{}.{turn}", id.replace('/', "+")));
        let run = format!("{}-{turn}", std::process::id());
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let log = folder.join("stderr.txt");
        let stderr = fs::File::create(&log).map_err(|error| error.to_string())?;
        let mut child = Command::new(binary)
            .args(["--bench", "--exact", &id])
            .current_dir(&contender.package)
            .env("CARGO_MANIFEST_DIR", &contender.package)
            .env("GATE_PROFILE", "quick")
            .env("GATE_RUN", &folder)
            .env("GATE_RUN_ID", &run)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("does not start: {error}"))?;
        let status = wait(&mut child)?;
        if !status.success() {
            let said = fs::read(&log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            return Err(format!("failed ({status}): {last}"));
        }
        mean_latency(&folder, &id, &run)
    }
}

/// The mean latency that a process recorded, with its proof.
fn mean_latency(folder: &Path, id: &str, run: &str) -> Result<f64, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("it recorded nothing: {error}"))?;
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension() == Some(OsStr::new("json")));
    for file in files {
        let record = Record::read(&file).map_err(|error| error.to_string())?;
        if record.bench != id || record.run != run {
            continue;
        }
        if !record.proof.as_ref().is_some_and(harness::record::Proof::holds) {
            return Err("unproved".to_owned());
        }
        let mean = record.metrics.iter().find(|figure| figure.metric == Metric::LatencyMean);
        if let Some(mean) = mean.filter(|mean| mean.value.is_finite() && mean.value > 0.0) {
            return Ok(mean.value);
        }
    }
    Err("it recorded no mean latency".to_owned())
}

fn compare(ours: &[f64], theirs: &[f64]) -> Result<Measured, String> {
    let ratios: Vec<f64> = theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
    let (ratio, interval) = stats::ratio_interval(&ratios).ok_or("too few processes")?;
    let pairs = ratios.len() as u64;
    Ok(Measured { ours: stats::mean(ours), theirs: stats::mean(theirs), ratio, interval, pairs })
}

/// The executable of a package.
fn build(workspace: &Path, package: &str, target: &Path) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let failed = |error: io::Error| format!("cargo: {error}");
    let mut child = Command::new(cargo)
        .args(["build", "--release", "--locked", "--package", package, "--message-format", "json-render-diagnostics"])
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut binary = None;
    if let Some(stdout) = child.stdout.take() {
        for message in Message::parse_stream(BufReader::new(stdout)) {
            if let Message::CompilerArtifact(artifact) = message.map_err(failed)? {
                binary = artifact.executable.map(cargo_metadata::camino::Utf8PathBuf::into_std_path_buf).or(binary);
            }
        }
    }
    if !child.wait().map_err(failed)?.success() {
        return Err("does not build (cargo says why above)".to_owned());
    }
    binary.ok_or_else(|| "it has no executable".to_owned())
}
