//! `cargo gate peers` from end to end: a workspace of rivals whose figures are known.

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A contender that lists one work and records that one operation takes `NANOSECONDS` and that a `SHARE` of its answers is right.
const CONTENDER: &str = r#"
fn main() {
    let id = "peers/thing/push/1/PEER";
    if std::env::args().any(|word| word == "--list") {
        println!("{id}: benchmark");
        return;
    }
    let folder = std::env::var("GATE_RUN").unwrap();
    let run = std::env::var("GATE_RUN_ID").unwrap();
    assert!(std::env::args().any(|word| word == id));
    std::fs::create_dir_all(&folder).unwrap();
    let text = RECORD.replace("RUN", &run).replace("ID", id);
    std::fs::write(format!("{folder}/record.json"), text).unwrap();
}
const RECORD: &str = r`{"schema":1,"run":"RUN","bench":"ID","source":"round",
"metrics":[{"metric":"latency.mean","value":NANOSECONDS,"unit":"ns"},{"metric":"success_rate","value":SHARE,"unit":"1"}],
"n":{"builds":1,"processes":1,"samples":9},"proof":{"expected":"1","observed":"OBSERVED"},
"env":{"cpu":"c","cores":1,"kernel":"k","rustc":"r","profile":"release"},
"noise":{"steal":null,"involuntary_switches":null,"psi":null,"major_faults":null}}`;
"#;

struct Workspace(TempDir);

impl Workspace {
    /// Ours takes 100 ns, `slow` 300 ns, `broken` does not compile, `unproved` did not do its
    /// work, `stuck` never comes to an end of it, `silent` does not even say what it can do, and `elsewhere` does another work.
    fn with_limit(limit: &str) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let peers = folder.path().join("benches/peers");
        let contender = |peer: &str, nanoseconds: u32, observed: u32| {
            let source = CONTENDER.replace("r`", "r##\"").replace('`', "\"##").replace("PEER", peer);
            let source = source.replace("SHARE", if peer == "ours" { "1.0" } else { "0.385" });
            source.replace("NANOSECONDS", &nanoseconds.to_string()).replace("OBSERVED", &observed.to_string())
        };
        for (peer, source) in [
            ("ours", contender("ours", 100, 1)),
            ("slow", contender("slow", 300, 1)),
            ("unproved", contender("unproved", 300, 2)),
            ("broken", "fn main() { no_such_thing() }".to_owned()),
            ("stuck", contender("stuck", 300, 1).replace("let folder", "loop { std::thread::park() }\nlet folder")),
            ("silent", "fn main() { loop { std::thread::park() } }".to_owned()),
            ("elsewhere", contender("elsewhere", 300, 1).replace("push/1", "pull/1")),
        ] {
            let package = peers.join("thing").join(peer);
            write(&package.join("src/main.rs"), &source);
            write(&package.join("Cargo.toml"), &format!("[package]\nname = \"thing-{peer}\"\nedition = \"2024\"\n"));
        }
        write(&peers.join("Cargo.toml"), "[workspace]\nresolver = \"3\"\nmembers = [\"thing/*\"]\n");
        let locked = std::process::Command::new("cargo").arg("generate-lockfile").current_dir(&peers).status();
        assert!(locked.expect("cargo runs").success());
        write(&folder.path().join("thresholds.toml"), &format!("version = 1\n[bench.\"thing/push/1\"]\n{limit}"));
        Self(folder)
    }

    fn peers(&self, arguments: &[&str]) -> Output {
        let mut gate = Command::cargo_bin("cargo-gate").expect("built beside this test");
        gate.current_dir(self.0.path())
            .env_remove("CARGO_TARGET_DIR")
            .arg("peers")
            .args(["--time-limit", "1"])
            .args(arguments);
        gate.output().expect("it runs")
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
    fs::write(path, text).expect("writes");
}

fn versus(peer: &str, times: f64) -> String {
    let of = format!("peers/thing/push/1/{peer}");
    format!("versus = [{{ of = \"{of}\", metric = \"latency.mean\", at_least_times = {times} }}]\n")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_ratio_that_holds_passes_and_absent_rivals_are_missing_with_their_reason() {
    let workspace = Workspace::with_limit(&versus("slow", 2.0));
    let json = workspace.0.path().join("rows.json");
    let output = workspace.peers(&["thing", "--json", "rows.json"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("100.0 %  38.5 %  3.00 [3.00, 3.00]") && said.contains("PASS"), "{said}");
    assert!(
        said.contains("MISSING: does not build: cannot find function `no_such_thing`")
            && said.contains("MISSING: unproved"),
        "{said}"
    );
    assert_eq!(said.matches("MISSING: stopped after 1 s").count(), 1, "{said}");
    assert!(said.contains("silent") && said.contains("stopped after 1 s"), "{said}");

    let rows: Vec<Value> = serde_json::from_slice(&fs::read(json).expect("written")).expect("JSON");
    let of = |peer: &str| rows.iter().find(|row| row["peer"] == peer).expect("a row a rival");
    let slow = of("slow");
    let number = |value: &Value| value.as_f64().expect("a number");
    assert_eq!((slow["work"].as_str(), slow["unit"].as_str()), (Some("push/1"), Some("ns")));
    assert!((number(&slow["ratio"]) - 3.0).abs() < 1e-9 && (number(&slow["interval"][0]) - 3.0).abs() < 1e-9);
    assert_eq!((number(&slow["ours"]), number(&slow["theirs"])), (100.0, 300.0));
    assert_eq!((number(&slow["success"][0]), number(&slow["success"][1])), (1.0, 0.385));
    assert!(of("broken")["ratio"].is_null() && of("broken")["missing"].is_string());
    assert!(rows.iter().all(|row| row["peer"] != "elsewhere"), "nothing is missing where a rival does another work");

    let kept = gate::rivals::read(&workspace.0.path().join("target/gate"));
    assert_eq!(kept.problems, Vec::<String>::new());
    let slow = kept.rows.iter().find(|(bench, rival)| bench == "thing/push/1" && rival.peer == "slow").expect("kept");
    assert_eq!((slow.1.verdict.as_deref(), slow.1.limit.as_deref()), (Some("PASS"), Some("at least 2 times as good")));
}

#[test]
fn a_ratio_that_is_missed_fails() {
    let output = Workspace::with_limit(&versus("slow", 4.0)).peers(&["thing"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("FAIL"));
}

#[test]
fn an_absent_rival_fails_only_under_strict() {
    let workspace = Workspace::with_limit(&versus("broken", 2.0));
    let lenient = workspace.peers(&["thing"]);
    assert_eq!(lenient.status.code(), Some(0), "{}", text(&lenient));
    assert!(text(&lenient).contains("1 MISSING"), "{}", text(&lenient));
    assert_eq!(workspace.peers(&["thing", "--strict"]).status.code(), Some(3));
}

#[test]
fn a_limit_against_a_rival_that_is_not_there_is_an_error_and_not_a_pass() {
    let output = Workspace::with_limit(&versus("slwo", 0.1)).peers(&["thing"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("no rival `slwo` of thing does push/1"), "{}", text(&output));
}

#[test]
fn rivals_without_limits_are_shown_and_judged_by_nobody() {
    let output = Workspace::with_limit("own = { latency.mean = \"1us\" }\n").peers(&["thing"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("names a rival of thing"), "{}", text(&output));
}

#[test]
fn a_miss_that_is_known_is_waived_for_one_rival() {
    let waived = versus("slow", 4.0).replace(" }]", ", waive = { until = \"2999-01-01\", reason = \"known\" } }]");
    let output = Workspace::with_limit(&waived).peers(&["thing"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("1 WAIVED"), "{}", text(&output));
    for (down_to, code) in [("1.5", 0), ("3.5", 1)] {
        let down_to = waived.replace("reason", &format!("down_to = {down_to}, reason"));
        let output = Workspace::with_limit(&down_to).peers(&["thing"]);
        assert_eq!(output.status.code(), Some(code), "{down_to}{}", text(&output));
    }
}

#[test]
fn a_path_is_no_component_and_nothing_is_emptied() {
    let workspace = Workspace::with_limit(&versus("slow", 2.0));
    let sources = workspace.0.path().join("benches/peers/thing");
    for name in [sources.to_str().expect("UTF-8"), "thing/", "../thing", ".", ""] {
        let output = workspace.peers(&[name]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains("is no name of a component"), "{}", text(&output));
    }
    assert!(sources.join("slow/src/main.rs").exists());
}

#[test]
fn what_is_no_component_or_no_work_is_said() {
    let workspace = Workspace::with_limit(&versus("slow", 2.0));
    let unknown = workspace.peers(&["nothing"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown).contains("no rivals of `nothing`"), "{}", text(&unknown));
    let no_work = workspace.peers(&["thing", "--work", "pop"]);
    assert_eq!(no_work.status.code(), Some(3), "{}", text(&no_work));
}
