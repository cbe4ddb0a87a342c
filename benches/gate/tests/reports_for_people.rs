//! `report.html` and `report.md` as files: whole, closed, small, and safe whatever a benchmark is called.

mod support;

use gate::evaluate::{Selection, evaluate};
use gate::measurement::Measurements;
use gate::outcome::GateReport;
use gate::report::Format;
use gate::source::measurement::interpret;
use gate::thresholds::Thresholds;
use harness::metric::Metric;
use harness::record::{Figure, Interval, Record};
use std::path::Path;
use support::{RUN, record};

/// A histogram of 1,000 values from 100 to 1,099 as `OpBench` writes it.
fn with_histogram(record: Record) -> Record {
    use base64::Engine as _;
    use hdrhistogram::serialization::{Serializer as _, V2Serializer};
    let mut histogram = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
    (100..1_100).for_each(|value| histogram.record(value).expect("inside"));
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&histogram, &mut bytes).expect("into memory");
    Record { histogram: Some(base64::engine::general_purpose::STANDARD.encode(bytes)), ..record }
}

fn report_of(benches: &[String]) -> GateReport {
    let mut limits = "version = 1\n".to_owned();
    let mut measurements = Measurements::default();
    for (number, bench) in benches.iter().enumerate() {
        let limit = ["200ns", "105ns", "90ns"][number % 3];
        limits += &format!(
            "[bench.{bench:?}]\nseed = {{ latency.mean = \"< 1 ms\" }}\nown = {{ latency.mean = \"{limit}\", latency.p99 = \"1us\", allocs.count = 1 }}\n"
        );
        let mut one = record(bench, Metric::LatencyMean, 95.0, 100.0, 104.0);
        one.metrics.push(Figure::sampled(Metric::LatencyP99, 500.0, Interval { lo: 490.0, hi: 520.0, level: 0.95 }));
        one.metrics.push(Figure::exact(Metric::AllocsCount, 1.0));
        interpret(&with_histogram(one), RUN, &mut measurements);
    }
    let thresholds = Thresholds::parse(&limits, Path::new("thresholds.toml"), "2026-01-01").expect("limits");
    evaluate(&thresholds, &measurements, &Selection::everything(thresholds.profile("full")))
}

fn html(report: &GateReport) -> String {
    Format::named("html").expect("a format").render(report)
}

#[test]
fn two_hundred_benchmarks_with_four_limits_and_a_plot_each_stay_below_a_megabyte() {
    let benches: Vec<String> = (0..200).map(|n| format!("some-component/a-group-of-cases/case-number-{n}")).collect();
    let page = html(&report_of(&benches));
    assert!(page.len() < 1_000_000, "{} bytes", page.len());
    assert_eq!(page.matches("<section").count(), 200);
    assert_eq!(page.matches("class=\"shape\"").count(), 200);
    assert_eq!(page.matches("class=\"bar\"").count(), 800);
}

#[test]
fn a_page_that_would_be_larger_leaves_out_plots_and_then_what_slips_least() {
    use gate::rivals::Rival;
    let rival = |peer: usize| Rival {
        work: "w".to_owned(),
        peer: format!("a-rival-with-a-name-{peer}"),
        ours: Some(100.0),
        theirs: Some(50.0),
        unit: "ns".to_owned(),
        ratio: Some(0.5),
        interval: Some([0.4, 0.6]),
        success: None,
        missing: None,
        limit: Some("at least 1 times as good".to_owned()),
        verdict: Some("FAIL".to_owned()),
        revision: "0123456789ab".to_owned(),
    };
    let benches: Vec<String> = (0..200).map(|n| format!("some-component/a-group-of-cases/case-number-{n}")).collect();
    let mut report = report_of(&benches);
    report.rivals.rows =
        benches.iter().flat_map(|bench| (0..4).map(move |peer| (bench.clone(), rival(peer)))).collect();
    for row in &mut report.rows {
        row.reason = format!("a reason of any length: {}", "x".repeat(100_000));
    }
    let page = html(&report);
    assert!(page.len() <= 1_000_000, "{} bytes", page.len());
    assert!(page.contains("Too much for one page: without distributions") && page.ends_with("</html>\n"));
    let mut many = report_of(&(0..3_000).map(|n| format!("some-component/cases/{n}")).collect::<Vec<_>>());
    many.warnings = vec!["a warning".repeat(1_000); 100];
    let page = html(&many);
    assert!(page.len() <= 1_000_000, "{} bytes", page.len());
    assert!(page.contains("benchmarks, which are in report.json") && page.contains("some-component/cases/1001</h2>"));
}

#[test]
fn the_markdown_report_is_cut_below_a_mebibyte_and_says_so() {
    let benches: Vec<String> = (0..6_000).map(|n| format!("some-component/{}/case-{n}", "group".repeat(8))).collect();
    let mut report = report_of(&benches);
    report.warnings = vec!["a warning of some length, over and over".repeat(20); 2_000];
    let text = Format::named("md").expect("a format").render(&report);
    assert!(text.len() < 1 << 20, "{} bytes", text.len());
    assert!(text.contains("more rows are in report.json") && text.contains("more warnings are in report.json"));
    assert!(text.contains("| FAIL |"), "the worst rows are there");
    let whole = Format::named("md").expect("a format").render(&report_of(&benches[..3]));
    assert!(!whole.contains("Cut here"));
}

#[test]
fn nothing_is_fetched_from_anywhere() {
    let page = html(&report_of(&["a/b/c".to_owned()]));
    for reference in ["http:", "https:", "src=", "href=", "url(", "@import", "<link", "fetch(", "import("] {
        assert!(!page.contains(reference), "{reference}");
    }
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
}

#[test]
fn names_are_text_whatever_they_hold() {
    let page = html(&report_of(&["a/<script>alert(1)</script>&\"'/c".to_owned()]));
    assert!(!page.contains("<script>alert"), "a name became a script");
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;"));
    let failed = html(&GateReport::of_failure("<b>broken</b>", "full"));
    assert!(failed.contains("&lt;b&gt;broken&lt;/b&gt;") && failed.contains("1"), "{failed}");
}

#[test]
fn each_verdict_is_counted_and_the_worst_benchmark_comes_first() {
    let benches = ["c/met/1", "b/near/1", "a/missed/1"].map(str::to_owned);
    let page = html(&report_of(&benches));
    assert!(page.contains("One limit is missed."));
    assert!(page.contains("<b>1</b> FAIL") && page.contains("<b>1</b> WARN"), "the chips");
    let place = |name: &str| page.find(&format!("data-name=\"{name}\"")).expect("a section");
    assert!(place("a/missed/1") < place("b/near/1") && place("b/near/1") < place("c/met/1"));
}

#[test]
fn comparisons_with_rivals_are_kept_and_shown_and_touch_no_exit_code() {
    use gate::rivals::{Rival, keep, read};
    let folder = tempfile::tempdir().expect("temporary folder");
    let rival = |work: &str, peer: &str, ratio: Option<f64>| Rival {
        work: work.to_owned(),
        peer: peer.to_owned(),
        ours: ratio.map(|_| 100.0),
        theirs: ratio.map(|ratio| 100.0 * ratio),
        unit: "ns".to_owned(),
        ratio,
        interval: ratio.map(|ratio| [ratio * 0.9, ratio * 1.1]),
        success: ratio.map(|_| [1.0, 0.25]),
        missing: ratio.is_none().then(|| "does not <build>".to_owned()),
        limit: None,
        verdict: None,
        revision: "0123456789ab".to_owned(),
    };
    keep(folder.path(), "a", &[rival("b/c", "maps", Some(2.0)), rival("b/c", "other", None)], false).expect("kept");
    keep(folder.path(), "a", &[rival("b/c", "maps", Some(0.5)), rival("d", "maps", Some(4.0))], false).expect("kept");
    let rivals = read(folder.path());
    let names: Vec<(&str, &str)> = rivals.rows.iter().map(|(bench, rival)| (&**bench, &*rival.peer)).collect();
    assert_eq!(names, [("a/b/c", "other"), ("a/b/c", "maps"), ("a/d", "maps")], "the last of each counts");
    assert_eq!(rivals.rows[1].1.ratio, Some(0.5));
    let before = report_of(&["a/b/c".to_owned()]);
    let mut with = before.clone();
    with.rivals = rivals;
    assert_eq!(with.exit_status(true), before.exit_status(true));
    let page = html(&with);
    for part in [
        "ahead in <b>1</b> of 2 comparisons, behind in <b>1</b>",
        "0.50x",
        "does not &lt;build&gt;",
        "data-name=\"a/d\"",
        "RIVALS",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let mut lost = with.clone();
    lost.rivals.rows[1].1.verdict = Some("FAIL".to_owned());
    let page = html(&lost);
    assert!(
        page.contains("One limit is missed.") || page.contains("limits are missed."),
        "a lost rival is a miss to see"
    );
    assert!(page.contains("data-name=\"a/b/c\" data-verdicts=\"") && page.contains("class=\"fail\""));
    assert_eq!(lost.exit_status(true), before.exit_status(true));
    for text in ["", "{\"schema\":9,\"component\":\"a\",\"rivals\":[]}", "{\"schema\":1}", "[]"] {
        std::fs::write(folder.path().join("peers/a.json"), text).expect("writes");
        let rivals = read(folder.path());
        assert_eq!((rivals.rows.len(), rivals.problems.len()), (0, 1), "{text}");
        assert!(rivals.problems[0].contains("peers/a.json"), "{:?}", rivals.problems);
    }
    keep(folder.path(), "a", &[rival("d", "maps", Some(4.0))], false).expect("what cannot be read is replaced");
    assert_eq!(read(folder.path()).rows.len(), 1);
}

#[test]
fn what_is_waived_is_not_called_met() {
    use gate::verdict::Verdict;
    let mut report = report_of(&["a/b/0".to_owned()]);
    report.rows.iter_mut().for_each(|row| row.verdict = Verdict::Pass);
    assert!(html(&report).contains("<p class=\"lead\">Every limit is met.</p>"));
    report.rows[0].verdict = Verdict::Waived;
    assert!(html(&report).contains("<p class=\"lead\">Every limit is met but one that is waived.</p>"));
}
