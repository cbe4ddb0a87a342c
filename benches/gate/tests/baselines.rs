//! `save` and `compare`: what is kept, what is refused, what is too much, and that nothing is lost when the command is killed.

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use harness::metric::Metric;
use harness::record::{Figure, Record, Source};
use support::{Project, manifest, record};

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
    assert!(slower.text().contains("100 ns -> 120 ns, 20.0 % [17.8 %, 22.2 %] worse"), "{}", slower.text());
    let faster = grown(80.0, 3.0).gate(&["compare", "base"]);
    assert!(faster.text().contains("20.0 % [18.2 %, 21.8 %] better"), "{}", faster.text());
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
fn another_machine_or_compiler_is_said_and_its_counts_do_not_bind() {
    let project = grown(100.0, 4.0);
    let mut other = manifest(&["a/b/c"]);
    other.env.rustc = "rustc 9.9.9".to_owned();
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
    assert!(refused.errors().contains("the run misses a limit (1); --force"), "{}", refused.errors());
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
    assert!(refused.errors().contains("not committed; --force"), "{}", refused.errors());
    assert_eq!(project.gate(&["save", "base", "--force"]).code(), 0);
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
    ] {
        project.file("kept/broken.json", text);
        let run = project.gate(&["compare", "kept/broken.json"]);
        assert_eq!(run.code(), 2);
        assert!(run.errors().contains("kept/broken.json") && run.errors().contains(reason), "{}", run.errors());
    }
}

/// `KILLS=2000` is the full count; every kill comes at another moment of the command's life.
#[test]
fn killed_at_any_moment_the_baseline_is_the_old_or_the_new_one_whole() {
    let kills: u64 = std::env::var("KILLS").map_or(40, |text| text.parse().expect("KILLS is a number"));
    let project = Project::new(LIMIT);
    let ids: Vec<String> = (0..300).map(|index| format!("many/benches/{index}")).collect();
    let benches: Vec<&str> = ids.iter().map(String::as_str).collect();
    project.manifest(&manifest(&benches));
    for id in &benches {
        project.record(&record(id, Metric::LatencyMean, 99.0, 100.0, 101.0));
    }
    let baseline = project.path("out/baselines/base.json");
    assert_eq!(project.gate(&["save", "base", "--force"]).code(), 0);
    let command = || {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("cargo-gate"));
        command.current_dir(project.path(".")).args(["save", "base", "--force", "--out", "out"]);
        command.env_remove("CARGO_TARGET_DIR").stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let began = std::time::Instant::now();
    assert!(command().status().expect("starts").success());
    let life = began.elapsed();
    let (mut killed, mut replaced) = (0, 0);
    for kill in 0..kills {
        let before = std::fs::read(&baseline).expect("a baseline");
        let run = format!("run-{kill}");
        let mut now = manifest(&benches);
        now.run.clone_from(&run);
        project.manifest(&now);
        for id in &benches {
            let of_run = record(id, Metric::LatencyMean, 99.0, 100.0, 101.0);
            // Only a few change their run: what is saved differs, and the set-up stays short.
            if id.ends_with('7') {
                project.record(&Record { run: run.clone(), ..of_run });
            }
        }
        let mut child = command().spawn().expect("starts");
        std::thread::sleep(Duration::from_nanos((life.as_nanos() as u64 * (kill + 1)) / kills));
        child.kill().expect("SIGKILL");
        killed += u64::from(!child.wait().expect("ends").success());
        let after = std::fs::read(&baseline).expect("there is always one");
        let whole = gate::baseline::Baseline::parse(&after).expect("whole");
        assert!(after == before || whole.run == run, "neither the old nor the new one");
        replaced += u64::from(after != before);
    }
    eprintln!("{kills} kills: {killed} hit the command, {replaced} left the new baseline, the others the old one");
    assert!(killed > 0, "no kill hit the command");
}
