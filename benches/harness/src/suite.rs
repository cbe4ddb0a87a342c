//! The `main` of a bench binary: lists its benchmarks, runs those asked for, writes what they measured.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::effort::Effort;
use crate::environment::{Environment, Noise};
use crate::record::{Figure, Paired, Proof, Record, RecordError, Replication, SCHEMA, Source};

/// The benchmarks of one binary, each a function that measures one thing.
///
/// Understands what `cargo bench` passes on (`--bench`, a filter, `--exact`, `--list`) and criterion's `--profile-time SECONDS`, which
/// draws a flamegraph and records nothing. Without `--bench`, as under `cargo test --benches`, every benchmark runs once, short, and
/// nothing is recorded.
///
/// ```no_run
/// use harness::{Bench, BenchError, Suite};
///
/// fn main() -> std::process::ExitCode {
///     Suite::new().bench("strings/push", push).run()
/// }
///
/// fn push(bench: &mut Bench) -> Result<(), BenchError> {
///     let rounds = bench.ops(1_000, String::new, |text, _| text.push('x'), |text| text.len() as u64)?;
///     bench.proof(rounds * 1_000, bench.observed());
///     Ok(())
/// }
/// ```
#[derive(Default)]
pub struct Suite {
    benches: Vec<(String, BenchFn)>,
}

type BenchFn = Box<dyn Fn(&mut Bench) -> Result<(), BenchError>>;

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.benches.iter().map(|(id, _)| id)).finish()
    }
}

/// Why a benchmark gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The result could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The work was not done as it should have been.
    #[error("proof failed: expected {}, observed {}", .0.expected, .0.observed)]
    Unproved(Proof),
    /// A timing benchmark was linked with the counting allocator.
    #[error(
        "this binary counts allocations: times taken here include the counting; move the benchmark to another binary"
    )]
    CountingWhileTiming,
    /// An allocation benchmark runs without the counting allocator.
    #[error("this binary does not count allocations: declare `#[global_allocator] static A: CountingAlloc`")]
    NotCounting,
    /// The platform does not tell.
    #[error("not available on this platform: {0}")]
    Unsupported(&'static str),
    /// The arguments of the benchmark make no measurement.
    #[error("{0}")]
    Invalid(String),
    /// A fresh process of this binary failed.
    #[error("fresh process: {0}")]
    Child(String),
}

impl Suite {
    /// A suite without benchmarks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a benchmark. Ids read `<crate>/<group>/<case>`.
    #[must_use]
    pub fn bench(
        mut self,
        id: impl Into<String>,
        measure: impl Fn(&mut Bench) -> Result<(), BenchError> + 'static,
    ) -> Self {
        self.benches.push((id.into(), Box::new(measure)));
        self
    }

    /// Runs what the command line asks for. Fails if a benchmark fails or if the filter is unknown to this binary's options.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let arguments = match Arguments::parse(std::env::args().skip(1)) {
            Ok(arguments) => arguments,
            Err(unknown) => {
                eprintln!("unknown option {unknown}");
                return ExitCode::from(2);
            }
        };
        let mut failed = false;
        for (id, measure) in self.benches.iter().filter(|(id, _)| arguments.selects(id)) {
            if arguments.list {
                say(&format!("{id}: benchmark"));
                continue;
            }
            let outcome = match arguments.profile_time {
                Some(time) => profile(id, &arguments, time, measure),
                None => {
                    let mut bench = Bench::new(id, &arguments);
                    measure(&mut bench).and_then(|()| bench.finish())
                }
            };
            if let Err(error) = outcome {
                eprintln!("{id}: {error}");
                failed = true;
            }
        }
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

/// Repeats a timed benchmark for `time` under the profiler; nothing is recorded.
#[cfg(feature = "flamegraph")]
fn profile(
    id: &str,
    arguments: &Arguments,
    time: Duration,
    measure: &dyn Fn(&mut Bench) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    if crate::counting_alloc::is_counting() {
        return Err(BenchError::Invalid("no flamegraph: it would show how this binary counts allocations".to_owned()));
    }
    crate::profiler::Flamegraph::of(id, || {
        let began = std::time::Instant::now();
        while began.elapsed() < time {
            let mut bench = Bench::new(id, arguments);
            measure(&mut bench)?;
            bench.finish()?;
        }
        Ok(())
    })
}

#[cfg(not(feature = "flamegraph"))]
fn profile(
    _: &str,
    _: &Arguments,
    _: Duration,
    _: &dyn Fn(&mut Bench) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    Err(BenchError::Invalid("no flamegraph: the harness is built without its feature `flamegraph`".to_owned()))
}

#[expect(clippy::print_stdout, reason = "a bench binary's output is its standard output")]
fn say(line: &str) {
    println!("{line}");
}

/// What the command line asked for.
#[derive(Debug, Default, Clone)]
struct Arguments {
    bench: bool,
    list: bool,
    exact: bool,
    filter: Option<String>,
    profile_time: Option<Duration>,
    /// Set in the fresh processes that memory benchmarks start: build this many items, print what they take, stop.
    memory_size: Option<u64>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut parsed = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--bench" => parsed.bench = true,
                "--list" => parsed.list = true,
                "--exact" => parsed.exact = true,
                "--test" | "--nocapture" | "--quiet" | "--noplot" => {}
                "--format" | "--color" => drop(words.next()),
                "--profile-time" => {
                    let seconds =
                        words.next().and_then(|n| n.parse().ok()).and_then(|n| Duration::try_from_secs_f64(n).ok());
                    parsed.profile_time = Some(seconds.ok_or(word)?);
                }
                MEMORY_SIZE => {
                    let size = words.next().and_then(|n| n.parse().ok());
                    parsed.memory_size = Some(size.ok_or_else(|| MEMORY_SIZE.to_owned())?);
                }
                option if option.starts_with('-') => return Err(word),
                _ => parsed.filter = Some(word),
            }
        }
        Ok(parsed)
    }

    fn selects(&self, id: &str) -> bool {
        match &self.filter {
            Some(filter) if self.exact => id == filter,
            Some(filter) => id.contains(filter.as_str()),
            None => true,
        }
    }
}

pub(crate) const MEMORY_SIZE: &str = "--memory-size";

/// One benchmark while it runs: collects figures and writes them when the function returns.
#[derive(Debug)]
pub struct Bench {
    id: String,
    effort: Effort,
    recording: bool,
    memory_size: Option<u64>,
    began: Noise,
    proof: Option<Proof>,
    observed: u64,
    results: Vec<Measured>,
    notes: Vec<String>,
}

/// What one way of measuring produced.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Another id than the benchmark's own: a floor that was measured beside it.
    pub(crate) bench: Option<String>,
    pub(crate) source: Source,
    pub(crate) figures: Vec<Figure>,
    pub(crate) paired: Vec<Paired>,
    pub(crate) n: Replication,
    pub(crate) histogram: Option<String>,
    pub(crate) notes: Vec<String>,
}

impl Measured {
    pub(crate) fn new(source: Source, figures: Vec<Figure>, n: Replication) -> Self {
        Self { bench: None, source, figures, paired: Vec::new(), n, histogram: None, notes: Vec::new() }
    }
}

impl Bench {
    fn new(id: &str, arguments: &Arguments) -> Self {
        Self {
            id: id.to_owned(),
            effort: if arguments.bench { Effort::from_environment() } else { Effort::TEST },
            recording: arguments.bench && arguments.profile_time.is_none(),
            memory_size: arguments.memory_size,
            began: Noise::now(),
            proof: None,
            observed: 0,
            results: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The benchmark's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How long this benchmark may take.
    #[must_use]
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// Whether this is a short run whose figures are not kept.
    #[must_use]
    pub fn is_test(&self) -> bool {
        !self.recording
    }

    /// States what the work should have produced and what it did. A benchmark without a proof has no result.
    pub fn proof(&mut self, expected: impl fmt::Display, observed: impl fmt::Display) {
        self.proof = Some(Proof { expected: expected.to_string(), observed: observed.to_string() });
    }

    /// The sum of what the checks of all rounds observed (see [`Bench::ops`]).
    #[must_use]
    pub fn observed(&self) -> u64 {
        self.observed
    }

    /// Adds a remark that every report repeats.
    pub fn note(&mut self, remark: impl Into<String>) {
        self.notes.push(remark.into());
    }

    /// Records a figure that the benchmark counted or computed itself, exact for this run.
    pub fn figure(&mut self, source: Source, figure: Figure, samples: u64) {
        self.push(Measured::new(source, vec![figure], Replication::one_process(samples)));
    }

    pub(crate) fn push(&mut self, measured: Measured) {
        self.results.push(measured);
    }

    pub(crate) fn observe(&mut self, count: u64) {
        self.observed += count;
    }

    pub(crate) fn memory_size(&self) -> Option<u64> {
        self.memory_size
    }

    /// Writes one record a source; figures of one source are merged.
    fn finish(mut self) -> Result<(), BenchError> {
        if self.memory_size.is_some() {
            return Ok(());
        }
        if let Some(proof) = self.proof.take_if(|proof| !proof.holds()) {
            return Err(BenchError::Unproved(proof));
        }
        if !self.recording {
            return Ok(());
        }
        if self.proof.is_none() {
            eprintln!("{}: no proof stated, so the gate will call it missing", self.id);
        }
        let folder = run_folder();
        let noise = Noise::now().since(self.began);
        for record in self.records(&folder, noise) {
            for figure in &record.metrics {
                say(&describe(&record, figure));
            }
            record.write(&folder)?;
        }
        Ok(())
    }

    fn records(&mut self, folder: &Path, noise: Noise) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        for measured in std::mem::take(&mut self.results) {
            let bench = measured.bench.unwrap_or_else(|| self.id.clone());
            let same = records.iter_mut().find(|r| r.bench == bench && r.source == measured.source);
            if let Some(record) = same {
                record.metrics.extend(measured.figures);
                record.paired.extend(measured.paired);
                record.notes.extend(measured.notes);
                record.n.samples = record.n.samples.max(measured.n.samples);
                record.histogram = record.histogram.take().or(measured.histogram);
                continue;
            }
            records.push(Record {
                schema: SCHEMA,
                run: run_name(folder),
                bench,
                source: measured.source,
                metrics: measured.figures,
                paired: measured.paired,
                n: measured.n,
                proof: self.proof.clone(),
                env: Environment::current(),
                noise,
                notes: self.notes.iter().cloned().chain(measured.notes).collect(),
                histogram: measured.histogram,
            });
        }
        records
    }
}

fn describe(record: &Record, figure: &Figure) -> String {
    let interval = figure.ci.map(|ci| format!(" [{:.1}, {:.1}]", ci.lo, ci.hi)).unwrap_or_default();
    format!("{:<50} {:<20} {:>12.1} {}{interval}", record.bench, figure.metric, figure.value, figure.unit)
}

/// Writes the proof of a criterion benchmark, whose figures criterion itself keeps.
pub(crate) fn write_proof(bench: &str, expected: u64, observed: u64) -> Result<(), BenchError> {
    let proof = Proof { expected: expected.to_string(), observed: observed.to_string() };
    if !proof.holds() {
        return Err(BenchError::Unproved(proof));
    }
    if !std::env::args().any(|word| word == "--bench") {
        return Ok(());
    }
    let folder = run_folder();
    let record = Record {
        schema: SCHEMA,
        run: run_name(&folder),
        bench: bench.to_owned(),
        source: Source::Proof,
        metrics: Vec::new(),
        paired: Vec::new(),
        n: Replication::one_process(1),
        proof: Some(proof),
        env: Environment::current(),
        noise: Noise::default(),
        notes: Vec::new(),
        histogram: None,
    };
    record.write(&folder)?;
    Ok(())
}

/// Where records go: `$GATE_RUN`, or `gate/bench` in the target folder of the workspace that holds the bench: a
/// benchmark that nobody judges does not disturb the last run that was.
fn run_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("GATE_RUN") {
        return folder.into();
    }
    target_folder().join("gate").join("bench")
}

/// Where cargo builds the workspace that holds the bench.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || {
            let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
            let root = package.ancestors().find(|folder| folder.join("Cargo.lock").exists());
            root.unwrap_or(&package).join("target")
        },
        PathBuf::from,
    )
}

fn run_name(folder: &Path) -> String {
    std::env::var("GATE_RUN_ID")
        .unwrap_or_else(|_| folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn filter_selects_by_substring_and_exactly_on_request() {
        let part = parse(&["--bench", "save/1"]).expect("known options");
        assert!(part.selects("event-store/save/1") && part.selects("event-store/save/100"));
        let exact = parse(&["--bench", "--exact", "event-store/save/1"]).expect("known options");
        assert!(exact.selects("event-store/save/1") && !exact.selects("event-store/save/100"));
    }

    #[test]
    fn unknown_option_is_refused_by_name() {
        assert_eq!(parse(&["--bnech"]).unwrap_err(), "--bnech");
        for seconds in ["-1", "soon", "inf"] {
            assert_eq!(parse(&["--profile-time", seconds]).unwrap_err(), "--profile-time", "{seconds}");
        }
    }

    #[test]
    fn without_bench_the_effort_is_that_of_a_test() {
        let bench = Bench::new("x", &parse(&[]).expect("no options"));
        assert!(bench.is_test());
        assert_eq!(bench.effort(), Effort::TEST);
    }

    #[test]
    fn broken_proof_is_an_error_with_both_sides() {
        let mut bench = Bench::new("x", &parse(&[]).expect("no options"));
        bench.proof(3, 4);
        let error = bench.finish().unwrap_err();
        assert_eq!(error.to_string(), "proof failed: expected 3, observed 4");
    }

    #[test]
    fn too_few_or_impossible_rounds_of_another_process_are_refused() {
        let mut bench = Bench::new("x", &parse(&[]).expect("no options"));
        for times in [&[][..], &[5.0, 6.0], &[5.0, 6.0, 0.0], &[5.0, 6.0, f64::NAN]] {
            assert!(matches!(bench.rounds_measured(times), Err(BenchError::Invalid(_))), "{times:?}");
        }
        bench.rounds_measured(&[5.0, 6.0, 7.0]).expect("three rounds");
        assert_eq!((bench.results[0].figures[0].value, bench.results[0].n.samples), (6.0, 3));
    }
}
