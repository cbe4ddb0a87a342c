//! What is done to a server, and what its clients see of it.

mod support;

use std::time::Duration;

use ephemeral_postgres::{BackendSignal, Error, Server, StopMode};
use support::fast;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

async fn client(server: &Server) -> (Client, i32) {
    let client = server.connect().await.expect("a client");
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).await.expect("asked").get(0);
    (client, pid)
}

async fn one(client: &Client) -> i32 {
    client.query_one("SELECT 1", &[]).await.expect("an answer").get(0)
}

#[tokio::test]
async fn terminated_backend_ends_alone() {
    let server = fast().await;
    let ((hit, pid), (other, _)) = (client(&server).await, client(&server).await);
    let listed = server.backends().await.expect("listed");
    let found = listed.iter().find(|backend| backend.pid == pid).expect("it is there");
    assert_eq!((&*found.kind, found.database.as_deref()), ("client backend", Some("postgres")));
    let (error, ()) =
        tokio::join!(async { hit.query("SELECT pg_sleep(60)", &[]).await.expect_err("it ends") }, async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.terminate_backend(pid).await.expect("terminated");
        });
    assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN));
    assert_eq!(one(&other).await, 1);
    assert!(matches!(server.terminate_backend(pid).await, Err(Error::NoSuchBackend(gone)) if gone == pid));
}

#[tokio::test]
async fn killed_backend_takes_all_others_with_it_and_the_server_recovers() {
    let server = fast().await;
    let ((_hit, pid), (other, _)) = (client(&server).await, client(&server).await);
    server.signal_backend(pid, BackendSignal::Kill).await.expect("killed");
    let gone = async {
        while other.query("SELECT 1", &[]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.expect("the other is disconnected too");
    let back = async {
        loop {
            if let Ok(client) = server.connect().await {
                break one(&client).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert_eq!(timeout(Duration::from_secs(20), back).await.expect("it recovers"), 1);
}

#[tokio::test]
async fn suspended_backend_is_silent_until_it_goes_on() {
    let server = fast().await;
    let ((hit, pid), (other, _)) = (client(&server).await, client(&server).await);
    server.signal_backend(pid, BackendSignal::Suspend).await.expect("suspended");
    let mut silent = Box::pin(one(&hit));
    timeout(Duration::from_millis(100), &mut silent).await.expect_err("no answer");
    assert_eq!(one(&other).await, 1);
    server.signal_backend(pid, BackendSignal::Resume).await.expect("resumed");
    assert_eq!(timeout(Duration::from_secs(5), silent).await.expect("it answers"), 1);
}

#[tokio::test]
async fn paused_server_keeps_its_connections_and_answers_nobody() {
    let server = fast().await;
    let (client, _) = client(&server).await;
    server.pause().await.expect("paused");
    let mut silent = Box::pin(one(&client));
    timeout(Duration::from_millis(100), &mut silent).await.expect_err("no answer");
    server.resume().await.expect("resumed");
    assert_eq!(timeout(Duration::from_secs(5), silent).await.expect("it answers"), 1);
    // A server that stands still goes all the same, and soon.
    server.pause().await.expect("paused");
    let began = std::time::Instant::now();
    drop(server);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_was_committed_survives_a_crash_of_a_durable_server_and_the_address_stays() {
    let server = Server::builder().owned().start().await.expect("a server");
    let database = server.database().await.expect("a database");
    let client = database.connect().await.expect("a client");
    client.batch_execute("CREATE TABLE t (x int)").await.expect("made");
    for (round, mode) in [StopMode::Immediate, StopMode::Fast].into_iter().enumerate() {
        let client = database.connect().await.expect("a client");
        client.execute("INSERT INTO t VALUES ($1)", &[&(round as i32)]).await.expect("committed");
        server.restart(mode).await.expect("restarted");
        client.query("SELECT 1", &[]).await.expect_err("disconnected");
        let sum = "SELECT count(*) FROM t";
        let count = database.connect().await.expect("the same address").query_one(sum, &[]).await.expect("counted");
        assert_eq!(count.get::<_, i64>(0), round as i64 + 1, "{mode:?}");
    }
    let recoveries = server.log().await.expect("a log").matches("redo starts").count();
    assert_eq!(recoveries, 1, "a fast stop needs no recovery, an immediate one does");
}

#[tokio::test]
async fn stopped_server_refuses_and_comes_back_at_the_same_port() {
    let server = fast().await;
    let url = server.tcp_url().expect("it listens");
    server.stop(StopMode::Fast).await.expect("stopped");
    server.stop(StopMode::Fast).await.expect("stopped already");
    server.connect().await.expect_err("nobody is there");
    assert!(matches!(server.process().await, Err(Error::Stopped)));
    assert!(matches!(server.pause().await, Err(Error::Stopped)));
    server.run().await.expect("runs");
    server.run().await.expect("runs already");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("at the same port");
    tokio::spawn(connection);
    assert_eq!(one(&client).await, 1);
}

#[tokio::test]
async fn process_of_somebody_else_is_not_signalled() {
    let server = fast().await;
    let own = std::process::id() as i32;
    for pid in [own, 0, -1, i32::MAX] {
        let refused = server.signal_backend(pid, BackendSignal::Kill).await;
        assert!(matches!(refused, Err(Error::NoSuchBackend(found)) if found == pid), "{refused:?}");
    }
}
