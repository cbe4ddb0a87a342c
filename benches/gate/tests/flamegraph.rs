//! `profile` from end to end: a workspace whose bench binary draws what it was asked to.

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use tempfile::TempDir;

/// Lists three benchmarks; one draws, one is counted and draws nothing, one fails.
const BENCH: &str = r#"
fn main() {
    let words: Vec<String> = std::env::args().collect();
    if words.iter().any(|word| word == "--list") {
        println!("thing/push/1: benchmark\nthing/allocs/push: benchmark\nthing/broken/push: benchmark");
        return;
    }
    let id = words.last().unwrap();
    assert_eq!(words[1..5], ["--bench", "--profile-time", "7", "--exact"]);
    assert!(id != "thing/broken/push", "it is broken");
    if id == "thing/push/1" {
        let folder = std::path::PathBuf::from(std::env::var("CRITERION_HOME").unwrap()).join("any/profile");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("flamegraph.svg"), "<svg/>").unwrap();
        std::fs::write(folder.join("stacks.folded"), "main;push;grow 30\nmain;push 10\n").unwrap();
    }
}
"#;

fn workspace() -> TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(path, text).expect("writes");
    };
    // Cargo leaves out a bench whose features are not asked for.
    write(
        "Cargo.toml",
        "[package]\nname = \"thing\"\nedition = \"2024\"\n[features]\nextra = []\n[[bench]]\nname = \"push\"\nharness = false\n\
         required-features = [\"extra\"]\n",
    );
    write("src/lib.rs", "");
    write("benches/push.rs", BENCH);
    write("thresholds.toml", "version = 1\n");
    folder
}

fn profile(folder: &Path, arguments: &[&str]) -> Output {
    Command::cargo_bin("cargo-gate")
        .expect("built with this test")
        .current_dir(folder)
        .env_remove("CARGO_TARGET_DIR")
        .arg("profile")
        .args(arguments)
        .output()
        .expect("starts")
}

#[test]
fn the_picture_is_kept_and_the_hottest_functions_are_named() {
    let workspace = workspace();
    let output = profile(workspace.path(), &["thing/push/1", "--time", "7"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let picture = workspace.path().join("target/gate/profiles/thing+push+1.svg");
    assert!(said.starts_with(&format!("{}\n", picture.canonicalize().expect("kept").display())), "{said}");
    assert_eq!(fs::read_to_string(picture).expect("kept"), "<svg/>");
    assert!(said.contains("40 samples") && said.contains("  75.0 %  grow\n  25.0 %  push\n"), "{said}");
}

#[test]
fn what_cannot_be_drawn_is_said() {
    let workspace = workspace();
    for (arguments, code, reason) in [
        (&["thing/push/2"][..], 3, "did you mean thing/push/1?"),
        (&["thing/allocs/push", "--time", "7"], 2, "it draws no flamegraph"),
        (&["thing/broken/push", "--time", "7"], 2, "it is broken"),
        (&["thing/push/1", "--time", "0"], 2, "0 is not in 1..=300"),
    ] {
        let output = profile(workspace.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}
