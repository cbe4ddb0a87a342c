//! Rivals that know similarity alone: what they fetch is re-ranked.

use crate::formula::recurrence_term;
use crate::rank::Ranks;
use crate::{Corpus, FileError, NOW_HOURS, PREFETCH, Promise, Question, Setting, Truth};

/// The recall that is asked for before times are compared.
const ENOUGH: f64 = 0.99;

/// A memory and its similarity, as a rival sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The memory, by its order.
    pub id: u32,
    /// The cosine of its vector and the query.
    pub similarity: f32,
}

/// Finds what is most similar.
pub trait Finds: Sized + 'static {
    /// How it is set up and called; every report repeats it.
    const NOTE: &'static str;
    /// Settings for the 10 most similar, the cheapest first; the first one is taken whose recall is at least 0.99, else the last.
    const SETTINGS: &'static [Setting];

    /// Not timed.
    ///
    /// # Errors
    /// Why there is no index.
    fn open(corpus: &Corpus) -> Result<Self, String>;

    /// Not timed: how many candidates are kept while it looks.
    fn expand(&mut self, _expansion: usize) {}

    /// Timed: the `k` most similar to `query`, appended to `found`.
    fn find(&mut self, query: &[f32], k: usize, found: &mut Vec<Candidate>);
}

/// Answers a question by what [`Finds`] has found.
pub(crate) struct Reranked<F> {
    finds: F,
    question: Question,
    setting: Setting,
    corpus: Corpus,
    /// What does not change with the question is kept ready.
    recurrence: Vec<f32>,
    found: Vec<Candidate>,
}

impl<F: Finds> Reranked<F> {
    /// With the first setting that finds enough, or for composite scores with a prefetch.
    pub(crate) fn open(question: Question, prefetch: Option<usize>) -> Result<Self, String> {
        let said = |error: FileError| error.to_string();
        let corpus = Corpus::shared().map_err(said)?;
        let finds = F::open(&corpus)?;
        let mut ranks = Self::of(finds, question, corpus);
        if question.is_composite() {
            let fetch = prefetch.unwrap_or(PREFETCH);
            // A graph has to keep as many candidates as are fetched, and for a few of them more.
            ranks.set(Setting { expansion: fetch.max(256), fetch });
            return Ok(ranks);
        }
        let truth = Truth::of(&ranks.corpus, question).map_err(said)?;
        for &setting in F::SETTINGS {
            ranks.set(setting);
            let answers = ranks.answers();
            if truth.judge(&ranks.corpus, &answers, Promise::Measured).recall >= ENOUGH {
                break;
            }
        }
        Ok(ranks)
    }

    fn of(finds: F, question: Question, corpus: Corpus) -> Self {
        let recurrence = corpus.times.iter().map(|&times| recurrence_term(times) as f32).collect();
        let setting = Setting { expansion: question.k(), fetch: question.k() };
        Self { finds, question, setting, corpus, recurrence, found: Vec::new() }
    }

    fn set(&mut self, setting: Setting) {
        self.finds.expand(setting.expansion);
        self.setting = setting;
    }

    fn answers(&mut self) -> Vec<Vec<u32>> {
        let queries = self.corpus.queries.clone();
        queries.chunks_exact(crate::DIMENSIONS).map(|query| self.answer(query)).collect()
    }

    fn answer(&mut self, query: &[f32]) -> Vec<u32> {
        self.found.clear();
        self.finds.find(query, self.setting.fetch, &mut self.found);
        let k = self.question.k().min(self.found.len());
        if self.question.is_composite() {
            for candidate in &mut self.found {
                let id = candidate.id as usize;
                let age = (NOW_HOURS - self.corpus.hours[id]) as f32;
                let temporal = 0.3 * (-0.1 * age).exp();
                candidate.similarity = 0.5 * candidate.similarity + temporal + self.recurrence[id];
            }
        } else if self.setting.fetch > self.question.k() {
            for candidate in &mut self.found {
                candidate.similarity = dot(query, self.corpus.vector(candidate.id as usize));
            }
        }
        let highest_first = |a: &Candidate, b: &Candidate| b.similarity.total_cmp(&a.similarity);
        if k < self.found.len() && k > 0 {
            self.found.select_nth_unstable_by(k - 1, highest_first);
        }
        self.found[..k].sort_unstable_by(highest_first);
        self.found[..k].iter().map(|candidate| candidate.id).collect()
    }
}

impl<F: Finds> Ranks for Reranked<F> {
    const PROMISE: Promise = Promise::Measured;

    fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    fn note(&self) -> String {
        format!("{}; {}", F::NOTE, self.setting)
    }

    fn best(&mut self, query: &[f32], _k: usize) -> Vec<u32> {
        self.answer(query)
    }
}

/// In sixteen sums, so that it is done several at a time.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 16];
    for (a, b) in a.as_chunks::<16>().0.iter().zip(b.as_chunks::<16>().0) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with everything.
    struct Everything(Vec<f32>);

    impl Finds for Everything {
        const NOTE: &'static str = "everything";
        const SETTINGS: &'static [Setting] = &[];

        fn open(corpus: &Corpus) -> Result<Self, String> {
            Ok(Self(corpus.vectors.clone()))
        }

        fn find(&mut self, query: &[f32], k: usize, found: &mut Vec<Candidate>) {
            let vectors = self.0.chunks_exact(crate::DIMENSIONS).enumerate();
            found.extend(vectors.map(|(id, vector)| Candidate { id: id as u32, similarity: dot(query, vector) }));
            found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
            found.truncate(k);
        }
    }

    fn recall(question: Question, fetch: usize) -> f64 {
        let corpus = Corpus::small(400, 5);
        let truth = Truth::of(&corpus, question).expect("no file");
        let mut ranks = Reranked::of(Everything::open(&corpus).expect("vectors"), question, corpus);
        ranks.set(Setting { expansion: 0, fetch });
        let answers = ranks.answers();
        let found = truth.judge(&ranks.corpus, &answers, Promise::Measured);
        assert_eq!(found.malformed, 0);
        found.recall
    }

    #[test]
    fn what_is_fetched_whole_is_ranked_exactly() {
        assert_eq!(recall(Question::Composite, 400), 1.0);
        assert_eq!(recall(Question::Original, 400), 1.0);
        assert_eq!(recall(Question::Similarity, 10), 1.0);
        assert_eq!(recall(Question::Similarity, 40), 1.0);
    }

    #[test]
    fn what_is_fetched_by_similarity_lacks_a_part_of_the_composite_answer() {
        assert!(recall(Question::Composite, 20) < 1.0);
    }
}
