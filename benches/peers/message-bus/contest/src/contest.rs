//! The benchmarks of one contender.

use std::process::ExitCode;

use harness::Suite;

use crate::{Inline, Tasks, Threads, Work, inline, tasks, threads};

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

    /// The contender calls handlers and waits for them.
    pub fn inline<C: Inline>(self) -> Self {
        self.add(&Work::INLINE, |bench, work| inline::measure::<C>(bench, work))
    }

    /// The contender does `works` between two threads.
    pub fn threads<C: Threads>(self, works: &[Work]) -> Self {
        self.add(works, |bench, work| threads::measure::<C>(bench, work))
    }

    /// The contender does `works` between tasks.
    pub fn tasks<C: Tasks>(self, works: &[Work]) -> Self {
        self.add(works, |bench, work| tasks::measure::<C>(bench, work))
    }

    /// Runs what the command line asks for.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.suite.run()
    }

    fn add(
        mut self,
        works: &[Work],
        measure: impl Fn(&mut harness::Bench, Work) -> Result<(), harness::BenchError> + Copy + 'static,
    ) -> Self {
        for &work in works {
            self.suite = self.suite.bench(work.id(self.peer), move |bench| measure(bench, work));
        }
        self
    }
}
