//! The benchmarks of one contender.

use std::process::ExitCode;

use harness::{Bench, BenchError, Suite};

use crate::similar::Reranked;
use crate::{Appends, FEWER, Finds, Question, Ranks, Work, append, rank};

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

    /// The contender answers every question by itself.
    pub fn ranks<R: Ranks>(mut self, open: fn(Question) -> Result<R, String>) -> Self {
        for question in Question::ALL {
            let measure = move |bench: &mut Bench| rank::measure(bench, opened(open(question))?, question);
            self = self.add(Work::Answer(question), measure);
        }
        self
    }

    /// The contender, which ranks exactly, stands beside those that fetch fewer.
    pub fn stands_beside_fewer<R: Ranks>(mut self, open: fn(Question) -> Result<R, String>) -> Self {
        for prefetch in FEWER {
            let measure =
                move |bench: &mut Bench| rank::measure(bench, opened(open(Question::Composite))?, Question::Composite);
            self = self.add(Work::Among { prefetch }, measure);
        }
        self
    }

    /// The contender finds what is similar.
    pub fn finds<F: Finds>(mut self) -> Self {
        for question in [Question::Composite, Question::Similarity] {
            let open = move || opened(Reranked::<F>::open(question, None));
            self = self.add(Work::Answer(question), move |bench| rank::measure(bench, open()?, question));
        }
        for prefetch in FEWER {
            let open = move || opened(Reranked::<F>::open(Question::Composite, Some(prefetch)));
            self = self.add(Work::Among { prefetch }, move |bench| rank::measure(bench, open()?, Question::Composite));
        }
        self
    }

    /// The contender takes vectors one at a time.
    pub fn appends<A: Appends>(self) -> Self {
        self.add(Work::Append, append::measure::<A>)
    }

    /// The contender does `work` in a way of its own.
    pub fn add(self, work: Work, measure: impl Fn(&mut Bench) -> Result<(), BenchError> + 'static) -> Self {
        Self { suite: self.suite.bench(work.id(self.peer), measure), ..self }
    }

    /// Runs what the command line asks for.
    #[must_use]
    pub fn run(self) -> ExitCode {
        self.suite.run()
    }
}

fn opened<T>(result: Result<T, String>) -> Result<T, BenchError> {
    result.map_err(BenchError::Invalid)
}
