//! The benchmarks of one contender.

use std::process::ExitCode;

use harness::{Bench, BenchError, Suite};

use crate::{Calls, Work, calls, idle};

/// What one contender does; works that it cannot do are not in it.
#[derive(Debug)]
#[must_use]
pub struct Contest {
    peer: &'static str,
    suite: Suite,
}

impl Contest {
    /// `peer` is the last part of the ids.
    pub fn of(peer: &'static str) -> Self {
        Self { peer, suite: Suite::new() }
    }

    /// The contender answers calls.
    pub fn calls<C: Calls>(mut self) -> Self {
        for work in Work::CALLS {
            self = match work {
                Work::Idle => self.add(work, move |bench| idle::measure::<C>(bench, work)),
                _ => self.add(work, move |bench| calls::measure::<C>(bench, work)),
            };
        }
        self
    }

    /// The contender turns telemetry into uploads.
    #[cfg(feature = "telemetry")]
    pub fn encodes<E: crate::telemetry::Encodes>(self) -> Self {
        self.add(Work::ENCODE, crate::telemetry::measure::<E>)
    }

    /// Runs what the command line asks for.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.suite.run()
    }

    fn add(self, work: Work, measure: impl Fn(&mut Bench) -> Result<(), BenchError> + 'static) -> Self {
        Self { suite: self.suite.bench(work.id(self.peer), measure), ..self }
    }
}
