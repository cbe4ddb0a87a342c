//! Criterion's files, read as they are written by criterion 0.8: what is usable becomes figures, the rest a named problem.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use gate::measurement::{Measurements, ProblemKind};
use gate::source::criterion::{collect, parse};
use harness::metric::Metric;

fn benchmark(id: &str, throughput: &str) -> String {
    format!(
        r#"{{"group_id":"g","function_id":null,"value_str":null,"throughput":{throughput},"full_id":"{id}","directory_name":"g","title":"{id}"}}"#
    )
}

fn estimate(value: &str) -> String {
    format!(
        r#"{{"confidence_interval":{{"confidence_level":0.95,"lower_bound":90.0,"upper_bound":110.0}},"point_estimate":{value},"standard_error":1.0}}"#
    )
}

fn estimates(mean: &str) -> String {
    let spread = estimate("1.0");
    format!(
        r#"{{"mean":{},"median":{},"median_abs_dev":{spread},"slope":null,"std_dev":{spread}}}"#,
        estimate(mean),
        estimate("99.0")
    )
}

const SAMPLE: &str = r#"{"sampling_mode":"Linear","iters":[1.0,2.0,3.0,4.0],"times":[100.0,200.0,300.0,480.0]}"#;

fn write(home: &Path, folder: &str, id: &str, estimates: &str, sample: &str) {
    let folder = home.join(folder).join("new");
    fs::create_dir_all(&folder).expect("makes the folder");
    fs::write(folder.join("benchmark.json"), benchmark(id, "null")).expect("writes");
    fs::write(folder.join("estimates.json"), estimates).expect("writes");
    fs::write(folder.join("sample.json"), sample).expect("writes");
}

fn read(home: &Path, started: SystemTime) -> Measurements {
    let mut found = Measurements::default();
    collect(home, started, &mut found);
    found
}

fn long_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(3_600)
}

#[test]
fn mean_and_median_come_with_their_intervals_and_no_percentile_does() {
    let (figures, summary) =
        parse(benchmark("a/b/c", "null").as_bytes(), estimates("100.0").as_bytes(), SAMPLE.as_bytes()).expect("usable");
    let metrics: Vec<Metric> = figures.iter().map(|figure| figure.metric).collect();
    assert_eq!(metrics, [Metric::LatencyMean, Metric::LatencyMedian]);
    assert_eq!((figures[0].value, figures[1].value), (100.0, 99.0));
    assert_eq!(figures[0].ci.map(|ci| (ci.lo, ci.hi)), Some((90.0, 110.0)));
    assert!(figures.iter().all(|figure| figure.source.contains("of batch means")));
    assert_eq!((summary.min, summary.max, summary.mean, summary.rounds), (100.0, 120.0, 105.0, 4));
    assert_eq!((summary.stddev, summary.median), (10.0, 100.0));
    assert_eq!(summary.outliers, "1;1", "120 is beyond one deviation and beyond the fence");
}

#[test]
fn each_kind_of_throughput_becomes_a_rate_with_its_unit() {
    for (kind, rate, unit) in [
        (r#"{"Elements":10}"#, 1e8, "elements"),
        (r#"{"Bytes":10}"#, 1e8, "bytes"),
        (r#"{"BytesDecimal":20}"#, 2e8, "bytes"),
        (r#"{"Bits":10}"#, 1e8, "bits"),
        (r#"{"ElementsAndBytes":{"elements":5,"bytes":64}}"#, 5e7, "elements"),
    ] {
        let (figures, _) =
            parse(benchmark("a/b/c", kind).as_bytes(), estimates("100.0").as_bytes(), SAMPLE.as_bytes()).expect(kind);
        let throughput = figures.iter().find(|figure| figure.metric == Metric::Throughput).expect(kind);
        assert!((throughput.value / rate - 1.0).abs() < 1e-12, "{kind}: {}", throughput.value);
        let interval = throughput.ci.expect("sampled");
        assert!(interval.lo < throughput.value && throughput.value < interval.hi, "{kind}: {interval:?}");
        assert!(throughput.notes[0].starts_with(unit), "{kind}: {:?}", throughput.notes);
    }
}

#[test]
fn what_is_wrong_in_itself_is_an_error_that_names_the_benchmark() {
    let no_batches = r#"{"sampling_mode":"Linear","iters":[],"times":[]}"#;
    let uneven = r#"{"sampling_mode":"Linear","iters":[1.0],"times":[1.0,2.0]}"#;
    let not_a_number = r#"{"sampling_mode":"Linear","iters":[1.0,0.0],"times":[1.0,0.0]}"#;
    let below_zero = r#"{"sampling_mode":"Linear","iters":[1.0],"times":[-1.5]}"#;
    for (estimates, sample, expected) in [
        (estimates("null"), SAMPLE, "not a finite number"),
        (estimates("NaN"), SAMPLE, "estimates.json"),
        (estimates("1e999"), SAMPLE, "estimates.json"),
        (estimates("100.0"), no_batches, "no batches"),
        (estimates("100.0"), uneven, "2 times for 1 counts"),
        (estimates("100.0"), not_a_number, "no time"),
        (estimates("100.0"), below_zero, "no time"),
        (estimates("100.0").replace("0.95", "0.5"), SAMPLE, "a confidence of 0.5"),
        (estimates("100.0"), "{", "sample.json"),
        (String::new(), SAMPLE, "estimates.json"),
    ] {
        let problem =
            parse(benchmark("a/b/c", "null").as_bytes(), estimates.as_bytes(), sample.as_bytes()).expect_err(expected);
        assert_eq!((problem.bench.as_str(), problem.kind), ("a/b/c", ProblemKind::Error));
        assert!(problem.reason.contains(expected), "{}", problem.reason);
    }
}

#[test]
fn a_benchmark_is_known_by_its_full_id_and_not_by_its_folder() {
    let home = tempfile::tempdir().expect("temporary folder");
    let long = format!("crate/{}/case", "x".repeat(100));
    write(home.path(), "cut_and_sanitised", &long, &estimates("100.0"), SAMPLE);
    write(home.path(), "group/nested", "crate/group/case", &estimates("100.0"), SAMPLE);
    let found = read(home.path(), long_ago());
    let mut ids: Vec<&str> = found.summaries.iter().map(|summary| summary.bench.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["crate/group/case", long.as_str()]);
    assert!(found.problems.is_empty());
}

#[test]
fn a_result_older_than_the_run_is_stale_and_gives_no_figure() {
    let home = tempfile::tempdir().expect("temporary folder");
    write(home.path(), "old", "crate/old/case", &estimates("100.0"), SAMPLE);
    let found = read(home.path(), SystemTime::now() + Duration::from_secs(60));
    assert!(found.figures.is_empty());
    assert_eq!(found.problems.len(), 1);
    assert_eq!((found.problems[0].bench.as_str(), found.problems[0].kind), ("crate/old/case", ProblemKind::Missing));
    assert!(found.problems[0].reason.starts_with("STALE"), "{}", found.problems[0].reason);
}

#[test]
fn a_result_without_a_readable_id_is_named_by_its_folder() {
    let home = tempfile::tempdir().expect("temporary folder");
    write(home.path(), "broken", "x", &estimates("100.0"), SAMPLE);
    fs::write(home.path().join("broken/new/benchmark.json"), "{").expect("writes");
    let found = read(home.path(), long_ago());
    assert_eq!(found.problems.len(), 1);
    assert!(found.problems[0].bench.ends_with("broken/new"), "{}", found.problems[0].bench);
}
