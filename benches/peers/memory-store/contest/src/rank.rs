//! One operation is one answered query.

use std::time::Instant;

use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError};

use crate::{Corpus, Found, Promise, Question, Truth};

/// Answers queries.
pub trait Ranks: Sized + 'static {
    /// How good the answers must be.
    const PROMISE: Promise;

    /// What it holds.
    fn corpus(&self) -> &Corpus;

    /// How it is set up and called; every report repeats it.
    fn note(&self) -> String;

    /// Timed: the best `k` memories, by their order.
    fn best(&mut self, query: &[f32], k: usize) -> Vec<u32>;
}

/// A round asks every query once; all answers of all rounds are judged.
pub(crate) fn measure<R: Ranks>(bench: &mut Bench, mut ranks: R, question: Question) -> Result<(), BenchError> {
    let truth = Truth::of(ranks.corpus(), question).map_err(|error| BenchError::Invalid(error.to_string()))?;
    bench.note(ranks.note());
    let queries: Vec<Vec<f32>> = ranks.corpus().each_query().map(<[f32]>::to_vec).collect();
    let mut answers = vec![Vec::new(); queries.len()];
    let (mut lowest, mut malformed) = (1.0_f64, 0);
    bench.rounds(|| {
        let start = Instant::now();
        for (query, answer) in queries.iter().zip(&mut answers) {
            *answer = ranks.best(query, question.k());
        }
        let elapsed = start.elapsed();
        let found = truth.judge(ranks.corpus(), &answers, R::PROMISE);
        (lowest, malformed) = (lowest.min(found.recall), malformed + found.malformed);
        (elapsed, queries.len() as u64)
    })?;
    state(bench, R::PROMISE, queries.len(), Found { recall: lowest, malformed });
    Ok(())
}

/// Records how good answers to the first queries were, and makes that the proof.
///
/// # Errors
/// [`BenchError::Invalid`] if the best answers can be neither read nor written.
pub fn measure_answers(
    bench: &mut Bench,
    corpus: &Corpus,
    question: Question,
    promise: Promise,
    answers: &[Vec<u32>],
) -> Result<(), BenchError> {
    let truth = Truth::of(corpus, question).map_err(|error| BenchError::Invalid(error.to_string()))?;
    let found = truth.judge(corpus, answers, promise);
    state(bench, promise, answers.len(), found);
    Ok(())
}

fn state(bench: &mut Bench, promise: Promise, answers: usize, found: Found) {
    let Found { recall, malformed } = found;
    bench.note(format!("recall {recall:.4} over {answers} queries"));
    bench.figure(Source::Round, Figure::exact(Metric::SuccessRate, recall), answers as u64);
    let said = |malformed: usize, recall: f64| match promise {
        Promise::Exact => format!("{malformed} malformed answers, recall {recall}"),
        Promise::Measured => format!("{malformed} malformed answers"),
    };
    bench.proof(said(0, 1.0), said(malformed, recall));
}
