//! The benchmarks of one contender.

use std::process::ExitCode;

use harness::{Bench, BenchError, Suite};

use crate::{Balances, Breaks, Detects, Reduces, Steps, balancing, breaking, detecting, reducing, transition};
#[cfg(feature = "workflows")]
use crate::{Orchestrates, orchestrating};

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

    /// The contender spreads calls over endpoints.
    pub fn balances<B: Balances>(self) -> Self {
        self.add("balance/3", |bench| balancing::measure::<B>(bench, 3))
            .add("balance/1000", |bench| balancing::measure::<B>(bench, 1000))
    }

    /// The contender guards calls.
    pub fn breaks<B: Breaks>(self) -> Self {
        self.add("breaker", breaking::measure::<B>)
    }

    /// The contender watches for heartbeats.
    pub fn detects<D: Detects>(self) -> Self {
        self.add("heartbeat/1000", |bench| detecting::measure::<D>(bench, 1_000))
            .add("heartbeat/10000", |bench| detecting::measure::<D>(bench, 10_000))
    }

    /// The contender runs durable workflows.
    #[cfg(feature = "workflows")]
    pub fn orchestrates<O: Orchestrates>(self) -> Self {
        self.add("workflows/1", |bench| orchestrating::measure::<O>(bench, 1))
            .add("workflows/64", |bench| orchestrating::measure::<O>(bench, 64))
    }

    /// The contender makes groups of items.
    pub fn reduces<R: Reduces>(self) -> Self {
        self.add("reduce/1000", |bench| reducing::measure::<R>(bench, 1_000))
            .add("reduce/10000", |bench| reducing::measure::<R>(bench, 10_000))
    }

    /// The contender is a state machine.
    pub fn steps<S: Steps + 'static>(self) -> Self {
        self.add("fsm/transition", transition::measure::<S>)
    }

    /// Runs what the command line asks for.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.suite.run()
    }

    fn add(self, work: &str, measure: impl Fn(&mut Bench) -> Result<(), BenchError> + 'static) -> Self {
        let id = format!("peers/bridge-orchestrator/{work}/{}", self.peer);
        Self { suite: self.suite.bench(id, measure), ..self }
    }
}
