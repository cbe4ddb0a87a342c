//! `init`, `schema`, `report`: the way from no limits to limits, the file's description, the last run in every form.

mod support;

use harness::metric::Metric;
use support::{Project, manifest, record};

#[test]
fn init_gives_limits_to_what_has_none_and_the_gate_then_passes() {
    let project = Project::new("# mine\n[bench.\"a/b/c\"] # this one\nown = { latency.mean = \"1us\" }\n");
    project.manifest(&manifest(&["a/b/c", "d/e/f"]));
    project.record(&record("d/e/f", Metric::LatencyMean, 90.0, 100.0, 110.0));
    let before = project.read("thresholds.toml");
    let run = project.gate(&["init"]);
    assert_eq!(run.code(), 0, "{}", run.errors());
    assert!(run.text().contains("{ latency.mean = \"220ns\" }"), "{}", run.text());
    let after = project.read("thresholds.toml");
    assert!(
        after.starts_with(&before) && after.contains("[bench.\"d/e/f\"]\nown = { latency.mean = \"220ns\" }"),
        "{after}"
    );
    let check = project.check(&[]);
    assert_eq!((check.code(), check.json()["summary"]["PASS"].as_u64()), (0, Some(2)), "{}", check.text());
    let again = project.gate(&["init"]);
    assert!(again.text().starts_with("0 benchmarks have limits now"), "{}", again.text());
    assert_eq!(project.read("thresholds.toml"), after);
}

#[test]
fn init_takes_the_headroom_and_refuses_what_is_none() {
    let project = Project::new("");
    assert_eq!(project.gate(&["init", "--headroom", "0.5x"]).code(), 2);
    assert_eq!(project.gate(&["init", "--headroom", "1.5x"]).code(), 0);
    assert!(
        project.read("thresholds.toml").contains("latency.mean = \"170ns\""),
        "{}",
        project.read("thresholds.toml")
    );
}

#[test]
fn init_makes_the_file_and_leaves_a_broken_one_alone() {
    let project = Project::new("");
    std::fs::remove_file(project.path("thresholds.toml")).expect("was there");
    std::fs::write(project.path("Cargo.lock"), "").expect("writes");
    let absent = project.check(&[]);
    assert_eq!(absent.code(), 2);
    assert!(absent.text().contains("`cargo gate init` makes one"), "{}", absent.text());
    assert_eq!(project.gate(&["init"]).code(), 0);
    assert_eq!(project.check(&[]).code(), 0);
    project.file("thresholds.toml", "version = 1\n[bnech]\n");
    let broken = project.gate(&["init"]);
    assert_eq!(broken.code(), 2);
    assert!(broken.errors().contains("unknown key `bnech`"), "{}", broken.errors());
    assert_eq!(project.read("thresholds.toml"), "version = 1\n[bnech]\n");
}

#[test]
fn init_changes_nothing_but_what_it_adds() {
    let project = Project::new("");
    project.manifest(&manifest(&["a/b/c", "d/e/vec[3]"]));
    project.record(&record("d/e/vec[3]", Metric::LatencyMean, 90.0, 100.0, 110.0));
    let before = "\u{feff}# mine\r\nversion = 1\r\n";
    project.file("real.toml", before);
    std::fs::remove_file(project.path("thresholds.toml")).expect("was there");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::os::unix::fs::symlink("real.toml", project.path("thresholds.toml")).expect("links");
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(project.path("real.toml"), mode).expect("sets");
    }
    let run = project.gate(&["init"]);
    assert_eq!(run.code(), 0, "{}", run.errors());
    assert!(run.errors().contains("d/e/vec[3] would be a glob"), "{}", run.errors());
    let after = project.read("real.toml");
    assert!(after.starts_with(before) && after.contains("a/b/c"), "{after:?}");
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count(), "{after:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(project.path("real.toml")).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(std::fs::symlink_metadata(project.path("thresholds.toml")).expect("is there").is_symlink());
    }
    assert_eq!(project.check(&[]).code(), 0, "what was written can be read");
}

#[test]
fn init_without_a_run_that_counts_says_so() {
    let project = Project::new("");
    let mut other = manifest(&["a/b/c"]);
    other.commit = Some("0123456789abcdef".to_owned());
    project.manifest(&other);
    let stale = project.gate(&["init"]);
    assert_eq!(stale.code(), 3);
    assert!(stale.errors().contains("STALE"), "{}", stale.errors());
    std::fs::remove_dir_all(project.latest()).expect("was there");
    let absent = project.gate(&["init"]);
    assert_eq!(absent.code(), 3);
    assert!(absent.errors().contains("no complete run"), "{}", absent.errors());
}

#[test]
fn the_schema_takes_what_the_gate_takes_and_refuses_what_it_refuses() {
    let printed = Project::new("").gate(&["schema"]);
    assert_eq!(printed.code(), 0);
    let schema: serde_json::Value = serde_json::from_str(&printed.text()).expect("JSON");
    assert_eq!(schema, gate::thresholds::Thresholds::schema());
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("thresholds.json", schema).expect("a resource");
    let schema = compiler.compile("thresholds.json", &mut schemas).expect("a schema");
    let takes = |text: &str| match toml::from_str::<serde_json::Value>(text) {
        Ok(value) => schemas.validate(&value, schema).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let own = std::fs::read_to_string(support::package().join("../../thresholds.toml")).expect("reads");
    takes(&own).unwrap_or_else(|error| panic!("our own limits: {error}"));
    let bench = |keys: &str| format!("version = 1\n[bench.\"a/b/c\"]\n{keys}\n");
    for (text, is_taken) in [
        ("version = 1\n".to_owned(), true),
        ("version = 2\n".to_owned(), false),
        (String::new(), false),
        (
            "version = 1\n[gate]\nwarn_band = \"10 %\"\nconfidence = \"95%\"\nunknown_bench = \"fail\"\n".to_owned(),
            true,
        ),
        ("version = 1\n[gate]\nconfidence = \"90%\"\n".to_owned(), false),
        ("version = 1\n[gate]\nunknown_bench = \"maybe\"\n".to_owned(), false),
        ("version = 1\n[gate]\nwarnband = \"10%\"\n".to_owned(), false),
        ("version = 1\n[gate]\nseeds = { due = [\"a/*\"] }\n".to_owned(), false),
        ("version = 1\n[profile.short]\ninclude = [\"a/*\"]\nbudget = \"5s\"\n".to_owned(), true),
        ("version = 1\n[profile.short]\nbudget = \"5\"\n".to_owned(), false),
        (bench("own = { latency.mean = \"< 100 us\", allocs.count = 1 }"), true),
        (bench("own = { latency.mean = \"1_000.5us\", error_rate = \".1%\" }"), true),
        (bench("own = { \"latency.mean\" = \"100us\" }"), true),
        (bench("own.latency.mean = \"100us\""), true),
        (bench("own = { latency.mean = 100 }"), false),
        (bench("own = { latency.mean = \"100\" }"), false),
        (bench("own = { latency.mean = \"100 B\" }"), false),
        (bench("own = { latency.mean = \"-1us\" }"), false),
        (bench("own = { latency.average = \"1us\" }"), false),
        (bench("own = { count = 3 }"), false),
        (bench("own = { count = \">= 3\" }"), true),
        (bench("own = { throughput = \"100_000/s\" }"), true),
        (bench("own = { scaling.speedup = { threads = 2, min = 1.7 } }"), true),
        (bench("own = { scaling.speedup = { threads = 1, min = 1.7 } }"), false),
        (bench("own = { scaling.speedup = { threads = 2 } }"), false),
        (bench("own = { memory.growth_per_hour = { warn = \"10MB\", fail = \"50MB/h\" } }"), true),
        (bench("own = { memory.growth_per_hour = { warn = \"10MB\" } }"), false),
        (bench("own = { memory.peak = { fail = \"10MB\" } }"), false),
        (bench("versus = [{ of = \"x\", metric = \"latency.mean\", at_most_times = 2 }]"), true),
        (bench("versus = [{ of = \"x\", metric = \"latency.mean\" }]"), false),
        (bench("versus = [{ of = \"x\", metric = \"count\", at_most_times = 2 }]"), false),
        (bench("versus = [{ of = \"x\", metric = \"latency.mean\", at_most_times = 2, at_least_times = 1 }]"), false),
        (bench("versus = [{ of = \"x\", metric = \"latency.mean\", at_most_times = 0 }]"), false),
        (bench("versus = []"), false),
        (bench("own = {}"), false),
        (bench("own = { latency.mean = \"1us\" }\nseed = { latency = {} }"), false),
        (bench("own = { allocs.count = -0.0 }"), true),
        (bench("rationale = \"none\""), false),
        (bench("own = { latency.mean = \"1us\" }\nwaive = { until = \"2999-01-01\", reason = \"r\" }"), true),
        (bench("own = { latency.mean = \"1us\" }\nwaive = { until = \"someday\", reason = \"r\" }"), false),
        (bench("own = { latency.mean = \"1us\" }\nwaive = { until = \"29990101\", reason = \"r\" }"), false),
        (
            bench(
                "versus = [{ of = \"x\", metric = \"latency.mean\", at_most_times = 2, waive = { until = \"2999-01-01\", reason = \"r\" } }]",
            ),
            true,
        ),
        (bench("own = { latency.mean = \"1us\" }\nwaive = { until = \"2999-01-01\" }"), false),
    ] {
        let parsed = gate::thresholds::Thresholds::parse(&text, "t.toml".as_ref(), "2026-01-31");
        assert_eq!(parsed.is_ok(), is_taken, "the gate on {text}{parsed:?}");
        let checked = takes(&text);
        assert_eq!(checked.is_ok(), is_taken, "the schema on {text}{checked:?}");
    }
}

#[test]
fn the_last_run_is_reported_in_every_form_and_judged_by_no_exit_code() {
    let project = Project::new("[bench.\"a/b/c\"]\nown = { latency.mean = \"1ns\" }\n");
    for (format, begins) in [
        ("term", "verdict"),
        ("json", "{"),
        ("csv", "name,"),
        ("html", "<!doctype html>"),
        ("md", "# Gate"),
        ("junit", "<?xml"),
    ] {
        let run = project.gate(&["report", "--format", format]);
        assert_eq!(run.code(), 0, "{format}: {}", run.errors());
        assert!(run.text().starts_with(begins), "{format}: {}", run.text());
        let file = project.path("kept.txt");
        let written = project.gate(&["report", "--format", format, "-o", file.to_str().expect("text")]);
        assert_eq!((written.code(), written.text()), (0, String::new()));
        assert_eq!(project.read("kept.txt"), run.text(), "{format}");
    }
    let mut other = manifest(&["a/b/c"]);
    other.commit = Some("0123456789abcdef".to_owned());
    project.manifest(&other);
    let stale = project.gate(&["report"]);
    assert_eq!(stale.code(), 0);
    assert!(stale.text().contains("note: STALE") && stale.text().contains("FAIL"), "{}", stale.text());
    std::fs::remove_dir_all(project.latest()).expect("was there");
    assert_eq!(project.gate(&["report"]).code(), 3);
    assert_eq!(project.gate(&["report", "--format", "pdf"]).code(), 2);
}
