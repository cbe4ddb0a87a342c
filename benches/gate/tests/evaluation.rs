//! From measurements to rows: which figure counts, what is compared with what, and what the reports show of it.

use std::path::Path;
use std::time::{Duration, Instant};

use gate::evaluate::{Selection, evaluate};
use gate::measurement::{Measurement, Measurements, PairedRatio};
use gate::outcome::GateReport;
use gate::report::{FORMATS, Format, Style, table};
use gate::thresholds::{Profile, Thresholds};
use gate::verdict::Verdict;
use harness::metric::Metric;
use harness::record::{Interval, Replication};

fn thresholds(content: &str) -> Thresholds {
    Thresholds::parse(&format!("version = 1\n{content}"), Path::new("thresholds.toml"), "2026-06-15")
        .expect("well formed")
}

fn figure(bench: &str, metric: Metric, source: &str, lo: f64, value: f64, hi: f64) -> Measurement {
    Measurement {
        bench: bench.to_owned(),
        metric,
        value,
        ci: (lo < hi).then_some(Interval { lo, hi, level: 0.95 }),
        n: Replication::one_process(100),
        source: source.to_owned(),
        notes: Vec::new(),
        inconclusive: None,
        threads: None,
    }
}

fn judged(content: &str, figures: Vec<Measurement>) -> GateReport {
    let measurements = Measurements { figures, ..Measurements::default() };
    evaluate(&thresholds(content), &measurements, &Selection::everything(Profile::default_for("full")))
}

#[test]
fn single_operations_count_before_groups_and_groups_before_batches() {
    let limits = "[bench.\"a\"]\nown = { latency.median = \"100ns\" }\n";
    let of = |source, value| figure("a", Metric::LatencyMedian, source, value, value, value);
    let report = judged(limits, vec![of("criterion (of batch means)", 500.0), of("group", 400.0), of("op", 50.0)]);
    assert_eq!((report.rows[0].verdict, report.rows[0].source.as_str()), (Verdict::Pass, "op"));
    let report = judged(limits, vec![of("criterion (of batch means)", 50.0), of("group", 400.0)]);
    assert_eq!((report.rows[0].verdict, report.rows[0].source.as_str()), (Verdict::Fail, "group"));
}

#[test]
fn a_percentile_of_batches_is_refused_with_the_way_out() {
    let report = judged(
        "[bench.\"a\"]\nown = { latency.p99 = \"100ns\", latency.p50 = \"100ns\" }\n",
        vec![figure("a", Metric::LatencyMedian, "criterion (of batch means)", 1.0, 2.0, 3.0)],
    );
    for row in &report.rows {
        assert_eq!(row.verdict, Verdict::Missing);
        assert!(row.reason.contains("criterion times batches") && row.reason.contains("Bench::ops"), "{}", row.reason);
    }
}

#[test]
fn a_median_of_single_operations_is_their_p50() {
    let report = judged(
        "[bench.\"a\"]\nown = { latency.p50 = \"100ns\" }\n",
        vec![figure("a", Metric::LatencyMedian, "op", 10.0, 20.0, 30.0)],
    );
    assert_eq!(report.rows[0].verdict, Verdict::Pass);
}

#[test]
fn processes_are_combined_by_their_spread() {
    let limits = "[bench.\"a\"]\nown = { latency.mean = \"100ns\" }\n";
    let of = |value: f64| figure("a", Metric::LatencyMean, "op", value - 1.0, value, value + 1.0);
    // Each process is sure of itself; three that disagree are not sure together.
    let report = judged(limits, vec![of(60.0), of(98.0), of(80.0)]);
    assert_eq!(report.rows[0].verdict, Verdict::Inconclusive);
    let report = judged(limits, vec![of(60.0), of(61.0), of(62.0)]);
    assert_eq!((report.rows[0].verdict, report.rows[0].processes), (Verdict::Pass, 3));
    let report = judged(limits, vec![of(60.0), of(99.5)]);
    assert_eq!(report.rows[0].verdict, Verdict::Inconclusive, "two speak by the hull of both");
}

#[test]
fn ratios_are_above_1_where_ours_is_better() {
    let limits = |bound: &str, metric: &str| {
        format!("[bench.\"a\"]\nversus = [{{ of = \"b\", metric = \"{metric}\", {bound} }}]\n")
    };
    let latency = |bench, value| figure(bench, Metric::LatencyMean, "op", value, value, value);
    let rate = |bench, value| figure(bench, Metric::Throughput, "op", value, value, value);
    for (bound, metric, figures, expected, ratio) in [
        ("at_least_times = 3.0", "latency.mean", vec![latency("a", 10.0), latency("b", 40.0)], Verdict::Pass, 4.0),
        ("at_least_times = 3.0", "latency.mean", vec![latency("a", 10.0), latency("b", 20.0)], Verdict::Fail, 2.0),
        ("at_most_times = 2.0", "latency.mean", vec![latency("a", 15.0), latency("b", 10.0)], Verdict::Pass, 2.0 / 3.0),
        ("at_most_times = 2.0", "latency.mean", vec![latency("a", 25.0), latency("b", 10.0)], Verdict::Fail, 0.4),
        ("at_least_times = 3.0", "throughput", vec![rate("a", 40.0), rate("b", 10.0)], Verdict::Pass, 4.0),
    ] {
        let report = judged(&limits(bound, metric), figures);
        let row = &report.rows[0];
        assert_eq!(row.verdict, expected, "{bound} {metric}: {}", row.reason);
        assert!((row.estimate.expect("measured").value - ratio).abs() < 1e-9);
    }
}

#[test]
fn a_ratio_of_separate_figures_is_as_wide_as_both_and_alternating_rounds_are_narrower() {
    let limits =
        thresholds("[bench.\"a\"]\nversus = [{ of = \"b\", metric = \"latency.mean\", at_most_times = 2.0 }]\n");
    let mut measurements = Measurements {
        figures: vec![
            figure("a", Metric::LatencyMean, "op", 10.0, 15.0, 22.0),
            figure("b", Metric::LatencyMean, "op", 8.0, 10.0, 12.0),
        ],
        ..Measurements::default()
    };
    let selection = Selection::everything(Profile::default_for("full"));
    assert_eq!(evaluate(&limits, &measurements, &selection).rows[0].verdict, Verdict::Inconclusive);
    measurements.paired.push(PairedRatio {
        bench: "a".to_owned(),
        of: "b".to_owned(),
        metric: Metric::LatencyMean,
        ratio: 0.66,
        ci: Interval { lo: 0.65, hi: 0.67, level: 0.95 },
        n: Replication::one_process(20),
    });
    assert_eq!(evaluate(&limits, &measurements, &selection).rows[0].verdict, Verdict::Pass);
}

#[test]
fn rivals_are_judged_in_their_own_profile_alone() {
    let limits = thresholds(
        "[bench.\"a\"]\nown = { latency.mean = \"1us\" }\nversus = [{ of = \"peers/a/x\", metric = \"latency.mean\", at_least_times = 2 }]\n",
    );
    let measurements = Measurements {
        figures: vec![figure("a", Metric::LatencyMean, "op", 1.0, 2.0, 3.0)],
        ..Measurements::default()
    };
    let verdicts = |profile| -> Vec<Verdict> {
        let selection = Selection::everything(Profile::default_for(profile));
        evaluate(&limits, &measurements, &selection).rows.iter().map(|row| row.verdict).collect()
    };
    assert_eq!(verdicts("full"), [Verdict::Pass, Verdict::NotSelected]);
    assert_eq!(verdicts("peers"), [Verdict::Missing, Verdict::Pass]);
}

#[test]
fn unknown_benchmarks_are_ignored_warned_of_or_missing_and_floors_are_known() {
    let limits = |setting| {
        format!(
            "[gate]\nunknown_bench = \"{setting}\"\n[bench.\"a\"]\nversus = [{{ of = \"floor\", metric = \"latency.mean\", at_most_times = 2 }}]\n"
        )
    };
    let figures =
        || ["a", "floor", "new"].map(|bench| figure(bench, Metric::LatencyMean, "op", 1.0, 1.0, 1.0)).to_vec();
    let report = judged(&limits("warn"), figures());
    assert_eq!(report.warnings, ["new has no limits in thresholds.toml"]);
    assert!(judged(&limits("ignore"), figures()).warnings.is_empty());
    let report = judged(&limits("fail"), figures());
    assert_eq!((report.rows[0].bench.as_str(), report.rows[0].verdict), ("new", Verdict::Missing));
}

#[test]
fn growth_an_hour_has_a_band_of_its_own() {
    let limits = "[bench.\"a\"]\nown = { memory.growth_per_hour = { warn = \"10MB\", fail = \"50MB\", ops_per_second = 1000 } }\n";
    for (value, expected) in [(5e6, Verdict::Pass), (20e6, Verdict::Warn), (60e6, Verdict::Fail)] {
        let report = judged(limits, vec![figure("a", Metric::MemoryGrowthPerHour, "alloc", value, value, value)]);
        assert_eq!(report.rows[0].verdict, expected);
    }
}

#[test]
fn growth_an_operation_becomes_growth_an_hour_at_the_rate_of_the_limit() {
    let limits = "[bench.\"a\"]\nown = { memory.growth_per_hour = { warn = \"10MB\", fail = \"50MB\", ops_per_second = 1000 } }\n";
    for (a_op, expected) in [(0.0, Verdict::Pass), (5.0, Verdict::Warn), (20.0, Verdict::Fail)] {
        let report = judged(limits, vec![figure("a", Metric::MemoryGrowthPerOp, "alloc", a_op, a_op, a_op)]);
        assert_eq!(report.rows[0].verdict, expected, "{a_op} B an operation: {}", report.rows[0].reason);
    }
}

#[test]
fn a_speedup_counts_for_the_threads_of_its_limit_alone() {
    let limits = "[bench.\"a\"]\nown = { scaling.speedup = { threads = 4, min = 1.5 } }\n";
    let with = |threads| Measurement {
        threads: Some(threads),
        ..figure("a", Metric::ScalingSpeedup, "scaling", 1.9, 1.9, 1.9)
    };
    assert_eq!(judged(limits, vec![with(4)]).rows[0].verdict, Verdict::Pass);
    let row = &judged(limits, vec![with(2)]).rows[0];
    assert_eq!((row.verdict, row.reason.as_str()), (Verdict::Missing, "measured with 2 threads, not with 4"));
}

#[test]
fn a_quiet_repeat_settles_what_a_busy_machine_could_not_tell() {
    let limits = "[bench.\"a\"]\nown = { scaling.speedup = \"1.5\" }\n";
    let of = |value, busy: bool| Measurement {
        inconclusive: busy.then(|| "busy".to_owned()),
        ..figure("a", Metric::ScalingSpeedup, "scaling", value, value, value)
    };
    assert_eq!(judged(limits, vec![of(1.0, true)]).rows[0].verdict, Verdict::Inconclusive);
    let row = &judged(limits, vec![of(1.0, true), of(1.9, false)]).rows[0];
    assert_eq!((row.verdict, row.estimate.expect("told").value), (Verdict::Pass, 1.9));
}

/// A report with a row of every kind, and with names that every format must escape.
fn mixed() -> GateReport {
    let limits = "[bench.\"a|b<c>&`d`/very/long/name/that/goes/on/and/on/beyond/every/column/of/the/table\"]\nown = { latency.mean = \"100ns\" }\n\
                  [bench.\"pass\"]\nown = { latency.mean = \"100ns\" }\n[bench.\"warn\"]\nown = { latency.mean = \"100ns\" }\n\
                  [bench.\"fail\"]\nown = { latency.mean = \"100ns\" }\n[bench.\"straddle\"]\nown = { latency.mean = \"100ns\" }\n";
    let of = |bench, lo, hi| figure(bench, Metric::LatencyMean, "op", lo, f64::midpoint(lo, hi), hi);
    judged(
        limits,
        vec![of("pass", 1.0, 2.0), of("warn", 90.0, 95.0), of("fail", 200.0, 300.0), of("straddle", 50.0, 150.0)],
    )
}

#[test]
fn the_table_fits_100_columns_worst_first_with_a_reason_and_a_next_step() {
    let text = table(&mixed(), Style::Plain);
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
    let at = |word: &str| {
        text.lines().position(|line| line.starts_with(word)).unwrap_or_else(|| panic!("{word} in\n{text}"))
    };
    assert!(
        at("FAIL") < at("MISSING")
            && at("MISSING") < at("INCONCLUSIVE")
            && at("INCONCLUSIVE") < at("WARN")
            && at("WARN") < at("PASS")
    );
    assert_eq!(text.matches("next: cargo gate").count(), 4);
    assert!(!text.contains('\u{1b}'), "no colours");
    assert!(table(&mixed(), Style::Coloured).contains("\u{1b}["));
}

#[test]
fn every_format_carries_every_row_and_survives_odd_names() {
    let report = mixed();
    let json: serde_json::Value =
        serde_json::from_str(&Format::named("json").expect("known").render(&report)).expect("JSON");
    assert_eq!(json["rows"].as_array().map(Vec::len), Some(5));
    for (verdict, count) in [("PASS", 1), ("WARN", 1), ("FAIL", 1), ("INCONCLUSIVE", 1), ("MISSING", 1), ("ERROR", 0)] {
        assert_eq!(json["summary"][verdict], count, "{verdict}");
    }
    for field in ["benchmark", "metric", "class", "limit", "value", "unit", "verdict", "reason"] {
        assert!(json["rows"][0].get(field).is_some(), "{field}");
    }
    let markdown = Format::named("md").expect("known").render(&report);
    for row in markdown.lines().filter(|line| line.starts_with("| ")) {
        let cells = row.replace("\\|", "").matches('|').count();
        assert!(cells == 9, "{cells} bars in {row}");
    }
    let junit = Format::named("junit").expect("known").render(&report);
    assert_eq!(
        (junit.matches("<testcase").count(), junit.matches("<failure").count(), junit.matches("<error").count()),
        (5, 1, 2)
    );
    assert!(junit.contains("a|b&lt;c&gt;&amp;"), "{junit}");
    let html = Format::named("html").expect("known").render(&report);
    assert_eq!(html.matches("<tr class=").count(), 5);
    assert!(html.contains("a|b&lt;c&gt;&amp;"));
    assert_eq!(FORMATS.len(), 6);
}

#[test]
fn a_thousand_benchmarks_are_judged_in_a_moment() {
    let limits: String =
        (0..1_000).map(|i| format!("[bench.\"crate/group/{i}\"]\nown = {{ latency.mean = \"100ns\" }}\n")).collect();
    let limits = thresholds(&limits);
    let figures =
        (0..1_000).map(|i| figure(&format!("crate/group/{i}"), Metric::LatencyMean, "op", 1.0, 2.0, 3.0)).collect();
    let measurements = Measurements { figures, ..Measurements::default() };
    let began = Instant::now();
    let report = evaluate(&limits, &measurements, &Selection::everything(Profile::default_for("full")));
    assert_eq!(report.rows.len(), 1_000);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
