//! A server that `DATABASE_URL` lends.

mod support;

use std::process::Command;

use ephemeral_postgres::{BackendSignal, Error, Profile, Server, Source, StopMode};
use support::fast;

/// Runs the other test of this file in a process whose environment lends it a server.
#[tokio::test]
async fn lent_server_is_used_and_left_as_it_was() {
    let server = fast().await;
    let client = server.connect().await.expect("a client");
    let databases = async || {
        let rows = client.query("SELECT datname FROM pg_database ORDER BY 1", &[]).await.expect("listed");
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };
    let before = databases().await;
    for url in [server.url().to_owned(), server.tcp_url().expect("it listens")] {
        let url = url.clone();
        let output = tokio::task::spawn_blocking(move || {
            Command::new(std::env::current_exe().expect("own path"))
                .args(["--ignored", "--exact", "borrower", "--nocapture"])
                .env("DATABASE_URL", url)
                .output()
                .expect("started")
        });
        let output = output.await.expect("ran");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(databases().await, before, "its databases are gone, and none else");
        assert!(server.process().await.is_ok(), "it runs");
    }
    let gone = Command::new(std::env::current_exe().expect("own path"))
        .args(["--ignored", "--exact", "borrower"])
        .env("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")
        .output()
        .expect("started");
    assert!(!gone.status.success(), "a lent server that is not there is an error, and no reason to start another");
}

#[tokio::test]
#[ignore = "the process that the test above starts"]
async fn borrower() {
    let server = Server::start(Profile::Fast).await.expect("the lent one");
    assert_eq!(server.report().source, Source::Lent);
    let database = server.database().await.expect("a database of our own");
    let client = database.connect().await.expect("a client");
    client.batch_execute("CREATE TABLE t ()").await.expect("made");
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("asked").get(0);
    let refused = |result: Result<(), Error>| assert!(matches!(result, Err(Error::NotOwned)), "{result:?}");
    refused(server.stop(StopMode::Fast).await);
    refused(server.restart(StopMode::Immediate).await);
    refused(server.pause().await);
    refused(server.resume().await);
    refused(server.terminate_backend(pid).await);
    refused(server.signal_backend(pid, BackendSignal::Kill).await);
    assert!(matches!(server.log().await, Err(Error::NotOwned)));
    assert_eq!(client.query_one("SELECT 1", &[]).await.expect("unharmed").get::<_, i32>(0), 1);
    let owned = Server::builder().profile(Profile::Fast).owned().start().await.expect("one of our own all the same");
    assert_ne!(owned.report().source, Source::Lent);
}
