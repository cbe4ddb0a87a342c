//! The command `es`.

mod postgres;
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use ephemeral_postgres::{Database, Server};
use event_store::{Append, EventStore as _, ExpectedVersion, NewEvent, PostgresStore, Tags};
use support::{event, events, kind, stream, tag};

fn es(database: &Database, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::cargo_bin("es").expect("the command is built");
    command.env_remove("DATABASE_URL").args(["--database", &database.url()]).args(arguments);
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// What it printed, if it succeeded.
fn succeed(command: &mut assert_cmd::Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// What it said of its failure.
fn fail(command: &mut assert_cmd::Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    assert_eq!(status.code(), Some(code), "{}{}", text(&stdout), text(&stderr));
    text(&stderr).to_owned() + text(&stdout)
}

/// Two streams, an event of none, tags, payloads that are JSON and bytes that are not.
async fn fill(store: &PostgresStore) {
    let tags: Tags = [tag("course:rust"), tag("room:1")].into_iter().collect();
    let bytes = NewEvent::new(kind("Recorded"), [0_u8, 159, 146, 150].as_slice()).with_tags(tags);
    let append = Append::stream(stream("a"), ExpectedVersion::NoStream, events(0..3))
        .and_stream(stream("b"), ExpectedVersion::NoStream, [bytes])
        .and_events([event(3)]);
    store.append(append).await.expect("nothing speaks against it");
}

async fn filled() -> (Server, Database, PostgresStore) {
    let server = postgres::server().await;
    let database = server.database().await.expect("a database");
    let store = postgres::store(&database).await;
    fill(&store).await;
    (server, database, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dumped_can_be_imported_and_is_the_same() {
    let (server, database, _store) = filled().await;
    let lines = succeed(&mut es(&database, &["dump", "--source", "/shop"]));
    assert_eq!(lines.lines().count(), 5);

    let copy = server.database().await.expect("a database");
    let refused = fail(es(&copy, &["import"]).write_stdin(lines.clone()), 1);
    assert!(refused.contains("es_append"), "there are no tables yet: {refused}");
    let report = succeed(es(&copy, &["import", "--migrate"]).write_stdin(lines.clone()));
    assert_eq!(report, "5 events imported, 0 were there already; the store is at position 5\n");
    assert_eq!(succeed(&mut es(&copy, &["dump", "--source", "/shop"])), lines);
    let report = succeed(es(&copy, &["import", "-"]).write_stdin(lines));
    assert_eq!(report, "0 events imported, 5 were there already; the store is at position 5\n");
    let verified = succeed(&mut es(&copy, &["verify"]));
    assert!(verified.starts_with("5 events, 8 bytes; the store is at position 5\n"), "{verified}");
    assert!(verified.ends_with("every rule holds\n"), "{verified}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_selects() {
    let (server, database, _store) = filled().await;
    for (arguments, expected) in [
        (&["--stream", "a"][..], &[1, 2, 3][..]),
        (&["--stream", "a", "--from", "1"], &[2, 3]),
        (&["--from", "3", "--limit", "2"], &[3, 4]),
        (&["--type", "Recorded"], &[4]),
        (&["--type", "Recorded", "--type", "Happened", "--from", "4"], &[4, 5]),
        (&["--tag", "course:rust", "--tag", "room:1"], &[4]),
        (&["--tag", "course:rust", "--type", "Happened"], &[]),
        (&["--from", "6"], &[]),
    ] {
        let lines = succeed(&mut es(&database, &[&["dump"], arguments].concat()));
        let positions: Vec<u64> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|line| line["position"].as_str().and_then(|text| text.parse().ok()).expect("a position"))
            .collect();
        assert_eq!(positions, expected, "{arguments:?}");
    }

    // A part of a stream comes to stand elsewhere only where that is asked for.
    let part = succeed(&mut es(&database, &["dump", "--stream", "a", "--from", "1"]));
    let copy = server.database().await.expect("a database");
    let refused = fail(es(&copy, &["import", "--migrate"]).write_stdin(part.clone()), 1);
    assert!(refused.contains("line 1: stream a: the line is version 1, the stream is empty"), "{refused}");
    let report = succeed(es(&copy, &["import", "--renumber-streams"]).write_stdin(part));
    assert!(report.starts_with("2 events imported"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_store_is_named() {
    let (_server, database, _store) = filled().await;
    let client = database.connect().await.expect("a client");
    client.execute("DELETE FROM es_events WHERE position = 2", &[]).await.expect("it deletes");
    let broken = fail(&mut es(&database, &["verify"]), 1);
    assert!(
        broken.contains("BROKEN: versions of a stream are dense (1 exceptions)\n    stream a: versions 0 to 2"),
        "{broken}"
    );
    assert!(broken.contains("the head is at 5; 4 events, 0 removed ones"), "{broken}");
    assert!(!broken.contains("every rule holds"), "{broken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_say_what_there_is() {
    let (_server, database, store) = filled().await;
    store.delete_stream(&stream("b")).await.expect("it deletes");
    let told = succeed(&mut es(&database, &["stats"]));
    for line in [
        "schema             1",
        "head               5",
        "events             4",
        "removed            1",
        "bytes              4",
        "first time         1970-01-01T00:00:00Z",
        "last time          1970-01-01T00:00:00.000003Z",
        "streams            1",
        "emptied streams    1",
        "tags               0",
        "type                        4  Happened",
    ] {
        assert!(told.lines().any(|told| told == line), "{line} in\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_usage_and_failures_are_named() {
    let (_server, database, _store) = filled().await;
    let mut no_database = assert_cmd::Command::cargo_bin("es").expect("the command is built");
    let told = fail(no_database.env_remove("DATABASE_URL").arg("stats"), 2);
    assert!(told.contains("--database"), "{told}");
    let told = fail(&mut es(&database, &["dump", "--stream", "a", "--type", "Happened"]), 2);
    assert!(told.contains("cannot be used with"), "{told}");
    let told = fail(&mut es(&database, &["dump", "--stream", ""]), 2);
    assert!(told.contains("empty"), "{told}");
    let told = fail(&mut es(&database, &["dump", "--from", "0"]), 1);
    assert!(told.contains("positions count from 1"), "{told}");
    let told = fail(&mut es(&database, &["import", "/nowhere/lines.json"]), 1);
    assert!(told.contains("/nowhere/lines.json: No such file"), "{told}");

    let mut elsewhere = assert_cmd::Command::cargo_bin("es").expect("the command is built");
    let told = fail(elsewhere.args(["--database", "postgresql://nobody@127.0.0.1:1/none", "verify"]), 1);
    assert!(told.to_lowercase().contains("refused"), "{told}");

    let lines = succeed(&mut es(&database, &["dump"]));
    let broken = lines.replace("\"type\":\"Recorded\"", "\"type\":\"\"");
    let told = fail(es(&database, &["import"]).write_stdin(broken), 1);
    assert!(told.contains("line 4:"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_has_seen_enough_is_no_failure() {
    let (_server, database, store) = filled().await;
    store.append(Append::events(events(100..20_000))).await.expect("nothing speaks against it");
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("es"))
        .args(["--database", &database.url(), "dump"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut first = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut first).expect("a line");
    assert!(first.contains("\"position\":\"1\""), "{first}");
    assert!(child.wait().expect("it ends").success());
}
