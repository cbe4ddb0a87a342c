//! The commands that look: list, explain, seeds, doctor.

mod support;

use support::{Project, package};

const LIMITS: &str = r#"[bench."a/*"]
own = { latency.mean = "1us" }
[bench."a/b/c"]
own = { latency.mean = "105ns" }
rationale = "because"
waive = { until = "2999-01-01", reason = "later" }
"#;

#[test]
fn list_counts_the_limits_of_every_benchmark() {
    let run = Project::new(LIMITS).gate(&["list"]);
    assert_eq!(run.code(), 0);
    assert!(run.text().contains("a/b/c ") && run.text().contains("1 limit\n"), "{}", run.text());
}

#[test]
fn explain_tells_where_a_limit_comes_from_and_what_was_measured() {
    let run = Project::new(LIMITS).gate(&["explain", "a/b/c"]);
    assert_eq!(run.code(), 0);
    for part in [
        "thresholds.toml:4",
        "more specific than \"a/*\", thresholds.toml:2",
        "because",
        "waived until 2999-01-01",
        "100 ns",
    ] {
        assert!(run.text().contains(part), "{part} in {}", run.text());
    }
    let unknown = Project::new(LIMITS).gate(&["explain", "x/y/z"]);
    assert_eq!(unknown.code(), 3);
    assert!(unknown.text().contains("has no limits"), "{}", unknown.text());
}

#[test]
fn a_waived_miss_is_waived_and_exits_with_0() {
    let run = Project::new(LIMITS).check(&[]);
    assert_eq!(run.code(), 0, "{}", run.text());
    assert_eq!(run.json()["summary"]["WAIVED"], 1);
    assert!(run.text().contains("later"), "{}", run.text());
}

#[test]
fn a_limit_in_figures_is_waived_down_to_a_share_of_it() {
    for (down_to, code) in [("0.5", 0), ("0.8", 1)] {
        let limits = format!(
            "[bench.\"a/b/c\"]\nown = {{ latency.mean = \"60ns\" }}\nwaive = {{ until = \"2999-01-01\", down_to = {down_to}, reason = \"later\" }}\n"
        );
        let run = Project::new(&limits).check(&[]);
        assert_eq!(run.code(), code, "{}", run.text());
        assert_eq!(run.text().contains("waived down to 0.8 of the limit only"), code == 1, "{}", run.text());
    }
}

#[test]
fn doctor_examines_the_machine() {
    let run = Project::new(LIMITS).gate(&["doctor"]);
    assert_eq!(run.code(), 0);
    for subject in ["machine", "clock", "threads", "callgrind"] {
        assert!(run.text().contains(subject), "{subject} in {}", run.text());
    }
    let impossible = Project::new("[bench.\"a/b/c\"]\nown = { scaling.speedup = { threads = 4096, min = 4096 } }\n");
    assert!(
        impossible.gate(&["doctor"]).text().contains("asks for a speed-up"),
        "a limit that no machine meets is said"
    );
}

#[test]
fn seeds_ends_with_its_count_and_exits_with_3_while_a_due_row_is_open() {
    let csv = std::fs::read_to_string(package().join("seed-benchmarks.csv")).expect("reads");
    let limits = |due: &str, seeds: &str| {
        format!(
            "[gate]\nseeds = {{ file = \"seeds.csv\", due = [{due}] }}\n[bench.\"event-store/save/1\"]\n{seeds}\nseed = {{ latency.mean = \"< 0.1 ms\" }}\nown = {{ latency.mean = \"1us\" }}\n"
        )
    };
    let answered = "seeds = [\"004 test_save_single_event\"]";
    for (due, seeds, code, covered) in [
        ("", "", 0, 0),
        ("", answered, 0, 1),
        ("\"event-store/save/1\"", answered, 0, 1),
        ("\"event-store/save/1\"", "", 3, 0),
        ("\"event-store/*\"", answered, 3, 1),
    ] {
        let project = Project::new(&limits(due, seeds));
        project.file("seeds.csv", &csv);
        let run = project.gate(&["seeds"]);
        assert_eq!(run.code(), code, "{due} {seeds}: {}", run.text());
        assert_eq!(run.text().lines().last(), Some(format!("covered {covered} of 122").as_str()));
    }
}

#[test]
fn a_project_without_seed_rows_has_no_such_check() {
    let run = Project::new(LIMITS).gate(&["seeds"]);
    assert_eq!(run.code(), 0);
    assert!(run.text().contains("names no seed benchmarks"), "{}", run.text());
}

#[test]
fn a_due_row_that_nobody_answers_is_missing_in_every_full_check() {
    let project = Project::new(&format!("[gate]\nseeds = {{ file = \"seeds.csv\", due = [\"a/*\"] }}\n{LIMITS}"));
    project.file(
        "seeds.csv",
        "seed,system,original_test,crate,benchmark,metric,limit,remark\n009,Old,test_it,a,a/b/c,latency.mean,none stated,\n",
    );
    let run = project.check(&[]);
    assert_eq!(run.code(), 3, "{}", run.text());
    assert!(run.text().contains("`009 test_it` (none stated) is due"), "{}", run.text());
}
