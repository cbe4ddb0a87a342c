//! A server of our own: what it is, what it holds, and that it goes.

mod support;

use std::time::{Duration, Instant};

use ephemeral_postgres::{Error, Profile, Server, Source};
use support::{fast, is_alive};
use tokio_postgres::NoTls;

#[tokio::test]
async fn durable_server_waits_for_its_disk_and_says_so() {
    let server = Server::builder().owned().start().await.expect("a server");
    let client = server.connect().await.expect("a client");
    for (setting, value) in [("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")] {
        let row = client.query_one(&format!("SHOW {setting}"), &[]).await.expect("shown");
        assert_eq!(row.get::<_, String>(0), value, "{setting}");
    }
    let report = server.report();
    assert!(report.is_durable() && report.source != Source::Lent && report.version_number >= 150_000);
    let text = report.to_string();
    for part in ["fsync on", "synchronous_commit on", report.file_system.as_deref().expect("known"), &report.version] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[tokio::test]
async fn fast_server_does_not() {
    let server = fast().await;
    let report = server.report();
    assert_eq!((&*report.fsync, &*report.synchronous_commit, &*report.full_page_writes), ("off", "off", "off"));
    assert!(!report.is_durable());
}

#[tokio::test]
async fn second_start_takes_less_than_two_seconds_to_the_first_answer() {
    drop(fast().await);
    let mut took = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let server = fast().await;
        let row = server.connect().await.expect("a client").query_one("SELECT 1", &[]).await.expect("an answer");
        took = took.min(start.elapsed());
        assert_eq!(row.get::<_, i32>(0), 1);
    }
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn databases_are_apart_and_go_with_their_values() {
    let server = fast().await;
    let (one, other) = (server.database().await.expect("one"), server.database().await.expect("another"));
    assert_ne!(one.name(), other.name());
    let client = one.connect().await.expect("a client");
    client.batch_execute("CREATE TABLE t (x int); INSERT INTO t VALUES (7)").await.expect("written");
    let error = other.connect().await.expect("a client").query("SELECT x FROM t", &[]).await.expect_err("not here");
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::UNDEFINED_TABLE));
    // By its URL, as another program would.
    let (by_url, connection) = tokio_postgres::connect(&one.url(), NoTls).await.expect("connected");
    tokio::spawn(connection);
    assert_eq!(by_url.query_one("SELECT x FROM t", &[]).await.expect("read").get::<_, i32>(0), 7);
    let name = one.name().to_owned();
    // Two clients are still connected.
    drop(one);
    let admin = server.connect().await.expect("a client");
    let there = "SELECT count(*) FROM pg_database WHERE datname = $1";
    let until = Instant::now() + Duration::from_secs(5);
    while admin.query_one(there, &[&name]).await.expect("counted").get::<_, i64>(0) > 0 {
        assert!(Instant::now() < until, "it is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(admin.query_one(there, &[&other.name()]).await.expect("counted").get::<_, i64>(0), 1);
}

#[tokio::test]
async fn port_wants_the_password_and_the_socket_does_not() {
    let server = fast().await;
    let url = server.tcp_url().expect("it listens");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("with its password");
    tokio::spawn(connection);
    assert_eq!(client.query_one("SELECT 1", &[]).await.expect("an answer").get::<_, i32>(0), 1);
    let mut wrong = server.tcp_config().expect("it listens").clone();
    wrong.password("guessed");
    let error = wrong.connect(NoTls).await.err().expect("refused");
    assert_eq!(error.code(), Some(&tokio_postgres::error::SqlState::INVALID_PASSWORD));
    let silent = Server::builder().profile(Profile::Fast).owned().tcp(false).start().await.expect("a server");
    assert_eq!(silent.tcp_url(), None);
    let row = silent.connect().await.expect("over the socket").query_one("SHOW listen_addresses", &[]).await;
    assert_eq!(row.expect("shown").get::<_, String>(0), "");
}

#[tokio::test]
async fn settings_are_taken_and_a_wrong_one_is_an_error_with_the_log() {
    let server = Server::builder().profile(Profile::Fast).owned().setting("max_connections", 23);
    let server = server.start().await.expect("a server");
    assert_eq!(server.report().max_connections, "23");
    let wrong = Server::builder().profile(Profile::Fast).owned().setting("no_such_setting", 1).start().await;
    match wrong {
        Err(Error::Start { log }) => assert!(log.contains("no_such_setting"), "{log}"),
        other => panic!("{other:?}"),
    }
    let none = Server::builder().owned().major(99).offline().start().await;
    match none {
        Err(error @ Error::NotFound { .. }) => {
            // The second one is what `expect` prints.
            for text in [error.to_string(), format!("{error:?}")] {
                assert!(text.contains("apt-get install postgresql") && text.contains("is not 99"), "{text}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn dropped_server_leaves_no_process_and_no_folder() {
    let server = fast().await;
    let (pid, directory) = (server.process().await.expect("it runs"), server.report().directory.clone().expect("ours"));
    let client = server.connect().await.expect("a client");
    assert!(is_alive(pid) && directory.is_dir());
    drop(server);
    assert!(!is_alive(pid) && !directory.exists());
    client.query_one("SELECT 1", &[]).await.expect_err("it is gone");
}
