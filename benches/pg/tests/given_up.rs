//! A start whose future is dropped. Alone in its program: what it leaves would be a child of this process.

mod support;

use std::fs;
use std::time::Duration;

use ephemeral_postgres::{Profile, Server};
use support::within;

/// Numbers of the processes that this one has started.
fn children() -> Vec<i32> {
    let is_mine = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parent == Some(std::process::id())
    };
    let entries = fs::read_dir("/proc").expect("listed").filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_mine).collect()
}

#[tokio::test]
async fn start_that_is_given_up_leaves_no_process() {
    let mut seen = false;
    for millis in [0, 5, 50, 100, 150, 200, 250, 300, 400] {
        let start = Server::builder().profile(Profile::Fast).owned().start();
        let gave_up = tokio::time::timeout(Duration::from_millis(millis), start).await.is_err();
        seen |= gave_up && !children().is_empty();
        assert!(within(Duration::from_secs(20), || children().is_empty()), "{:?} are left", children());
    }
    assert!(seen, "no start was given up while its server was there");
}
