//! The crate failsafe: a state machine behind a mutex.

use std::process::ExitCode;
use std::time::Duration;

use bridge_orchestrator_contest::{Breaks, Contest};
use failsafe::backoff::{self, Constant};
use failsafe::failure_policy::{ConsecutiveFailures, consecutive_failures};
use failsafe::{CircuitBreaker, Config, Error, StateMachine};

fn main() -> ExitCode {
    Contest::of("failsafe").breaks::<Breaker>().run()
}

struct Breaker(StateMachine<ConsecutiveFailures<Constant>, ()>);

impl Breaks for Breaker {
    const NOTE: &'static str = "StateMachine: 5 failures in a row, 60 s";

    fn closed() -> Self {
        let policy = consecutive_failures(5, backoff::constant(Duration::from_secs(60)));
        Self(Config::new().failure_policy(policy).build())
    }

    fn call(&self, call: impl FnOnce() -> Result<u64, u64>) -> Option<Result<u64, u64>> {
        match self.0.call(call) {
            Ok(value) => Some(Ok(value)),
            Err(Error::Inner(failure)) => Some(Err(failure)),
            Err(Error::Rejected) => None,
        }
    }
}
