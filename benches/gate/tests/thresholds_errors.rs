//! Everything that can be wrong with a file of limits, each with its line and its words.

use std::path::Path;

use gate::seeds;
use gate::thresholds::Thresholds;

fn parse(text: &str) -> Result<Thresholds, Vec<String>> {
    Thresholds::parse(text, Path::new("t.toml"), "2026-06-15")
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// The errors of a file whose only table has this content.
fn of_bench(content: &str) -> Vec<String> {
    parse(&format!("version = 1\n[bench.\"a/b/c\"]\n{content}\n")).err().unwrap_or_default()
}

#[test]
fn each_mistake_in_a_table_is_an_error_with_its_place() {
    for (content, place, words) in [
        ("own = { latency.mean = 100 }", "3:24", "has no unit"),
        ("own = { latency.mean = \"100\" }", "3:24", "has no unit"),
        ("own = { latency.mean = \"100 B\" }", "3:24", "not a unit of time"),
        ("own = { memory.peak = \"1ms\" }", "3:23", "not a unit of bytes"),
        ("own = { error_rate = 0.1 }", "3:22", "has no unit"),
        ("own = { count = 3 }", "3:17", "needs an operator"),
        ("own = { latency.mean = true }", "3:24", "a text or a number"),
        ("own = { latency.men = \"1us\" }", "3:17", "did you mean `latency.mean`?"),
        ("own = { speed = \"1us\" }", "3:9", "is not a metric"),
        ("onw = { latency.mean = \"1us\" }", "3:1", "unknown key `onw` in a benchmark; did you mean `own`?"),
        ("change = { latency.mean = \"5%\" }", "3:1", "unknown key `change`"),
        ("own = 3", "3:7", "`own` is a table"),
        ("rationale = \"nothing else\"", "2:8", "states no limit"),
        ("own = { scaling.speedup = { threads = 1, min = 1.5 } }", "3:39", "whole number from 2"),
        ("own = { scaling.speedup = { threads = 2 } }", "3:27", "states its `min`"),
        ("own = { memory.growth_per_hour = { warn = \"10MB\" } }", "3:34", "states its `fail`"),
        ("own = { latency.mean = { min = \"1us\" } }", "3:24", "one limit, not a table"),
        ("versus = { of = \"x\" }", "3:10", "`versus` is a list of tables"),
        ("versus = [\"x must be faster\", 3]", "3:11", "`versus` is a list of tables"),
        ("own = {}", "3:7", "`own` states no limit"),
        ("seed = { latency = {} }", "3:20", "`latency` states no limit"),
        ("versus = []", "3:10", "`versus` states no limit"),
        ("own = { memory.growth_per_hour = { fail = \"1MB\", ops_per_second = 0 } }", "3:", "a number above 0"),
        ("own = { latency.mean = \"1us\" }\nwaive = { until = \"20260101\", reason = \"r\" }", "4:19", "is no day"),
        ("versus = [{ of = \"x\", metric = \"latency.mean\" }]", "3:11", "states one of"),
        (
            "versus = [{ of = \"x\", metric = \"latency.mean\", at_most_times = 2, at_least_times = 1 }]",
            "3:11",
            "states one of",
        ),
        ("versus = [{ of = \"x\", metric = \"latency.mean\", at_most_times = 0 }]", "3:", "a number above 0"),
        ("versus = [{ metric = \"latency.mean\", at_most_times = 2 }]", "3:11", "names `of` and `metric`"),
        ("versus = [{ of = \"x\", metric = \"count\", at_most_times = 2 }]", "3:", "not a metric with a direction"),
        (
            "own = { latency.mean = \"1us\" }\nwaive = { until = \"2026-06-14\", reason = \"r\" }",
            "4:19",
            "the waiver expired on 2026-06-14",
        ),
        ("own = { latency.mean = \"1us\" }\nwaive = { until = \"soon\", reason = \"r\" }", "4:19", "is no day"),
        ("own = { latency.mean = \"1us\" }\nwaive = { until = \"2027-01-01\" }", "4:", "states `until` and `reason`"),
        (
            "own = { latency.mean = \"1us\" }\nwaive = { until = \"2027-01-01\", reason = \"r\", down_to = 1.5 }",
            "4:",
            "`down_to` is a number above 0, at most 1",
        ),
        (
            "versus = [{ of = \"x\", metric = \"latency.mean\", at_least_times = 2 }]\nwaive = { until = \"2027-01-01\", reason = \"r\" }",
            "4:",
            "a comparison has its own",
        ),
        (
            "versus = [{ of = \"x\", metric = \"latency.mean\", at_least_times = 2, waive = { until = \"2027-01-01\", reason = \"r\", down_to = 2 } }]",
            "3:",
            "a ratio below the limit's 2",
        ),
        (
            "versus = [{ of = \"peers/a/b/c/x\", metric = \"latency.mean\", at_least_times = 2 }, { of = \"peers/a/b/c/x\", metric = \"latency.mean\", at_least_times = 3 }]",
            "3:",
            "has a limit already",
        ),
        ("own = { latency.mean = \"1us\" }\nown = { latency.p99 = \"1us\" }", "4:1", "duplicate key"),
    ] {
        let errors = of_bench(content);
        assert!(
            errors.iter().any(|error| error.starts_with(&format!("t.toml:{place}")) && error.contains(words)),
            "{content}\nexpected t.toml:{place} … {words}\nfound {errors:#?}"
        );
    }
}

#[test]
fn a_waiver_holds_through_its_last_day() {
    assert!(
        of_bench("own = { latency.mean = \"1us\" }\nwaive = { until = \"2026-06-15\", reason = \"r\" }").is_empty()
    );
    assert!(of_bench("own = { latency.mean = \"1us\" }\nwaive = { until = 2026-06-15, reason = \"r\" }").is_empty());
}

#[test]
fn each_mistake_outside_the_tables_is_an_error_with_its_place() {
    for (text, place, words) in [
        ("", "1:1", "begins with `version = 1`"),
        ("version = 2", "1:11", "reads `version = 1`"),
        ("version = 1\n[gates]", "2:2", "unknown key `gates` in the file; did you mean `gate`?"),
        ("version = 1\n[gate]\nwarn_bend = \"5%\"", "3:1", "did you mean `warn_band`?"),
        ("version = 1\n[gate]\nwarn_band = 5", "3:13", "is a text"),
        ("version = 1\n[gate]\non_missing = \"pass\"", "3:14", "one of exit-3, warn"),
        ("version = 1\n[gate]\nconfidence = \"99%\"", "3:14", "a confidence of \"95%\""),
        ("version = 1\n[gate]\nseeds = { due = [] }", "3:9", "names its `file`"),
        ("version = 1\n[profile.quick]\nbudget = \"30\"", "3:10", "has no unit"),
        ("version = 1\n[profile.quick]\nexclude = \"x\"", "3:11", "a list of texts"),
        ("version = 1\n[host.\"x\"]", "2:2", "unknown key `host`"),
        ("version = 1\n[bench.\"a/[\"]\nown = { latency.mean = \"1us\" }", "2:", "error parsing glob"),
        ("version = 1\n[bench", "2:", ""),
    ] {
        let errors = parse(text).expect_err(text);
        assert!(
            errors.iter().any(|error| error.starts_with(&format!("t.toml:{place}")) && error.contains(words)),
            "{text}\nexpected t.toml:{place} … {words}\nfound {errors:#?}"
        );
    }
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_file() {
    let errors = of_bench("own = { latency.mean = 1, latency.p99 = 2 }\nseed = { speed = 1 }");
    assert_eq!(errors.len(), 3, "{errors:#?}");
    assert!(errors[0].contains("3:24") && errors[2].contains("4:10"), "{errors:#?}");
}

#[test]
fn a_glob_that_matches_nothing_and_a_tie_are_errors_and_the_most_specific_wins() {
    let limit = "own = { latency.mean = \"1us\" }";
    let text = format!(
        "version = 1\n[bench.\"a/*\"]\n{limit}\n[bench.\"a/b/*\"]\n{limit}\n[bench.\"*/b/x\"]\n{limit}\n[bench.\"z/*\"]\n{limit}\n[bench.\"a/b/exact\"]\n{limit}\n"
    );
    let thresholds = parse(&text).expect("each table is well");
    let chosen = |id| thresholds.limits_for(id).map(|limits| limits.pattern.as_str().to_owned());
    assert_eq!(chosen("a/c/d").as_deref(), Some("a/*"));
    assert_eq!(chosen("a/b/d").as_deref(), Some("a/b/*"));
    assert_eq!(chosen("a/b/exact").as_deref(), Some("a/b/exact"));
    assert_eq!(chosen("q/r/s"), None);
    let errors = thresholds.check_against(["a/b/x", "a/b/exact"].into_iter());
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    assert!(errors[0].starts_with("t.toml:6:") && errors[0].contains("equally specific"), "{errors:#?}");
    assert!(errors[1].starts_with("t.toml:8:") && errors[1].contains("`z/*` matches no benchmark"), "{errors:#?}");
}

#[test]
fn seed_names_and_limits_are_held_against_the_rows() {
    let rows = seeds::parse(include_str!("../seed-benchmarks.csv")).expect("our own file");
    assert_eq!(rows.len(), 122);
    let check = |bench: &str, content: &str| {
        let thresholds = parse(&format!("version = 1\n[bench.\"{bench}\"]\n{content}\n")).expect("well formed");
        seeds::check(&rows, &thresholds).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let named = "seeds = [\"004 test_save_single_event\"]";
    for (bench, content, words) in [
        ("event-store/save/1", format!("{named}\nseed = {{ latency.mean = \"< 0.1 ms\" }}"), None),
        (
            "event-store/save/1",
            format!("{named}\nseed = {{ latency.mean = \"< 0.2 ms\" }}"),
            Some("looser than the seed's < 100 us"),
        ),
        ("event-store/save/1", format!("{named}\nseed = {{ latency.mean = \"<= 0.1 ms\" }}"), Some("looser")),
        (
            "event-store/load/1",
            format!("{named}\nown = {{ latency.mean = \"1us\" }}"),
            Some("belongs to event-store/save/1"),
        ),
        (
            "event-store/save/1",
            "seeds = [\"004 test_save_single_evnt\"]\nown = { latency.mean = \"1us\" }".to_owned(),
            Some("did you mean `004 test_save_single_event`?"),
        ),
    ] {
        let errors = check(bench, &content);
        match words {
            None => assert!(errors.is_empty(), "{errors:#?}"),
            Some(words) => assert!(errors.iter().any(|error| error.contains(words)), "{words} in {errors:#?}"),
        }
    }
}

#[test]
fn a_file_of_rows_with_another_shape_is_refused_by_its_line() {
    assert_eq!(seeds::parse("a,b\n1,2\n").unwrap_err().line, 1);
    let header = "seed,system,original_test,crate,benchmark,metric,limit,remark\n";
    let error = seeds::parse(&format!("{header}1,s,t,c,b,latency.men,x,\n")).unwrap_err();
    assert_eq!(error.line, 2);
    assert!(error.message.contains("latency.men"), "{}", error.message);
    assert!(seeds::parse(&format!("{header}1,s,t\n")).is_err());
}
