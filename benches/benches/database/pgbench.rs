//! PostgreSQL's own load generator: the floor of a round trip in C.

use std::fs;
use std::process::Command;

use harness::{Bench, BenchError};
use tokio_postgres::config::Host;

use crate::setting::Setting;

/// Transactions of a round.
pub(crate) const TRANSACTIONS: u64 = 500;
pub(crate) const ROUNDS: u64 = 5;

/// Rounds of `script`, prepared, against the server of `setting`, with one client: what a transaction takes. [`ROUNDS`] of [`TRANSACTIONS`].
pub(crate) fn pgbench(bench: &mut Bench, setting: &Setting, script: &str) -> Result<(), BenchError> {
    let Some(program) = setting.server.report().program("pgbench") else {
        return Err(BenchError::Invalid("there is no pgbench beside the server".to_owned()));
    };
    let config = setting.database.config();
    let Some(Host::Unix(socket)) = config.get_hosts().first() else {
        return Err(BenchError::Invalid("pgbench is run over the socket of a server of our own".to_owned()));
    };
    let file = std::env::temp_dir().join(format!("pgbench-{}.sql", std::process::id()));
    fs::write(&file, script).expect("written");
    let mut times = Vec::new();
    let mut done = 0;
    for _ in 0..ROUNDS {
        let output = Command::new(&program)
            .args(["--no-vacuum", "--protocol=prepared", "--client=1", "--jobs=1", "--transactions"])
            .arg(TRANSACTIONS.to_string())
            .arg("--file")
            .arg(&file)
            .arg("--host")
            .arg(socket)
            .args(["--port", &config.get_ports()[0].to_string(), "--username", config.get_user().unwrap_or("postgres")])
            .arg(setting.database.name())
            .output()
            .expect("started");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = |after: &str, until: &str| -> Option<f64> {
            said.split_once(after)?.1.split_once(until)?.0.trim().parse().ok()
        };
        let (Some(latency), Some(processed)) =
            (number("latency average = ", "ms"), number("actually processed: ", "/"))
        else {
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(BenchError::Invalid(format!("pgbench says {said}{error}")));
        };
        times.push(latency * 1e6);
        done += processed as u64;
    }
    fs::remove_file(&file).expect("removed");
    bench.rounds_measured(&times)?;
    bench.proof(ROUNDS * TRANSACTIONS, done);
    Ok(())
}
