//! Rivals side by side: ours and theirs take turns in fresh processes, and the ratio is that of neighbours in time.
//!
//! Rivals live in a workspace of their own, `benches/peers`, each in a package of its own at `<component>/<peer>`; the peer `ours`
//! is this workspace's component under the same works. A rival that does not build or run is absent with its reason, and the
//! others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufReader};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cargo_metadata::diagnostic::DiagnosticLevel;
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
/// Pairs of processes at each look. There is no third: going on until it tells would make it tell what is not there.
const LOOKS: [usize; 2] = [PAIRS, MOST_PAIRS];

/// A component and its rivals.
#[derive(Debug)]
pub struct Contest {
    component: String,
    folder: PathBuf,
    ours: Contender,
    rivals: Vec<Contender>,
    /// How long a process may take.
    limit: Duration,
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
    /// Its interval: Student's t over the logarithms, as wide as two looks at the figures ask for.
    pub interval: Interval,
    /// Pairs of processes.
    pub pairs: u64,
    /// The least share of right answers that a process recorded, ours and theirs, where both record one: an answer in half the time
    /// is no better one if a part of it is missing.
    pub success: Option<[f64; 2]>,
}

/// What one process recorded.
#[derive(Debug, Clone, Copy)]
struct Turn {
    /// Mean nanoseconds an operation.
    latency: f64,
    success: Option<f64>,
}

/// Why a contest did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContestError {
    /// A component is a folder of the rivals' workspace, not a path.
    #[error("`{0}` is no name of a component")]
    Name(String),
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
    /// Builds `component` and its rivals in the workspace `peers`, into the folder `target`; results go below `out`. A process that
    /// takes longer than `limit` is stopped.
    ///
    /// # Errors
    /// [`ContestError`]. A rival that does not build is no error: its comparisons say so.
    pub fn prepare(
        peers: &Path,
        component: &str,
        target: &Path,
        out: &Path,
        limit: Duration,
    ) -> Result<Self, ContestError> {
        // It becomes a part of folders that are emptied.
        let is_plain = Path::new(component).components().eq([Component::Normal(OsStr::new(component))]);
        if !is_plain || component.contains('/') {
            return Err(ContestError::Name(component.to_owned()));
        }
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
                    let benches = list(&peer, &binary, &folder, limit).map_err(|error| error.to_string())?;
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
        Ok(Self { component: component.to_owned(), folder, ours, rivals: contenders, limit, _lock: lock })
    }

    /// Whether there is a rival `peer` that may do `work` with ours: one that does not build may do anything.
    #[must_use]
    pub fn has(&self, work: &str, peer: &str) -> bool {
        let does = |contender: &Contender| contender.binary.as_ref().map_or(true, |(_, works)| works.contains(work));
        does(&self.ours) && self.rivals.iter().any(|rival| rival.peer == peer && does(rival))
    }

    /// Compares ours with every rival at every work that `selects` picks and that both do. `is_undecided(comparison)` asks for more
    /// processes.
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
        // A rival that hangs is not asked again: it would hang at every work.
        let mut hung: BTreeMap<&str, String> = BTreeMap::new();
        for work in works.iter().filter(|work| selects(work)) {
            for rival in &self.rivals {
                let comparison = |outcome| Comparison { work: work.clone(), peer: rival.peer.clone(), outcome };
                let theirs = match &rival.binary {
                    Err(reason) => {
                        comparisons.push(comparison(Err(reason.clone())));
                        continue;
                    }
                    // Nothing is missing: a limit that names it here is refused.
                    Ok((_, works)) if !works.contains(work) => continue,
                    Ok((binary, _)) => binary,
                };
                if let Some(reason) = hung.get(rival.peer.as_str()) {
                    comparisons.push(comparison(Err(format!("not asked again: {reason}"))));
                    continue;
                }
                eprintln!("{work}: {OURS} and {}", rival.peer);
                let mut turns = (Vec::new(), Vec::new());
                let mut found = comparison(Err("not measured".to_owned()));
                for pairs in LOOKS {
                    let mut absence = Ok(());
                    while absence.is_ok() && turns.0.len() < pairs {
                        absence = self.block(work, binary, rival, theirs, &mut turns)?;
                    }
                    if let Err(Absence { reason, is_stuck }) = &absence {
                        if *is_stuck {
                            hung.insert(&rival.peer, reason.clone());
                        }
                        if found.outcome.is_ok() {
                            // What the first look found stands, undecided as it is.
                            eprintln!("{work}: {}: {reason}", rival.peer);
                            break;
                        }
                    }
                    let measured = absence.map_err(|absence| absence.reason);
                    found = comparison(measured.and_then(|()| compare(&turns.0, &turns.1)));
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
        (own_turns, their_turns): &mut (Vec<Turn>, Vec<Turn>),
    ) -> Result<Result<(), Absence>, ContestError> {
        for is_ours in [true, false, false, true] {
            let number = own_turns.len() + their_turns.len();
            if is_ours {
                let turn = self.turn(work, &self.ours, ours, number);
                own_turns.push(turn.map_err(|absence| ContestError::Ours(absence.reason))?);
            } else {
                match self.turn(work, rival, theirs, number) {
                    Ok(turn) => their_turns.push(turn),
                    Err(reason) => return Ok(Err(reason)),
                }
            }
        }
        Ok(Ok(()))
    }

    /// One fresh process.
    fn turn(&self, work: &str, contender: &Contender, binary: &Path, number: usize) -> Result<Turn, Absence> {
        let id = format!("peers/{}/{work}/{}", self.component, contender.peer);
        let folder = self.folder.join(format!("{}.{number}", id.replace('/', "+")));
        let run = format!("{}-{number}", std::process::id());
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
        let status = wait(&mut child, self.limit).map_err(|reason| Absence { reason, is_stuck: true })?;
        if !status.success() {
            let said = fs::read(&log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            return Err(format!("failed ({status}): {last}").into());
        }
        Ok(recorded(&folder, &id, &run)?)
    }
}

/// Why a process gave no figure.
struct Absence {
    reason: String,
    /// It did not end by itself.
    is_stuck: bool,
}

impl From<String> for Absence {
    fn from(reason: String) -> Self {
        Self { reason, is_stuck: false }
    }
}

/// What a process recorded, if its proof holds.
fn recorded(folder: &Path, id: &str, run: &str) -> Result<Turn, String> {
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
        let value = |metric| record.metrics.iter().find(|figure| figure.metric == metric).map(|figure| figure.value);
        if let Some(latency) = value(Metric::LatencyMean).filter(|mean| mean.is_finite() && *mean > 0.0) {
            return Ok(Turn { latency, success: value(Metric::SuccessRate).filter(|share| share.is_finite()) });
        }
    }
    Err("it recorded no mean latency".to_owned())
}

fn compare(ours: &[Turn], theirs: &[Turn]) -> Result<Measured, String> {
    let ratios: Vec<f64> = theirs.iter().zip(ours).map(|(theirs, ours)| theirs.latency / ours.latency).collect();
    let (ratio, interval) = stats::ratio_interval_of_looks(&ratios, LOOKS.len() as u32).ok_or("too few processes")?;
    let mean = |turns: &[Turn]| stats::mean(&turns.iter().map(|turn| turn.latency).collect::<Vec<_>>());
    let least = |turns: &[Turn]| {
        turns.iter().map(|turn| turn.success).reduce(|least, share| Some(least?.min(share?))).flatten()
    };
    let success = least(ours).zip(least(theirs)).map(|(ours, theirs)| [ours, theirs]);
    Ok(Measured { ours: mean(ours), theirs: mean(theirs), ratio, interval, pairs: ratios.len() as u64, success })
}

/// The executable of a package.
fn build(workspace: &Path, package: &str, target: &Path) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let failed = |error: io::Error| format!("cargo: {error}");
    let mut child = Command::new(cargo)
        .args(["build", "--release", "--locked", "--package", package, "--message-format", "json"])
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (mut binary, mut why): (_, Option<String>) = (None, None);
    if let Some(stdout) = child.stdout.take() {
        for message in Message::parse_stream(BufReader::new(stdout)) {
            match message.map_err(failed)? {
                Message::CompilerArtifact(artifact) => {
                    binary = artifact.executable.map(cargo_metadata::camino::Utf8PathBuf::into_std_path_buf).or(binary);
                }
                Message::CompilerMessage(said) => {
                    eprint!("{}", said.message.rendered.as_deref().unwrap_or_default());
                    if said.message.level == DiagnosticLevel::Error {
                        why = why.or(Some(said.message.message));
                    }
                }
                _ => {}
            }
        }
    }
    if !child.wait().map_err(failed)?.success() {
        return Err(format!("does not build: {}", why.as_deref().unwrap_or("cargo says why above")));
    }
    binary.ok_or_else(|| "it has no executable".to_owned())
}
