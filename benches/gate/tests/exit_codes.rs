//! The command over a finished run: each way to end has its code, and its reports are on the disk.

mod support;

use harness::metric::Metric;
use support::{Project, Run, manifest, record};

const LIMIT: &str = "[bench.\"a/b/c\"]\nown = { latency.mean = \"1us\" }\n";

/// Every report exists, can be parsed, and says the same number of rows.
fn assert_reports(run: &Run) {
    let json = run.json();
    let rows = json["rows"].as_array().expect("rows").len() as u64;
    let counted: u64 =
        json["summary"].as_object().expect("counts").values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(rows, counted);
    assert!(
        run.report("report.csv").starts_with("name,source,unit,min,max,mean,stddev,median,iqr,outliers,ops,rounds\n")
    );
    assert!(run.report("report.md").starts_with("# Gate\n"));
    let junit = run.report("junit.xml");
    assert!(junit.starts_with("<?xml") && junit.trim_end().ends_with("</testsuites>"), "{junit}");
}

#[test]
fn limits_that_are_met_exit_with_0() {
    let run = Project::new(LIMIT).check(&[]);
    assert_eq!(run.code(), 0, "{}{}", run.text(), run.errors());
    assert_reports(&run);
    assert!(run.text().contains("1 PASS"), "{}", run.text());
}

#[test]
fn an_impossible_limit_exits_with_1_and_names_the_line() {
    let run = Project::new("[bench.\"a/b/c\"]\nown = { latency.mean = \"1ns\" }\n").check(&[]);
    assert_eq!(run.code(), 1);
    assert_reports(&run);
    assert!(run.text().contains("thresholds.toml:3"), "{}", run.text());
    assert!(run.text().contains("next: cargo gate explain a/b/c"), "{}", run.text());
    assert_eq!(run.json()["rows"][0]["verdict"], "FAIL");
    assert_eq!(run.json()["rows"][0]["line"], 3);
}

#[test]
fn a_renamed_benchmark_exits_with_3_and_is_told_what_it_may_be_called_now() {
    let project = Project::new("[bench.\"a/b/d\"]\nown = { latency.mean = \"1us\" }\n");
    let run = project.check(&[]);
    assert_eq!(run.code(), 3);
    assert_reports(&run);
    let row = &run.json()["rows"][0];
    assert_eq!(row["verdict"], "MISSING");
    assert!(row["reason"].as_str().expect("text").contains("did you mean a/b/c?"), "{row}");
}

#[test]
fn a_bare_number_exits_with_2_and_names_the_line() {
    let run = Project::new("[bench.\"a/b/c\"]\nown = { latency.mean = 100 }\n").check(&[]);
    assert_eq!(run.code(), 2);
    assert_reports(&run);
    assert!(run.text().contains("thresholds.toml:3:24"), "{}", run.text());
    assert!(run.text().contains("has no unit"), "{}", run.text());
}

#[test]
fn a_criterion_result_that_is_no_number_is_an_error_and_exits_with_2() {
    let project = Project::new("[bench.\"x/y/z\"]\nown = { latency.mean = \"1us\" }\n");
    project.manifest(&manifest(&["x/y/z"]));
    let folder = "out/latest/criterion/x+y+z/x_y/z/new";
    let estimate = r#"{"confidence_interval":{"confidence_level":0.95,"lower_bound":1.0,"upper_bound":2.0},"point_estimate":NaN,"standard_error":1.0}"#;
    project.file(&format!("{folder}/benchmark.json"), r#"{"full_id":"x/y/z","throughput":null}"#);
    project.file(&format!("{folder}/estimates.json"), &format!(r#"{{"mean":{estimate},"median":{estimate}}}"#));
    project.file(&format!("{folder}/sample.json"), r#"{"iters":[1.0],"times":[1.0]}"#);
    let run = project.check(&[]);
    assert_eq!(run.code(), 2, "{}", run.text());
    assert_reports(&run);
    let row = &run.json()["rows"][0];
    assert_eq!((row["benchmark"].as_str(), row["verdict"].as_str()), (Some("x/y/z"), Some("ERROR")));
}

#[test]
fn an_interval_across_the_limit_exits_with_3_and_in_the_profile_quick_with_0() {
    let project = Project::new("[bench.\"a/b/c\"]\nown = { latency.mean = \"100ns\" }\n");
    assert_eq!(project.check(&[]).code(), 3);
    let quick = project.check(&["--profile", "quick"]);
    assert_eq!(quick.code(), 0);
    assert_eq!(quick.json()["summary"]["INCONCLUSIVE"], 1);
    assert_eq!(project.check(&["--profile", "quick", "--deny-warnings"]).code(), 4);
}

#[test]
fn little_headroom_exits_with_0_and_under_deny_warnings_with_4() {
    let project = Project::new("[bench.\"a/b/c\"]\nown = { latency.mean = \"115ns\" }\n");
    let run = project.check(&[]);
    assert_eq!(run.code(), 0);
    assert!(run.text().contains("headroom 4 %"), "{}", run.text());
    let run = project.check(&["--deny-warnings"]);
    assert_eq!(run.code(), 4);
    assert_reports(&run);
}

#[test]
fn a_filter_that_selects_nothing_exits_with_3() {
    let project = Project::new(LIMIT);
    let run = project.check(&["nowhere"]);
    assert_eq!(run.code(), 3);
    assert_reports(&run);
    assert!(run.text().contains("nothing was selected"), "{}", run.text());
    assert_eq!(project.check(&["b/c"]).code(), 0);
    assert_eq!(project.check(&["a/*"]).code(), 0);
}

#[test]
fn what_is_outside_the_filter_or_the_profile_touches_no_exit_code() {
    let limits =
        format!("{LIMIT}[bench.\"d/e/f\"]\nown = {{ latency.mean = \"1ns\" }}\n[profile.short]\nexclude = [\"d/*\"]\n");
    let project = Project::new(&limits);
    project.manifest(&manifest(&["a/b/c", "d/e/f"]));
    project.record(&record("d/e/f", Metric::LatencyMean, 90.0, 100.0, 110.0));
    assert_eq!(project.check(&[]).code(), 1);
    for arguments in [&["a/b"][..], &["--profile", "short"]] {
        let run = project.check(arguments);
        assert_eq!(run.code(), 0, "{}", run.text());
        assert_eq!(run.json()["summary"]["NOT SELECTED"], 1);
        assert!(!run.text().contains("d/e/f"), "{}", run.text());
    }
}

#[test]
fn a_run_of_other_sources_is_stale_and_exits_with_3() {
    let project = Project::new(LIMIT);
    let mut other = manifest(&["a/b/c"]);
    other.commit = Some("0123456789abcdef".to_owned());
    project.manifest(&other);
    let run = project.check(&[]);
    assert_eq!(run.code(), 3);
    assert!(run.text().contains("STALE: measured at 0123456789ab"), "{}", run.text());
    assert_reports(&run);
}

#[test]
fn a_change_of_the_sources_makes_a_run_stale_and_a_change_of_the_limits_does_not() {
    let project = Project::new(LIMIT);
    project.file("src.rs", "fn main() {}");
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(arguments)
            .current_dir(project.path("."))
            .output()
            .expect("git is there");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    git(&["init", "-q"]);
    git(&["add", "src.rs", "thresholds.toml"]);
    git(&["commit", "-qm", "first"]);
    let mut measured = manifest(&["a/b/c"]);
    measured.commit = Some(git(&["rev-parse", "HEAD"]));
    project.manifest(&measured);
    assert_eq!(project.check(&[]).code(), 0, "the reports lie in the work tree and do not count");
    project.file("thresholds.toml", "version = 1\n[bench.\"a/b/c\"]\nown = { latency.mean = \"1ns\" }\n");
    assert_eq!(project.check(&[]).code(), 1);
    project.file("src.rs", "fn main() { }");
    let run = project.check(&[]);
    assert_eq!(run.code(), 3);
    assert!(run.text().contains("STALE") && run.text().contains("with changes"), "{}", run.text());
}

#[test]
fn no_run_at_all_exits_with_3() {
    let project = Project::new(LIMIT);
    std::fs::remove_dir_all(project.latest()).expect("was there");
    let run = project.check(&[]);
    assert_eq!(run.code(), 3);
    assert_reports(&run);
}

#[test]
fn a_file_of_limits_that_is_not_there_exits_with_2() {
    let run = Project::new(LIMIT).check(&["--thresholds", "absent.toml"]);
    assert_eq!(run.code(), 2);
    assert_reports(&run);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    assert_eq!(Project::new(LIMIT).gate(&["--profil", "quick"]).code(), 2);
    assert_eq!(Project::new(LIMIT).check(&["--format", "pdf"]).code(), 2);
}

#[test]
fn records_that_cannot_count_say_why() {
    let limits = "[bench.\"a/b/c\"]\nown = { latency.mean = \"1us\" }\n";
    let sampled = || record("a/b/c", Metric::LatencyMean, 90.0, 100.0, 110.0);
    for (change, code, reason) in [
        ((|r| r.proof = None) as fn(&mut harness::record::Record), 3, "unproved"),
        (|r| r.proof.as_mut().expect("proved").observed = "8".to_owned(), 3, "expected 7, observed 8"),
        (|r| r.run = "run-0".to_owned(), 3, "STALE"),
        (|r| r.n.samples = 0, 2, "no samples"),
        (|r| r.metrics[0].value = -5.0, 2, "is below 0"),
        (|r| r.metrics[0].ci.as_mut().expect("sampled").level = 0.5, 2, "a confidence of 0.5"),
        (|r| r.metrics[0].unit = "us".to_owned(), 2, "instead of `ns`"),
        (|r| r.metrics[0].ci.as_mut().expect("sampled").lo = 200.0, 2, "ends before it begins"),
        (|r| r.metrics[0].inconclusive = Some("the machine is busy".to_owned()), 3, "the machine is busy"),
        (|r| r.metrics[0].metric = Metric::LatencyMax, 3, "there is latency.max"),
    ] {
        let project = Project::new(limits);
        let mut record = sampled();
        change(&mut record);
        project.record(&record);
        let run = project.check(&[]);
        assert_eq!(run.code(), code, "{reason}: {}", run.text());
        let found = run.json()["rows"][0]["reason"].as_str().expect("text").to_owned();
        assert!(found.contains(reason), "{found}");
    }
}

#[test]
fn a_wrong_figure_counts_also_where_no_limit_asks_for_it() {
    let project = Project::new(LIMIT);
    let mut both = record("a/b/c", Metric::LatencyMean, 90.0, 100.0, 110.0);
    both.metrics.push(harness::record::Figure {
        unit: "us".to_owned(),
        ..harness::record::Figure::exact(Metric::LatencyMax, 1.0)
    });
    project.record(&both);
    let run = project.check(&[]);
    assert_eq!(run.code(), 2, "{}", run.text());
    assert!(run.text().contains("latency.max in `us` instead of `ns`"), "{}", run.text());
}

#[test]
fn a_waiver_lets_no_missing_result_pass() {
    let project = Project::new(
        "[bench.\"a/b/d\"]\nown = { latency.mean = \"1us\" }\nwaive = { until = \"2999-01-01\", reason = \"r\" }\n",
    );
    assert_eq!(project.check(&[]).code(), 3);
}

#[test]
fn a_profile_that_does_not_exist_exits_with_2() {
    assert_eq!(Project::new(LIMIT).check(&["--profile", "quikc"]).code(), 2);
}

#[test]
fn a_run_that_was_limited_to_a_filter_is_judged_within_it() {
    let project = Project::new(&format!("{LIMIT}[bench.\"d/e/f\"]\nown = {{ latency.mean = \"1us\" }}\n"));
    let mut limited = manifest(&["a/b/c", "d/e/f"]);
    limited.filter = Some("a/b".to_owned());
    project.manifest(&limited);
    let run = project.check(&[]);
    assert_eq!(run.code(), 0, "{}", run.text());
    assert!(run.text().contains("the last run was limited to `a/b`"), "{}", run.text());
}

#[test]
fn half_a_record_is_an_error() {
    let project = Project::new(LIMIT);
    project.file("out/latest/a+b+c.op.json", "{\"schema\": 1, \"run\": ");
    let run = project.check(&[]);
    assert_eq!(run.code(), 2);
    assert!(run.text().contains("not a measurement record"), "{}", run.text());
}

#[test]
fn a_benchmark_that_failed_is_missing_with_its_reason() {
    let project = Project::new(LIMIT);
    let mut broken = manifest(&["a/b/c"]);
    broken.failures.push(("a/b/c".to_owned(), "failed (exit status: 101)".to_owned()));
    project.manifest(&broken);
    let run = project.check(&[]);
    assert_eq!(run.code(), 3);
    assert!(run.text().contains("the benchmark failed (exit status: 101)"), "{}", run.text());
}

#[test]
fn settings_that_let_things_pass_are_said_at_the_top() {
    let project = Project::new(&format!("[gate]\non_missing = \"warn\"\n{LIMIT}"));
    project.manifest(&manifest(&[]));
    std::fs::remove_file(project.latest().join("a+b+c.op.json")).expect("was there");
    let run = project.check(&[]);
    assert_eq!(run.code(), 0, "{}", run.text());
    assert!(run.text().starts_with("note: on_missing"), "{}", run.text());
}

#[test]
fn both_ways_to_call_the_command_are_the_same() {
    let project = Project::new(LIMIT);
    assert_eq!(project.gate(&["gate", "--no-run"]).code(), 0);
    assert_eq!(project.gate(&["check", "--no-run"]).code(), 0);
}
