//! What a test pays for a server of its own, and for a proxy in front of it.

use std::cell::Cell;
use std::process::ExitCode;
use std::time::Instant;

use ephemeral_postgres::{Profile, Proxy, Server, Upstream};
use harness::{Bench, BenchError, Suite};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Statement};

fn main() -> ExitCode {
    Suite::new()
        .bench("ephemeral-postgres/start/warm", start)
        .bench("ephemeral-postgres/start/database", database)
        .bench("ephemeral-postgres/proxy/select-1", proxied)
        .run()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

async fn fast() -> Server {
    Server::builder().profile(Profile::Fast).owned().start().await.expect("a server")
}

async fn one(client: &Client, select: &Statement) -> u64 {
    client.query_one(select, &[]).await.expect("an answer").get::<_, i32>(0) as u64
}

/// From nothing to the first answer, with the template made. Stopping is not timed.
fn start(bench: &mut Bench) -> Result<(), BenchError> {
    let runtime = runtime();
    drop(runtime.block_on(fast()));
    let mut answers = 0;
    let rounds = bench.rounds(|| {
        let began = Instant::now();
        let (server, answer) = runtime.block_on(async {
            let server = fast().await;
            let answer = server.connect().await.expect("a client").query_one("SELECT 1", &[]).await.expect("an answer");
            (server, answer)
        });
        let elapsed = began.elapsed();
        answers += answer.get::<_, i32>(0) as u64;
        drop(server);
        (elapsed, 1)
    })?;
    bench.proof(rounds, answers);
    Ok(())
}

/// A database of its own, and the first answer of it.
fn database(bench: &mut Bench) -> Result<(), BenchError> {
    let runtime = runtime();
    let server = runtime.block_on(fast());
    let mut answers = 0;
    let rounds = bench.rounds(|| {
        let began = Instant::now();
        let (database, answer) = runtime.block_on(async {
            let database = server.database().await.expect("a database");
            let client = database.connect().await.expect("a client");
            (database, client.query_one("SELECT current_database()", &[]).await.expect("an answer"))
        });
        let elapsed = began.elapsed();
        answers += u64::from(answer.get::<_, String>(0) == database.name());
        (elapsed, 1)
    })?;
    bench.proof(rounds, answers);
    Ok(())
}

/// A query over TCP, through a proxy that does no harm and straight.
fn proxied(bench: &mut Bench) -> Result<(), BenchError> {
    const QUERIES: u64 = 200;
    let runtime = runtime();
    let (server, proxy, [through, straight]) = runtime.block_on(async {
        let server = fast().await;
        let config = server.tcp_config().expect("it listens").clone();
        let proxy = Proxy::start(Upstream::of(&config).expect("an address")).await.expect("a proxy");
        let mut clients = Vec::new();
        for config in [proxy.config(&config), config] {
            let (client, connection) = config.connect(NoTls).await.expect("connected");
            tokio::spawn(connection);
            let select = client.prepare("SELECT 1").await.expect("prepared");
            clients.push((client, select));
        }
        (server, proxy, <[_; 2]>::try_from(clients).unwrap_or_else(|_| unreachable!("two were made")))
    });
    let answers = Cell::new(0);
    let ask = |(client, select): &(Client, Statement)| {
        let began = Instant::now();
        let sum = runtime.block_on(async {
            let mut sum = 0;
            for _ in 0..QUERIES {
                sum += one(client, select).await;
            }
            sum
        });
        let elapsed = began.elapsed();
        answers.set(answers.get() + sum);
        (elapsed, QUERIES)
    };
    let rounds = bench.against("ephemeral-postgres/floor/select-1", || ask(&through), || ask(&straight))?;
    bench.proof(2 * rounds * QUERIES, answers.get());
    assert!(proxy.counts().bytes_up > rounds * QUERIES, "the queries went through the proxy");
    drop(server);
    Ok(())
}
