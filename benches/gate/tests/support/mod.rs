//! A project on the disk: limits, a finished run, and the real command over both.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::rc::Rc;

use assert_cmd::Command;
use gate::manifest::RunManifest;
use harness::environment::{Environment, Noise};
use harness::metric::Metric;
use harness::record::{Figure, Interval, Proof, Record, Replication, SCHEMA, Source};
use tempfile::TempDir;

/// The run that every fixture belongs to.
pub(crate) const RUN: &str = "run-1";

pub(crate) struct Project {
    folder: Rc<TempDir>,
}

/// A record of one sampled figure.
pub(crate) fn record(bench: &str, metric: Metric, lo: f64, value: f64, hi: f64) -> Record {
    Record {
        schema: SCHEMA,
        run: RUN.to_owned(),
        bench: bench.to_owned(),
        source: Source::Op,
        metrics: vec![Figure::sampled(metric, value, Interval { lo, hi, level: 0.95 })],
        paired: Vec::new(),
        n: Replication::one_process(1_000),
        proof: Some(Proof { expected: "7".to_owned(), observed: "7".to_owned() }),
        env: Environment::current(),
        noise: Noise::default(),
        notes: Vec::new(),
        histogram: None,
    }
}

pub(crate) fn manifest(benches: &[&str]) -> RunManifest {
    RunManifest {
        run: RUN.to_owned(),
        commit: None,
        dirty: None,
        profile: "full".to_owned(),
        filter: None,
        started_unix_ms: 0,
        completed: true,
        benches: benches.iter().map(|&bench| bench.to_owned()).collect(),
        env: Environment::current(),
        failures: Vec::new(),
    }
}

impl Project {
    /// A project with `limits` behind `version = 1`, whose last run lists `a/b/c` and measured a mean of 100 ns, 90 to 110.
    pub(crate) fn new(limits: &str) -> Self {
        let project = Self { folder: Rc::new(tempfile::tempdir().expect("temporary folder")) };
        fs::write(project.path("thresholds.toml"), format!("version = 1\n{limits}")).expect("writes");
        project.manifest(&manifest(&["a/b/c"]));
        project.record(&record("a/b/c", Metric::LatencyMean, 90.0, 100.0, 110.0));
        project
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn latest(&self) -> PathBuf {
        self.path("out/latest")
    }

    pub(crate) fn manifest(&self, manifest: &RunManifest) {
        fs::create_dir_all(self.latest()).expect("makes the folder");
        fs::write(self.latest().join("run.json"), serde_json::to_vec(manifest).expect("JSON")).expect("writes");
    }

    pub(crate) fn record(&self, record: &Record) {
        record.write(&self.latest()).expect("writes");
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("inside the project")).expect("makes the folder");
        fs::write(path, text).expect("writes");
    }

    pub(crate) fn gate(&self, arguments: &[&str]) -> Run {
        // `schema` needs no project, and a name behind `--` is the last word.
        let (options, names) =
            arguments.split_at(arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len()));
        let out: &[&str] = if arguments == ["schema"] { &[] } else { &["--out", "out"] };
        let output = Command::cargo_bin("cargo-gate")
            .expect("built with this test")
            .current_dir(self.folder.path())
            .env_remove("CARGO_TARGET_DIR")
            .args(options)
            .args(out)
            .args(names)
            .output()
            .expect("starts");
        Run { output, folder: Rc::clone(&self.folder) }
    }

    /// `cargo gate --no-run` and more.
    pub(crate) fn check(&self, arguments: &[&str]) -> Run {
        self.gate(&[&["--no-run"], arguments].concat())
    }
}

pub(crate) struct Run {
    output: Output,
    folder: Rc<TempDir>,
}

impl Run {
    pub(crate) fn code(&self) -> i32 {
        self.output.status.code().expect("not killed")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.output.stdout.clone()).expect("text")
    }

    pub(crate) fn errors(&self) -> String {
        String::from_utf8(self.output.stderr.clone()).expect("text")
    }

    pub(crate) fn report(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join("out").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.report("report.json")).expect("JSON")
    }
}

/// The folder of this package.
pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
