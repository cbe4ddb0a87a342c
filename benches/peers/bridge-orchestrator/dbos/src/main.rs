//! Crate dbos 0.5 with its defaults.

use std::process::ExitCode;

use bridge_orchestrator_contest::Contest;
use bridge_orchestrator_dbos::{Config, Configured, Dbos};

fn main() -> ExitCode {
    Contest::of("dbos").orchestrates::<Dbos<Defaults>>().run()
}

/// Ten connections, notifications on.
#[derive(Debug, Clone, Copy)]
struct Defaults;

impl Configured for Defaults {
    type Setting = Self;
    const NOTE: &'static str = "dbos 0.5.0 as it is: ten connections, notifications";
    const SETTINGS: &'static [Self] = &[Self];

    fn configure(defaults: Config, Self: Self) -> Config {
        defaults
    }
}
