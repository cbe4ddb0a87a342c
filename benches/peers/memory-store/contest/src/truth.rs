//! The best answers, found by brute force in `f64`, and how much of them an answer holds.

use crate::files::{FileError, kept};
use crate::formula::bias;
use crate::{Corpus, DIMENSIONS, Promise, Question};

/// Scores that differ by less count as the same for rivals: an inner product in `f32` cannot tell more.
const TIE: f64 = 1e-6;
/// The same for answers that are to be exact.
const EXACT_TIE: f64 = 1e-9;

/// For every query the score of the last memory that belongs to the best answer.
#[derive(Debug)]
pub struct Truth {
    question: Question,
    least: Vec<f64>,
}

/// How good answers were.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Share of the best answers' memories that were found.
    pub recall: f64,
    /// Answers that had another number of memories than was asked for, or one twice.
    pub malformed: usize,
}

impl Truth {
    /// The best answers to `question`; kept in a file if the corpus is.
    ///
    /// # Errors
    /// [`FileError`] if the file can be neither read nor written.
    pub fn of(corpus: &Corpus, question: Question) -> Result<Self, FileError> {
        let least = match corpus.folder() {
            Some(folder) => {
                let name = format!("least-{question:?}.f64").to_lowercase();
                kept(&folder.join(name), corpus.each_query().len(), || least(corpus, question))?
            }
            None => least(corpus, question),
        };
        Ok(Self { question, least })
    }

    /// The score of the last memory of each best answer.
    #[must_use]
    pub fn least(&self) -> &[f64] {
        &self.least
    }

    /// How good these answers to the first queries are, ids of memories by their order.
    #[must_use]
    pub fn judge(&self, corpus: &Corpus, answers: &[Vec<u32>], promise: Promise) -> Found {
        let tie = match promise {
            Promise::Exact => EXACT_TIE,
            Promise::Measured => TIE,
        };
        let (mut hits, mut malformed) = (0, answers.len().saturating_sub(self.least.len()));
        for ((query, answer), least) in corpus.each_query().zip(answers).zip(&self.least) {
            let mut ids = answer.clone();
            ids.sort_unstable();
            ids.dedup();
            ids.retain(|&id| (id as usize) < corpus.len());
            if ids.len() != self.question.k() || answer.len() != ids.len() {
                malformed += 1;
            }
            hits += ids.iter().filter(|&&id| score(corpus, self.question, query, id as usize) >= least - tie).count();
        }
        Found { recall: hits as f64 / (answers.len() * self.question.k()) as f64, malformed }
    }
}

fn score(corpus: &Corpus, question: Question, query: &[f32], memory: usize) -> f64 {
    let query: Vec<f64> = query.iter().map(|&x| f64::from(x)).collect();
    let vector: Vec<f64> = corpus.vector(memory).iter().map(|&x| f64::from(x)).collect();
    let cosine = dot(&query, &vector) / (dot(&query, &query) * dot(&vector, &vector)).sqrt();
    if question.is_composite() { 0.5 * cosine + bias(corpus.hours[memory], corpus.times[memory]) } else { cosine }
}

fn least(corpus: &Corpus, question: Question) -> Vec<f64> {
    let queries: Vec<f64> = corpus.queries.iter().map(|&x| f64::from(x)).collect();
    let queries: Vec<(&[f64], f64)> =
        queries.chunks_exact(DIMENSIONS).map(|query| (query, dot(query, query).sqrt())).collect();
    let mut best: Vec<Vec<f64>> = vec![Vec::new(); queries.len()];
    for memory in 0..corpus.len() {
        let vector: Vec<f64> = corpus.vector(memory).iter().map(|&x| f64::from(x)).collect();
        let norm = dot(&vector, &vector).sqrt();
        let bias = bias(corpus.hours[memory], corpus.times[memory]);
        for ((query, query_norm), best) in queries.iter().zip(&mut best) {
            let cosine = dot(query, &vector) / (query_norm * norm);
            let score = if question.is_composite() { 0.5 * cosine + bias } else { cosine };
            let place = best.partition_point(|&other| other >= score);
            if place < question.k() {
                best.insert(place, score);
                best.truncate(question.k());
            }
        }
    }
    best.iter().map(|best| best.last().copied().unwrap_or(f64::NEG_INFINITY)).collect()
}

/// In eight sums, so that it is done several at a time.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(corpus: &Corpus, question: Question, query: &[f32]) -> Vec<u32> {
        let mut ids: Vec<u32> = (0..corpus.len() as u32).collect();
        let score = |&id: &u32| score(corpus, question, query, id as usize);
        ids.sort_by(|a, b| score(b).total_cmp(&score(a)));
        ids.truncate(question.k());
        ids
    }

    #[test]
    fn best_answers_by_a_full_sort_have_a_recall_of_1() {
        let corpus = Corpus::small(300, 4);
        for question in Question::ALL {
            let answers: Vec<_> = corpus.each_query().map(|query| sorted(&corpus, question, query)).collect();
            let truth = Truth::of(&corpus, question).expect("no file");
            let found = truth.judge(&corpus, &answers, Promise::Exact);
            assert_eq!(found, Found { recall: 1.0, malformed: 0 }, "{question:?}");
        }
    }

    #[test]
    fn one_wrong_memory_lowers_the_recall_and_a_double_is_malformed() {
        let corpus = Corpus::small(300, 2);
        let truth = Truth::of(&corpus, Question::Similarity).expect("no file");
        let mut answers: Vec<_> =
            corpus.each_query().map(|query| sorted(&corpus, Question::Similarity, query)).collect();
        let wrong =
            (0..300).find(|id| !sorted(&corpus, Question::Similarity, &corpus.queries[..DIMENSIONS]).contains(id));
        answers[0][9] = wrong.expect("290 others");
        assert_eq!(truth.judge(&corpus, &answers, Promise::Measured), Found { recall: 0.95, malformed: 0 });
        answers[0][9] = answers[0][0];
        assert_eq!(truth.judge(&corpus, &answers, Promise::Measured), Found { recall: 0.95, malformed: 1 });
    }

    #[test]
    fn age_and_recurrence_change_the_best_answer() {
        let corpus = Corpus::small(300, 1);
        let query = &corpus.queries[..DIMENSIONS];
        assert_ne!(sorted(&corpus, Question::Composite, query), sorted(&corpus, Question::Similarity, query));
    }
}
