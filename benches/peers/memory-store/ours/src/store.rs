//! Questions: every answer is exact.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use memory_store::{
    Config, Dedup, Durability, ManualClock, MatchPick, Memory, MemoryStore, MergePolicy, Query, Recency, Scoring,
    Timestamp, Weights,
};
use memory_store_contest::{Corpus, DIMENSIONS, NOW_HOURS, Promise, Question, Ranks};

/// Nothing but the same vector again is merged.
const SAME: Dedup = Dedup { threshold: 0.999_999, pick: MatchPick::First, merge: MergePolicy::KeepFirst };

type Memories = MemoryStore<(), ManualClock>;

pub(crate) struct Store {
    store: Memories,
    corpus: Corpus,
}

impl Store {
    /// Opened from files, which are written once: a memory that recurs is written as often as it was seen.
    pub(crate) fn open(question: Question) -> Result<Self, String> {
        let corpus = Corpus::shared().map_err(|error| error.to_string())?;
        let folder = corpus.folder().ok_or("a small corpus has no folder")?.join("ours");
        let scoring = Scoring::Additive(weights(question));
        let store = match opened(&folder, scoring, None) {
            Ok(store) if store.len() == corpus.len() => store,
            _ => {
                written(&folder, &corpus).map_err(|error| error.to_string())?;
                opened(&folder, scoring, None)?
            }
        };
        Ok(Self { store, corpus })
    }
}

fn weights(question: Question) -> Weights {
    let original = Weights { importance: 0.0, feedback: 0.0, ..Weights::default() };
    if question.is_composite() {
        return original;
    }
    Weights { similarity: 1.0, temporal: 0.0, recurrence: 0.0, ..original }
}

fn opened(folder: &Path, scoring: Scoring, dedup: Option<Dedup>) -> Result<Memories, String> {
    let config = Config::builder(DIMENSIONS).scoring(scoring).recency(Recency::FirstSeen).dedup(dedup).build();
    let clock = ManualClock::new(Timestamp::from_hours(NOW_HOURS));
    let opened = config.and_then(|config| MemoryStore::open_with(folder, config, Durability::Buffered, clock));
    opened.map(|(store, _)| store).map_err(|error| error.to_string())
}

fn written(folder: &Path, corpus: &Corpus) -> Result<(), Box<dyn std::error::Error>> {
    // Under another name first: what was cut off is never taken for the whole.
    let unfinished = folder.with_extension("tmp");
    for old in [folder, &unfinished] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let payload = Arc::new(());
    let seen = |memory: usize| {
        let at = Timestamp::from_hours(corpus.hours[memory]);
        Memory::shared(corpus.vector(memory), Arc::clone(&payload)).at(at)
    };
    let store = opened(&unfinished, Scoring::default(), None)?;
    for memory in 0..corpus.len() {
        store.write(seen(memory))?;
    }
    store.snapshot()?;
    drop(store);
    let store = opened(&unfinished, Scoring::default(), Some(SAME))?;
    for (memory, &times) in corpus.times.iter().enumerate() {
        for _ in 1..times {
            let written = store.write(seen(memory))?;
            if written.id().0 != memory as u64 + 1 || !written.is_merged() {
                return Err(format!("memory {memory} was taken for another: {written:?}").into());
            }
        }
    }
    store.snapshot()?;
    drop(store);
    fs::rename(&unfinished, folder)?;
    Ok(())
}

impl Ranks for Store {
    const PROMISE: Promise = Promise::Exact;

    fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    fn note(&self) -> String {
        "MemoryStore opened from files, its vectors mapped, one thread a query, `retrieve`: exact, no tolerance"
            .to_owned()
    }

    fn best(&mut self, query: &[f32], k: usize) -> Vec<u32> {
        let retrieved = self.store.retrieve(&Query::new(query, k)).expect("a query of the right dimensions");
        retrieved.hits.iter().map(|hit| hit.id.0 as u32 - 1).collect()
    }
}
