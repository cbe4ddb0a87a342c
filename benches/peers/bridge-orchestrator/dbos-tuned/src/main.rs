//! Crate dbos 0.5, as fast as its options make it.

use std::process::ExitCode;

use bridge_orchestrator_contest::Contest;
use bridge_orchestrator_dbos::{Config, Configured, Dbos};

fn main() -> ExitCode {
    Contest::of("dbos-tuned").orchestrates::<Dbos<Tuned>>().run()
}

/// The most connections of its pool.
#[derive(Debug, Clone, Copy)]
struct Connections(u32);

struct Tuned;

impl Configured for Tuned {
    type Setting = Connections;
    const NOTE: &'static str = "dbos 0.5.0: no notifications, no queues of users";
    const SETTINGS: &'static [Connections] =
        &[Connections(4), Connections(8), Connections(16), Connections(32), Connections(64)];

    fn configure(defaults: Config, Connections(max_connections): Connections) -> Config {
        Config { max_connections, use_listen_notify: false, listen_queues: Some(Vec::new()), ..defaults }
    }
}
