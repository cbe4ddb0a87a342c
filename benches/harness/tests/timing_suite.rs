//! A timing binary from end to end: run as `cargo bench` would, then its files are read.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, ExitCode, Output};
use std::thread;
use std::time::{Duration, Instant};

use harness::metric::Metric;
use harness::record::{Figure, Record, Source};
use harness::{Bench, BenchError, Suite, is_counting};

fn main() -> ExitCode {
    if std::env::var_os("GATE_RUN").is_some() {
        return suite().run();
    }
    assert!(!is_counting(), "a timing binary runs on the system's allocator");
    listing_names_every_benchmark_and_runs_none();
    without_bench_everything_runs_and_nothing_is_written();
    records_carry_figures_proof_and_environment();
    slow_operations_are_timed_alone_and_fast_ones_in_groups();
    a_pair_records_both_sides_and_its_ratio();
    a_broken_proof_fails_the_binary_and_writes_nothing();
    an_allocation_benchmark_is_refused();
    quadratic_work_has_exponent_two();
    a_speedup_states_its_floor();
    #[cfg(feature = "flamegraph")]
    a_profile_is_drawn_and_nothing_is_recorded();
    eprintln!("timing_suite: 10 passed, 0 failed");
    ExitCode::SUCCESS
}

fn suite() -> Suite {
    Suite::new()
        .bench("self/ops/slow", slow)
        .bench("self/ops/fast", fast)
        .bench("self/pair/double", double)
        .bench("self/broken/proof", broken)
        .bench("self/refused/allocations", allocations)
        .bench("self/scaling/quadratic", quadratic)
        .bench("self/scaling/threads", threads)
}

fn slow(bench: &mut Bench) -> Result<(), BenchError> {
    let rounds = bench.ops(
        100,
        || 0_u64,
        |calls, _| {
            *calls += 1;
            spin(Duration::from_micros(20));
        },
        |calls| calls,
    )?;
    bench.proof(rounds * 100, bench.observed());
    Ok(())
}

/// A function of its own, so that a profile can name it without line tables.
#[inline(never)]
fn fast_step(sum: &mut u64, i: u64) {
    *sum = std::hint::black_box(*sum ^ i);
}

fn fast(bench: &mut Bench) -> Result<(), BenchError> {
    let rounds = bench.ops(10_000, || 0_u64, fast_step, |_| 10_000)?;
    bench.proof(rounds * 10_000, bench.observed());
    Ok(())
}

fn double(bench: &mut Bench) -> Result<(), BenchError> {
    bench.against("self/floor/single", || work(200), || work(100))?;
    bench.proof("two sides", "two sides");
    Ok(())
}

fn broken(bench: &mut Bench) -> Result<(), BenchError> {
    bench.figure(Source::Op, Figure::exact(Metric::Count, 1.0), 1);
    bench.proof(1, 2);
    Ok(())
}

fn allocations(bench: &mut Bench) -> Result<(), BenchError> {
    let (_, stats) = harness::alloc_scope(|| vec![1]);
    bench.allocations(1, stats)
}

fn quadratic(bench: &mut Bench) -> Result<(), BenchError> {
    bench.exponent(&[100, 200, 400, 800, 1_600], |n| {
        let start = Instant::now();
        for i in 0..n * n {
            std::hint::black_box(i);
        }
        start.elapsed()
    })?;
    bench.proof("timed", "timed");
    Ok(())
}

fn threads(bench: &mut Bench) -> Result<(), BenchError> {
    bench.speedup_beside("self/floor/spinning", 2, |_| {
        for i in 0..1_000_000_u64 {
            std::hint::black_box(i);
        }
    })?;
    bench.proof("timed", "timed");
    Ok(())
}

fn work(rounds: u64) -> (Duration, u64) {
    let start = Instant::now();
    for i in 0..rounds * 1_000 {
        std::hint::black_box(i);
    }
    (start.elapsed(), 1)
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

struct Run {
    output: Output,
    records: BTreeMap<String, Record>,
}

fn run(arguments: &[&str]) -> Run {
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = Command::new(std::env::current_exe().expect("own path"))
        .args(arguments)
        .env("GATE_RUN", folder.path())
        .env("GATE_PROFILE", "quick")
        .output()
        .expect("starts");
    let files = fs::read_dir(folder.path()).expect("lists").map(|file| file.expect("entry").path());
    let records = files
        .map(|path| {
            (path.file_name().expect("named").to_string_lossy().into_owned(), Record::read(&path).expect("reads"))
        })
        .collect();
    Run { output, records }
}

fn value(record: &Record, metric: Metric) -> Option<f64> {
    record.metrics.iter().find(|figure| figure.metric == metric).map(|figure| figure.value)
}

fn listing_names_every_benchmark_and_runs_none() {
    let Run { output, records } = run(&["--bench", "--list"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(text.contains("self/ops/slow: benchmark\n"), "{text}");
    assert!(records.is_empty());
}

fn without_bench_everything_runs_and_nothing_is_written() {
    let Run { output, records } = run(&["self/ops"]);
    assert!(output.status.success());
    assert!(records.is_empty());
}

fn records_carry_figures_proof_and_environment() {
    let Run { output, records } = run(&["--bench", "--exact", "self/ops/slow"]);
    assert!(output.status.success());
    assert_eq!(records.len(), 1);
    let record = &records["self+ops+slow.op.json"];
    assert_eq!(record.bench, "self/ops/slow");
    assert!(record.proof.as_ref().is_some_and(|proof| proof.holds() && proof.expected != "0"));
    assert_eq!(record.env.cores, thread::available_parallelism().expect("known").get());
    assert!(record.env.rustc.starts_with("rustc "));
    assert!(record.histogram.is_some());
}

fn slow_operations_are_timed_alone_and_fast_ones_in_groups() {
    let Run { records, .. } = run(&["--bench", "self/ops"]);
    let slow = &records["self+ops+slow.op.json"];
    let median = value(slow, Metric::LatencyMedian).expect("recorded");
    assert!((20_000.0..60_000.0).contains(&median), "{median}");
    assert!(value(slow, Metric::LatencyP99).expect("enough samples") >= median);
    let fast = &records["self+ops+fast.group.json"];
    assert_eq!(fast.metrics.len(), 2, "groups give a mean and a median alone");
    assert_eq!(fast.metrics[0].metric, Metric::LatencyMedian);
    assert!(fast.metrics[0].value < 1_000.0, "an exclusive or is not a microsecond");
    assert!(fast.notes.iter().any(|note| note.contains("groups of")), "{:?}", fast.notes);
}

fn a_pair_records_both_sides_and_its_ratio() {
    let Run { records, .. } = run(&["--bench", "self/pair"]);
    let ours = &records["self+pair+double.pair.json"];
    let paired = &ours.paired[0];
    assert_eq!(paired.of, "self/floor/single");
    assert!((0.4..0.6).contains(&paired.ratio), "twice the work is half as good: {}", paired.ratio);
    assert!(paired.ci.lo <= paired.ratio && paired.ratio <= paired.ci.hi);
    assert!(records.contains_key("self+floor+single.pair.json"));
}

fn a_broken_proof_fails_the_binary_and_writes_nothing() {
    let Run { output, records } = run(&["--bench", "self/broken"]);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(text.contains("self/broken/proof: proof failed: expected 1, observed 2"), "{text}");
    assert!(records.is_empty());
}

fn an_allocation_benchmark_is_refused() {
    let Run { output, records } = run(&["--bench", "self/refused"]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).expect("text").contains("does not count allocations"));
    assert!(records.is_empty());
}

fn quadratic_work_has_exponent_two() {
    let Run { records, .. } = run(&["--bench", "self/scaling/quadratic"]);
    let record = &records["self+scaling+quadratic.scaling.json"];
    let exponent = value(record, Metric::ScalingExponent).expect("recorded");
    assert!((1.7..2.3).contains(&exponent), "{exponent}");
}

fn a_speedup_states_its_floor() {
    let Run { records, .. } = run(&["--bench", "self/scaling/threads"]);
    let record = &records["self+scaling+threads.scaling.json"];
    assert!(value(record, Metric::ScalingSpeedup).is_some());
    assert!(record.notes.iter().any(|note| note.contains("spin floor")), "{:?}", record.notes);
    let busy = record.metrics[0].inconclusive.is_some();
    let floor: f64 = record.notes[0].rsplit_once("same threads ").expect("stated").1.parse().expect("a number");
    assert!(!busy || floor < 1.8 || record.env.cores < 2, "inconclusive without a reason");
    let beside = &records["self+floor+spinning.scaling.json"];
    assert!((value(beside, Metric::ScalingSpeedup).expect("recorded") - floor).abs() < 0.01);
    let paired = &record.paired[0];
    assert_eq!((paired.of.as_str(), paired.metric), ("self/floor/spinning", Metric::ScalingSpeedup));
    assert!(paired.ci.lo <= paired.ratio && paired.ratio <= paired.ci.hi);
}

#[cfg(feature = "flamegraph")]
fn a_profile_is_drawn_and_nothing_is_recorded() {
    let home = tempfile::tempdir().expect("temporary folder");
    let results = home.path().join("results");
    let output = Command::new(std::env::current_exe().expect("own path"))
        .args(["--bench", "--profile-time", "1", "--exact", "self/ops/fast"])
        .envs([("GATE_RUN", &results), ("CRITERION_HOME", &home.path().to_owned())])
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!results.exists(), "a profile is no measurement");
    let folder = home.path().join("self_ops_fast/profile");
    let picture = fs::read_to_string(folder.join("flamegraph.svg")).expect("drawn");
    assert!(picture.contains("<svg") && picture.contains("fast_step"), "{picture}");
    let stacks = fs::read_to_string(folder.join("stacks.folded")).expect("written");
    assert!(
        stacks.lines().all(|line| line.rsplit_once(' ').is_some_and(|(_, n)| n.parse::<u64>().is_ok())),
        "{stacks}"
    );
    assert!(stacks.contains("fast_step"), "{stacks}");
}
