//! Builds the bench binaries of a workspace, asks each for its benchmarks, and runs every benchmark in a process of its own.
//!
//! One process a benchmark: no benchmark inherits the heap or the caches that another left, a crash costs one row, and a repeat
//! of one row is one more fresh process. Results go to a folder that becomes `latest` only when the run is complete, so the last
//! complete run survives anything that happens to the next one.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cargo_metadata::{Message, MetadataCommand, TargetKind};
use harness::environment::Environment;

use crate::manifest::RunManifest;
use crate::progress::Progress;
use crate::revision::Revision;

/// A benchmark that runs longer than this is stopped and counts as failed.
pub const TIME_LIMIT: Duration = Duration::from_secs(600);
/// The last complete run, and the one before it while the two change places.
const LATEST: &str = "latest";
const PREVIOUS: &str = "previous";
/// How often a running benchmark is looked at: seldom enough to take nothing from it.
const LOOK: Duration = Duration::from_millis(25);

/// Why a run did not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// cargo could not be started or its messages not read.
    #[error("cargo: {0}")]
    Cargo(#[source] io::Error),
    /// The benchmarks do not build; cargo has said why.
    #[error("the benchmarks do not build (`cargo bench --no-run` says why above)")]
    Build,
    /// A bench binary did not list its benchmarks.
    #[error("{binary} does not list its benchmarks: {reason}")]
    List {
        /// The bench binary's target name.
        binary: String,
        /// What it said.
        reason: String,
    },
    /// Another gate writes into the same folder.
    #[error("another gate is running in {0}")]
    Busy(PathBuf),
    /// A file or folder of the run.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One benchmark in one binary. The same id may stand in two binaries that measure it in two ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub bench: String,
    /// The bench binary.
    pub binary: PathBuf,
    /// The folder of the package, where the binary is run.
    pub package: PathBuf,
}

impl Entry {
    /// The binary, to be run as cargo would.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.package).env("CARGO_MANIFEST_DIR", &self.package);
        command
    }
}

/// Builds the benchmarks of the workspace at `workspace` and asks every binary for its own.
///
/// # Errors
/// [`RunError`].
pub fn entries(workspace: &Path) -> Result<Vec<Entry>, RunError> {
    let mut entries = Vec::new();
    for (name, binary, package) in build(workspace)? {
        for bench in list(&name, &binary, &package, TIME_LIMIT)? {
            entries.push(Entry { bench, binary: binary.clone(), package: package.clone() });
        }
    }
    Ok(entries)
}

/// A run from the build to the finished folder.
#[derive(Debug)]
pub struct Run {
    entries: Vec<Entry>,
    folder: PathBuf,
    out: PathBuf,
    manifest: RunManifest,
    _lock: File,
}

impl Run {
    /// Builds the benchmarks of the workspace at `workspace`, whose sources are at `revision`, and lists them. `out` receives the results, on
    /// [`Run::complete`].
    ///
    /// # Errors
    /// [`RunError`]; nothing in `out/latest` has changed then.
    pub fn prepare(
        workspace: &Path,
        out: &Path,
        revision: Revision,
        profile: &str,
        filter: Option<&str>,
    ) -> Result<Self, RunError> {
        fs::create_dir_all(out).map_err(|source| RunError::Io { path: out.to_owned(), source })?;
        let out = out.canonicalize().map_err(|source| RunError::Io { path: out.to_owned(), source })?;
        let lock = lock(&out)?;
        let latest = latest(&out);
        if latest == out.join(PREVIOUS) && latest.exists() {
            // The last gate was cut off between two renames.
            let restored = out.join(LATEST);
            fs::rename(&latest, &restored).map_err(|source| RunError::Io { path: restored, source })?;
        }
        let entries = entries(workspace)?;
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("{}-{}", started.as_millis(), std::process::id());
        let folder = out.join("running");
        let io = |source| RunError::Io { path: folder.clone(), source };
        if folder.exists() {
            // What a run that was cut off left behind; the lock says that nobody writes there now.
            fs::remove_dir_all(&folder).map_err(io)?;
        }
        fs::create_dir_all(&folder).map_err(io)?;
        let mut benches: Vec<String> = entries.iter().map(|entry| entry.bench.clone()).collect();
        benches.sort();
        benches.dedup();
        let manifest = RunManifest {
            run,
            commit: revision.commit,
            dirty: revision.dirty,
            profile: profile.to_owned(),
            filter: filter.map(str::to_owned),
            started_unix_ms: started.as_millis() as u64,
            completed: false,
            benches,
            env: Environment::current(),
            failures: Vec::new(),
        };
        Ok(Self { entries, folder, out, manifest, _lock: lock })
    }

    /// The run so far: the benchmarks that exist, those that failed.
    #[must_use]
    pub fn manifest(&self) -> &RunManifest {
        &self.manifest
    }

    /// Where the results are until the run is complete.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs every benchmark that `select` picks, one after the other. A benchmark that fails is noted in the manifest and the
    /// others go on.
    pub fn measure(&mut self, select: impl Fn(&str) -> bool) {
        let selected: Vec<Entry> = self.entries.iter().filter(|entry| select(&entry.bench)).cloned().collect();
        let mut progress = Progress::new(selected.len());
        for entry in &selected {
            progress.begin(&entry.bench);
            let began = Instant::now();
            if let Err(reason) = self.run_one(entry, 0) {
                progress.say(&format!("{}: {}", entry.bench, reason.trim_end()));
                self.manifest.failures.push((entry.bench.clone(), first_line(&reason)));
            }
            progress.finish(&entry.bench, began.elapsed());
        }
    }

    /// Runs `bench` once more in fresh processes, with twice the measuring time; `attempt` counts from 1.
    pub fn repeat(&mut self, bench: &str, attempt: u32) {
        let entries: Vec<Entry> = self.entries.iter().filter(|entry| entry.bench == bench).cloned().collect();
        for entry in &entries {
            if let Err(reason) = self.run_one(entry, attempt) {
                self.manifest.failures.push((bench.to_owned(), first_line(&reason)));
            }
        }
    }

    fn run_one(&self, entry: &Entry, attempt: u32) -> Result<(), String> {
        let results = if attempt == 0 { self.folder.clone() } else { self.folder.join(format!("repeat-{attempt}")) };
        // A criterion home a benchmark: two ids whose sanitised folder names agree do not overwrite each other.
        let name = entry.bench.replace('/', "+");
        let of_run = Path::new("log").join(format!("{name}.{attempt}.txt"));
        let log = self.folder.join(&of_run);
        let output = log
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| File::options().create(true).append(true).open(&log))
            .and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = output.map_err(|error| format!("{}: {error}", log.display()))?;
        let mut child = entry
            .command()
            .args(["--bench", "--exact", &entry.bench])
            .env("CRITERION_HOME", results.join("criterion").join(&name))
            .env("GATE_ATTEMPT", attempt.to_string())
            .env("GATE_PROFILE", &self.manifest.profile)
            .env("GATE_RUN", &results)
            .env("GATE_RUN_ID", &self.manifest.run)
            // With cargo-criterion on the other end criterion writes nothing.
            .env_remove("CARGO_CRITERION_PORT")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("does not start: {error}"))?;
        let status = wait(&mut child, TIME_LIMIT)?;
        // The reason is read when the run is complete.
        if status.success() { Ok(()) } else { Err(failure(status, &log, &self.out.join(LATEST).join(of_run))) }
    }

    /// Writes the manifest and makes this run the one in `out/latest`; returns that folder.
    ///
    /// # Errors
    /// [`RunError::Io`]; the results stay in `out/running` then.
    pub fn complete(mut self) -> Result<(PathBuf, RunManifest), RunError> {
        self.manifest.completed = true;
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| RunError::Io { path, source }
        };
        let text = serde_json::to_vec_pretty(&self.manifest).map_err(|error| io(&self.folder)(error.into()))?;
        harness::record::replace_file(&self.folder.join("run.json"), &text).map_err(io(&self.folder))?;
        let latest = self.out.join(LATEST);
        let previous = self.out.join(PREVIOUS);
        if latest.exists() {
            if previous.exists() {
                fs::remove_dir_all(&previous).map_err(io(&previous))?;
            }
            fs::rename(&latest, &previous).map_err(io(&latest))?;
        }
        fs::rename(&self.folder, &latest).map_err(io(&latest))?;
        if previous.exists() {
            fs::remove_dir_all(&previous).map_err(io(&previous))?;
        }
        Ok((latest, self.manifest))
    }
}

/// The folder of the last complete run below `out`; it need not exist.
#[must_use]
pub fn latest(out: &Path) -> PathBuf {
    let latest = out.join(LATEST);
    let previous = out.join(PREVIOUS);
    if !latest.exists() && previous.exists() { previous } else { latest }
}

/// Waits for a benchmark, and stops it where it takes longer than `limit`.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus, String> {
    let began = Instant::now();
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => return Ok(status),
            None if began.elapsed() > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("stopped after {} s", limit.as_secs()));
            }
            None => thread::sleep(LOOK),
        }
    }
}

fn first_line(reason: &str) -> String {
    reason.lines().next().unwrap_or_default().to_owned()
}

/// One line that says how the process ended and in which `place` what it printed will be found, then the end of that `log`.
pub(crate) fn failure(status: ExitStatus, log: &Path, place: &Path) -> String {
    const LINES: usize = 12;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LINES)..].join("\n  ");
    format!("failed ({status}); the end of {}:\n  {tail}", place.display())
}

pub(crate) fn lock(out: &Path) -> Result<File, RunError> {
    let path = out.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| RunError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RunError::Busy(out.to_owned())),
        Err(TryLockError::Error(source)) => Err(RunError::Io { path, source }),
    }
}

/// The features that bench targets of the workspace require, as cargo's command line names them: it leaves out targets without theirs.
fn required_features(workspace: &Path) -> Result<Vec<String>, RunError> {
    let metadata = MetadataCommand::new().current_dir(workspace).no_deps().exec();
    let metadata = metadata.map_err(|error| RunError::Cargo(io::Error::other(error)))?;
    let mut features = Vec::new();
    for package in &metadata.packages {
        for target in package.targets.iter().filter(|target| target.is_bench()) {
            features.extend(target.required_features.iter().map(|feature| format!("{}/{feature}", package.name)));
        }
    }
    features.sort();
    features.dedup();
    Ok(features)
}

/// Builds every bench target and returns its name, executable and package folder, as cargo's messages name them.
fn build(workspace: &Path) -> Result<Vec<(String, PathBuf, PathBuf)>, RunError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .args(["bench", "--no-run", "--workspace", "--benches", "--message-format", "json-render-diagnostics"])
        .args(["--features", &required_features(workspace)?.join(",")])
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(RunError::Cargo)?;
    let mut benches = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for message in Message::parse_stream(BufReader::new(stdout)) {
            let Message::CompilerArtifact(artifact) = message.map_err(RunError::Cargo)? else { continue };
            let Some(executable) = artifact.executable else { continue };
            if artifact.target.kind.contains(&TargetKind::Bench) {
                let package = artifact.manifest_path.parent().map_or_else(PathBuf::new, |p| p.as_std_path().to_owned());
                benches.push((artifact.target.name, executable.into_std_path_buf(), package));
            }
        }
    }
    if !child.wait().map_err(RunError::Cargo)?.success() {
        return Err(RunError::Build);
    }
    benches.sort();
    Ok(benches)
}

/// Asks a bench binary for its benchmarks, by the protocol of libtest that criterion and the harness follow.
pub(crate) fn list(name: &str, binary: &Path, package: &Path, limit: Duration) -> Result<Vec<String>, RunError> {
    let refused = |reason: String| RunError::List { binary: name.to_owned(), reason };
    let io = |error: io::Error| refused(error.to_string());
    // Files and not pipes: nobody has to read them while the binary may hang.
    let (stdout, stderr) = (tempfile::NamedTempFile::new().map_err(io)?, tempfile::NamedTempFile::new().map_err(io)?);
    let mut child = Command::new(binary)
        .args(["--bench", "--list"])
        .current_dir(package)
        .env("CARGO_MANIFEST_DIR", package)
        .env_remove("CARGO_CRITERION_PORT")
        .stdin(Stdio::null())
        .stdout(stdout.reopen().map_err(io)?)
        .stderr(stderr.reopen().map_err(io)?)
        .spawn()
        .map_err(io)?;
    let status = wait(&mut child, limit).map_err(refused)?;
    let text = |file: &Path| fs::read(file).map(|text| String::from_utf8_lossy(&text).into_owned()).map_err(io);
    if !status.success() {
        return Err(refused(format!("{status}: {}", text(stderr.path())?.trim())));
    }
    let text = text(stdout.path())?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": benchmark")).map(str::to_owned).collect())
}
