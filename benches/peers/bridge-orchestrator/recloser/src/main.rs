//! The crate recloser: a breaker over a ring of outcomes, without a lock.

use std::process::ExitCode;

use bridge_orchestrator_contest::{Breaks, Contest};
use recloser::{Error, Recloser};

fn main() -> ExitCode {
    Contest::of("recloser").breaks::<Breaker>().run()
}

struct Breaker(Recloser);

impl Breaks for Breaker {
    const NOTE: &'static str = "Recloser: the last 48 outcomes, opens above 5 in 48 that fail";

    fn closed() -> Self {
        Self(Recloser::custom().error_rate(5.0 / 48.0).closed_len(48).half_open_len(3).build())
    }

    fn call(&self, call: impl FnOnce() -> Result<u64, u64>) -> Option<Result<u64, u64>> {
        match self.0.call(call) {
            Ok(value) => Some(Ok(value)),
            Err(Error::Inner(failure)) => Some(Err(failure)),
            Err(Error::Rejected) => None,
        }
    }
}
