//! `save` and `compare`: what is kept, what is refused, what is too much, and that nothing is lost when the command is killed.

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use gate::baseline::{Baseline, Saved};
use harness::metric::Metric;
use harness::record::{Figure, Record, Source};
use support::{Project, manifest, record};

const FIGURE: &str = r#"{"bench":"a/b/c","metric":"latency.mean","value":1.5,"ci":{"lo":1.0,"hi":2.0,"level":0.95}}"#;

/// A baseline of these figures.
fn with_figures(figures: &str) -> String {
    let env = r#"{"cpu":"c","cores":1,"kernel":"k","rustc":"r","profile":"release"}"#;
    let head = r#"{"schema":1,"run":"r","started_unix_ms":0,"profile":"full","commit":null,"dirty":null"#;
    format!(r#"{head},"env":{env},"figures":[{figures}]}}"#)
}

const LIMIT: &str = "[bench.\"a/b/c\"]\nown = { latency.mean = \"1us\" }\n";

fn allocations(count: f64) -> Record {
    let counted = record("a/b/c", Metric::LatencyMean, 1.0, 1.0, 1.0);
    Record { source: Source::Alloc, metrics: vec![Figure::exact(Metric::AllocsCount, count)], ..counted }
}

/// A project whose baseline `base` has a mean of 100 ns, 99 to 101, and 3 allocations, and whose last run has `after` and `count`.
fn grown(after: f64, count: f64) -> Project {
    let project = Project::new(LIMIT);
    project.record(&record("a/b/c", Metric::LatencyMean, 99.0, 100.0, 101.0));
    project.record(&allocations(3.0));
    let saved = project.gate(&["save", "base"]);
    assert_eq!(saved.code(), 0, "{}", saved.errors());
    project.record(&record("a/b/c", Metric::LatencyMean, after * 0.99, after, after * 1.01));
    project.record(&allocations(count));
    project
}

#[test]
fn time_is_advice_without_rules_and_what_is_counted_binds() {
    let same = grown(100.0, 3.0).gate(&["compare", "base"]);
    assert_eq!(same.code(), 0, "{}", same.text());
    assert!(same.text().contains("2 figures: 1 judged, of which 1 hold; 1 for advice"), "{}", same.text());
    assert!(!same.text().contains("a/b/c"), "nothing to say of what is the same: {}", same.text());
    let slower = grown(120.0, 3.0).gate(&["compare", "base"]);
    assert_eq!(slower.code(), 0, "{}", slower.text());
    assert!(slower.text().contains("worse?       a/b/c"), "{}", slower.text());
    assert!(slower.text().contains("100 ns -> 120 ns, 20.0 % [17.6 %, 22.4 %] worse"), "{}", slower.text());
    let faster = grown(80.0, 3.0).gate(&["compare", "base"]);
    assert!(faster.text().contains("20.0 % [18.4 %, 21.6 %] better"), "{}", faster.text());
    let counted = grown(100.0, 4.0).gate(&["compare", "base"]);
    assert_eq!(counted.code(), 1, "{}", counted.text());
    assert!(counted.text().contains("FAIL         a/b/c"), "{}", counted.text());
    assert!(counted.text().contains("3 -> 4, 33.3 % worse, at most 0 %"), "{}", counted.text());
}

#[test]
fn rules_decide_by_the_interval_and_have_the_codes_of_the_gate() {
    for (after, rules, code, words) in [
        (120.0, "mean:10%", 1, "FAIL "),
        (120.0, "mean:30%", 0, "2 judged, of which 2 hold"),
        (120.0, "mean:10%,allocs.count:0%", 1, "FAIL "),
        (110.0, "mean:10%", 3, "INCONCLUSIVE "),
        (120.0, "mean:25.5%", 0, "2 hold"),
        (120.0, "mean:10ns", 1, "at most 10 ns"),
        (100.0, "p99:15%", 3, "MISSING      the baseline has no latency.p99"),
        (100.0, "max:10%", 3, "fires on noise"),
        (50.0, "mean:0%", 0, "2 hold"),
    ] {
        let run = grown(after, 3.0).gate(&["compare", "base", "--fail", rules]);
        assert_eq!(run.code(), code, "{after} {rules}: {}{}", run.text(), run.errors());
        assert!(run.text().contains(words), "{after} {rules}: {}", run.text());
    }
    let wrong = grown(100.0, 3.0).gate(&["compare", "base", "--fail", "mean:10"]);
    assert_eq!(wrong.code(), 2);
    assert!(wrong.errors().contains("has no unit"), "{}", wrong.errors());
}

#[test]
fn every_change_is_a_row_of_json() {
    let project = grown(120.0, 3.0);
    let json = project.path("changes.json");
    let run = project.gate(&["compare", "base", "--fail", "mean:10%", "--json", json.to_str().expect("text")]);
    assert_eq!(run.code(), 1);
    let rows: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).expect("written")).expect("JSON");
    let mean = rows.as_array().expect("rows").iter().find(|row| row["metric"] == "latency.mean").expect("a row");
    assert_eq!((&mean["before"], &mean["after"], &mean["verdict"]), (&100.0.into(), &120.0.into(), &"FAIL".into()));
}

#[test]
fn what_was_measured_then_and_not_now_is_missing_where_it_binds() {
    let project = grown(100.0, 3.0);
    std::fs::remove_file(project.latest().join("a+b+c.alloc.json")).expect("was there");
    let run = project.gate(&["compare", "base"]);
    assert_eq!(run.code(), 3, "{}", run.text());
    assert!(run.text().contains("MISSING      a/b/c") && run.text().contains("3 -> not measured"), "{}", run.text());
    let mut other = manifest(&["a/b/c", "d/e/f"]);
    other.filter = Some("d/e".to_owned());
    project.manifest(&other);
    let run = project.gate(&["compare", "base"]);
    assert_eq!(run.code(), 3, "nothing of the baseline is within the filter: {}", run.text());
}

#[test]
fn another_machine_or_compiler_is_said_and_only_another_kind_of_build_counts_otherwise() {
    let project = grown(100.0, 4.0);
    let mut other = manifest(&["a/b/c"]);
    other.env.rustc = "rustc 9.9.9".to_owned();
    project.manifest(&other);
    let run = project.gate(&["compare", "base"]);
    assert_eq!(run.code(), 1, "{}", run.text());
    other.env.profile = "unheard of".to_owned();
    project.manifest(&other);
    let run = project.gate(&["compare", "base"]);
    assert_eq!(run.code(), 0, "{}", run.text());
    assert!(run.text().contains("note: compiler: ") && run.text().contains("rustc 9.9.9 now"), "{}", run.text());
}

#[test]
fn a_run_that_misses_a_limit_or_is_stale_or_absent_is_not_saved() {
    let project = Project::new("[bench.\"a/b/c\"]\nown = { latency.mean = \"1ns\" }\n");
    let refused = project.gate(&["save", "base"]);
    assert_eq!(refused.code(), 2);
    assert!(refused.errors().contains("limits missed: 1); --force"), "{}", refused.errors());
    assert_eq!(project.gate(&["compare", "base"]).code(), 2, "nothing was saved");
    assert_eq!(project.gate(&["save", "base", "--force"]).code(), 0);
    assert_eq!(project.gate(&["compare", "base"]).code(), 0);
    let mut other = manifest(&["a/b/c"]);
    other.dirty = Some("0123".to_owned());
    project.manifest(&other);
    for command in [&["save", "base", "--force"][..], &["compare", "base"]] {
        let run = project.gate(command);
        assert_eq!(run.code(), 3);
        assert!(run.errors().contains("STALE"), "{}", run.errors());
    }
    std::fs::remove_dir_all(project.latest()).expect("was there");
    for command in [&["save", "base"][..], &["compare", "base"]] {
        let run = project.gate(command);
        assert_eq!(run.code(), 3);
        assert!(run.errors().contains("no complete run"), "{}", run.errors());
    }
}

#[test]
fn changes_that_are_not_committed_are_saved_by_force_alone() {
    let project = Project::new(LIMIT);
    project.file(".gitignore", "out\n");
    for arguments in [&["init", "-q"][..], &["add", "."], &["commit", "-qm", "first"]] {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let git = Command::new("git").args(identity).args(arguments).current_dir(project.path(".")).status();
        assert!(git.expect("git is there").success());
    }
    project.file("src.rs", "fn main() {}");
    let revision =
        gate::revision::Revision::of(&project.path("."), &[&project.path("thresholds.toml"), &project.path("out")]);
    assert!(revision.dirty.is_some());
    let mut measured = manifest(&["a/b/c"]);
    (measured.commit, measured.dirty) = (revision.commit, revision.dirty);
    project.manifest(&measured);
    let refused = project.gate(&["save", "base"]);
    assert_eq!(refused.code(), 2, "{}", refused.errors());
    assert!(refused.errors().contains("changes not committed: 1); --force"), "{}", refused.errors());
    assert_eq!(project.gate(&["save", "base", "--force"]).code(), 0);
}

/// The last run has no figure of a/b/c any more.
fn forget_figures(project: &Project) {
    for entry in std::fs::read_dir(project.latest()).expect("a run").map(|entry| entry.expect("an entry").path()) {
        if entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with("a+b+c.")) {
            std::fs::remove_file(entry).expect("was there");
        }
    }
}

#[test]
fn a_benchmark_that_is_gone_or_failed_is_missing_and_its_figures_are_not_kept() {
    let project = grown(100.0, 3.0);
    let mut now = manifest(&["a/b/c"]);
    now.failures.push(("a/b/c".to_owned(), "failed (exit status: 101)".to_owned()));
    project.manifest(&now);
    let run = project.gate(&["compare", "base", "--fail", "mean:10%"]);
    assert_eq!(run.code(), 3, "{}", run.text());
    let saved = project.gate(&["save", "other"]);
    assert_eq!(saved.code(), 3, "{}", saved.errors());
    project.file("thresholds.toml", "version = 1\n");
    let init = project.gate(&["init"]);
    assert!(init.text().starts_with("0 benchmarks"), "{}", init.text());
    forget_figures(&project);
    project.manifest(&manifest(&["d/e/f"]));
    let run = project.gate(&["compare", "base"]);
    assert_eq!(run.code(), 3, "{}", run.text());
    assert!(run.text().contains("MISSING      a/b/c"), "{}", run.text());
}

#[test]
fn a_run_of_less_replaces_a_baseline_of_more_by_force_alone() {
    let project = grown(100.0, 3.0);
    project.manifest(&manifest(&["a/b/c", "d/e/f"]));
    project.record(&record("d/e/f", Metric::LatencyMean, 9.0, 10.0, 11.0));
    assert_eq!(project.gate(&["save", "base"]).code(), 0);
    let mut filtered = manifest(&["a/b/c", "d/e/f"]);
    filtered.filter = Some("d/e".to_owned());
    project.manifest(&filtered);
    forget_figures(&project);
    project.record(&record("d/e/f", Metric::LatencyMean, 9.0, 10.0, 11.0));
    let other = project.gate(&["save", "less"]);
    assert_eq!(other.code(), 0, "a name of its own takes nothing away: {}", other.errors());
    let refused = project.gate(&["save", "base"]);
    assert_eq!(refused.code(), 2, "{}", refused.text());
    assert!(refused.errors().contains("benchmarks of the old baseline not measured: 1"), "{}", refused.errors());
    assert_eq!(project.gate(&["save", "base", "--force"]).code(), 0);
    let compared = project.gate(&["compare", "base"]);
    assert!(compared.text().contains("the baseline was limited to `d/e`"), "{}", compared.text());
}

#[test]
fn a_file_that_is_no_baseline_is_not_replaced() {
    let project = grown(100.0, 3.0);
    let limits = project.read("thresholds.toml");
    for name in ["thresholds.toml", "./thresholds.toml", "feature/x"] {
        let refused = project.gate(&["save", name, "--force"]);
        assert!(
            refused.code() == 0 && name == "thresholds.toml" || refused.code() == 2,
            "{name}: {}",
            refused.errors()
        );
    }
    assert_eq!(project.read("thresholds.toml"), limits);
    project.file("package.json", "{\"name\": \"mine\"}");
    let refused = project.gate(&["save", "./package.json", "--force"]);
    assert_eq!(refused.code(), 2);
    assert!(refused.errors().contains("not a baseline"), "{}", refused.errors());
    assert_eq!(project.read("package.json"), "{\"name\": \"mine\"}");
}

#[test]
fn a_baseline_among_the_sources_makes_nothing_stale() {
    let project = grown(100.0, 3.0);
    project.file(".gitignore", "out\n");
    for arguments in [&["init", "-q"][..], &["add", "."], &["commit", "-qm", "first"]] {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let git = Command::new("git").args(identity).args(arguments).current_dir(project.path(".")).status();
        assert!(git.expect("git is there").success());
    }
    let revision = || {
        let besides = [project.path("thresholds.toml"), project.path("out")];
        gate::revision::Revision::of(&project.path("."), &besides.each_ref().map(|path| path.as_path()))
    };
    let measure = || {
        let mut measured = manifest(&["a/b/c"]);
        let state = revision();
        (measured.commit, measured.dirty) = (state.commit, state.dirty);
        project.manifest(&measured);
    };
    measure();
    let saved = project.gate(&["save", "perf/main.json"]);
    assert_eq!(saved.code(), 0, "{}", saved.errors());
    let compared = project.gate(&["compare", "perf/main.json"]);
    assert_eq!(compared.code(), 0, "{}{}", compared.text(), compared.errors());
    measure();
    let compared = project.gate(&["compare", "perf/main.json"]);
    assert_eq!(compared.code(), 0, "measured with it there: {}{}", compared.text(), compared.errors());
}

#[test]
fn a_name_is_that_of_a_file_or_a_path_and_a_file_that_is_no_baseline_is_named() {
    let project = grown(100.0, 3.0);
    for name in ["", "a b", ".hidden", "ü", "..", "-"] {
        let run = project.gate(&["save", "--", name]);
        assert_eq!(run.code(), 2, "{name}");
    }
    let elsewhere = project.path("kept/here.json");
    assert_eq!(project.gate(&["save", elsewhere.to_str().expect("text")]).code(), 0);
    assert_eq!(project.gate(&["compare", elsewhere.to_str().expect("text")]).code(), 0);
    for (text, reason) in [
        ("", "not a baseline"),
        ("{\"schema\": 1}", "not a baseline"),
        ("{\"schema\": 99}", "schema 99, this gate reads 1"),
        ("[1, 2", "not a baseline"),
        (&with_figures(""), "no figures"),
        (&with_figures(&format!("{FIGURE},{FIGURE}")), "stands there twice"),
        (&with_figures(&FIGURE.replace("1.5", "2.5")), "is no figure"),
        (&with_figures(&FIGURE.replace("0.95", "0.5")), "is no figure"),
    ] {
        project.file("kept/broken.json", text);
        let run = project.gate(&["compare", "kept/broken.json"]);
        assert_eq!(run.code(), 2);
        assert!(run.errors().contains("kept/broken.json") && run.errors().contains(reason), "{}", run.errors());
    }
}

/// The child of the test below: writes one baseline over another until it is killed.
#[test]
#[ignore = "runs until it is killed"]
fn writes_baselines_for_ever() {
    let path = std::path::PathBuf::from(std::env::var_os("BASELINE").expect("where to"));
    let mut baseline = Baseline::read(&path).expect("the first one");
    for round in 0_u64.. {
        baseline.run = format!("round-{round}");
        baseline.write(&path).expect("writes");
    }
}

/// `KILLS=2000` is the full count; every kill comes at another moment of the writing.
#[test]
fn killed_at_any_moment_the_baseline_is_the_old_or_the_new_one_whole() {
    let kills: u64 = std::env::var("KILLS").map_or(40, |text| text.parse().expect("KILLS is a number"));
    let project = grown(100.0, 3.0);
    let path = project.path("out/baselines/base.json");
    let mut baseline = Baseline::read(&path).expect("saved");
    let figure = baseline.figures[0].clone();
    let named = |index: u32| Saved { bench: format!("many/benches/{index}"), ..figure.clone() };
    baseline.figures = (0..300).map(named).collect();
    baseline.write(&path).expect("writes");
    let (mut replaced, mut last) = (0, baseline.run.clone());
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--ignored", "--exact", "writes_baselines_for_ever"])
            .env("BASELINE", &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        // From before the first write to some writes later, in steps that do not follow their beat.
        std::thread::sleep(Duration::from_micros(5_000 + kill * 7_919 % 20_000));
        child.kill().expect("SIGKILL");
        assert!(!child.wait().expect("ends").success(), "it ended by itself");
        let whole = Baseline::read(&path).expect("whole");
        assert_eq!(whole.figures, baseline.figures);
        replaced += u64::from(whole.run != last);
        last = whole.run;
    }
    eprintln!("{kills} kills: {replaced} left another baseline than the one before, the others the same");
    assert!(replaced > 0, "no kill came after a write");
}
