//! A Python 3.12 with an environment's packages: found, and given a folder of its own below the target folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

use crate::Environment;

/// The interpreter of the environment.
#[derive(Debug)]
pub(crate) struct Interpreter(PathBuf);

impl Interpreter {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn of(folder: &Path) -> Self {
        Self(folder.join("bin").join("python"))
    }

    fn holds(&self, environment: &Environment) -> bool {
        succeeds(Command::new(&self.0).args(["-I", "-c", &environment.check()]))
    }
}

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PythonError {
    /// No interpreter of the right version.
    #[error("python3.12 is missing: neither on the PATH nor among the versions of pyenv")]
    NoPython,
    /// The environment could not be made.
    #[error("an environment for Python could not be made: {0}")]
    Environment(String),
    /// A package could not be had.
    #[error("{packages} could not be installed: {reason}")]
    NoPackage {
        /// What was asked for.
        packages: String,
        /// What went wrong.
        reason: String,
    },
    /// The folder could not be written.
    #[error("{folder}: {source}")]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An interpreter that has the packages, installed on the first call.
pub(crate) fn with(environment: &Environment) -> Result<Interpreter, PythonError> {
    let folder = target_folder().join(format!("{}-venv", environment.name));
    let interpreter = Interpreter::of(&folder);
    if !interpreter.holds(environment) {
        install(environment, &folder)?;
    }
    Ok(interpreter)
}

/// Makes the folder under another name first: an installation that was cut off is never taken for a whole one.
fn install(environment: &Environment, folder: &Path) -> Result<(), PythonError> {
    let python = find_python().ok_or(PythonError::NoPython)?;
    let unfinished = folder.with_extension(format!("{}.tmp", std::process::id()));
    let io = |source| PythonError::Io { folder: unfinished.clone(), source };
    let no_package = |reason| PythonError::NoPackage { packages: environment.packages.join(", "), reason };
    remove(&unfinished).map_err(io)?;
    let outcome = (|| {
        run(python.command().args(["-m", "venv"]).arg(&unfinished)).map_err(PythonError::Environment)?;
        let built = Interpreter::of(&unfinished);
        run(Command::new(built.path()).args(["-m", "pip", "install", "--quiet"]).args(environment.packages))
            .map_err(no_package)?;
        if !built.holds(environment) {
            return Err(no_package("installed as it is, it cannot be imported".to_owned()));
        }
        remove(folder).and_then(|()| fs::rename(&unfinished, folder)).map_err(io)
    })();
    if outcome.is_err() {
        // Whatever went wrong is told; a folder left over is in nobody's way.
        let _ = fs::remove_dir_all(&unfinished);
    }
    outcome
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `python3.12` as this machine has it.
struct Python {
    /// For the stand-ins of pyenv, which serve only the version that they are told.
    pyenv_version: Option<String>,
}

impl Python {
    fn command(&self) -> Command {
        let mut command = Command::new("python3.12");
        if let Some(version) = &self.pyenv_version {
            command.env("PYENV_VERSION", version);
        }
        command
    }

    fn runs(&self) -> bool {
        succeeds(self.command().arg("--version"))
    }
}

fn find_python() -> Option<Python> {
    let plain = Python { pyenv_version: None };
    if plain.runs() {
        return Some(plain);
    }
    let listed = Command::new("pyenv").args(["versions", "--bare"]).output().ok()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let versions = listed.lines().map(str::trim).filter(|version| version.starts_with("3.12"));
    versions.map(|version| Python { pyenv_version: Some(version.to_owned()) }).find(Python::runs)
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The last line of what a failing command said.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    let last = said.iter().filter_map(|text| text.lines().last()).next();
    Err(last.map_or_else(|| output.status.to_string(), str::to_owned))
}

/// `$CARGO_TARGET_DIR`, or the folder that this binary was built into.
fn target_folder() -> PathBuf {
    let named: Option<OsString> = env::var_os("CARGO_TARGET_DIR");
    named.map(PathBuf::from).unwrap_or_else(|| {
        let binary = env::current_exe().unwrap_or_default();
        binary.parent().and_then(Path::parent).map_or_else(|| PathBuf::from("target"), Path::to_path_buf)
    })
}
