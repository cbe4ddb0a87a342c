//! Vectors one at a time, nothing of which is looked for.

use std::sync::Arc;

use memory_store::{Config, ManualClock, Memory, MemoryStore, Timestamp};
use memory_store_contest::{Appends, Corpus, DIMENSIONS, NOW_HOURS};

pub(crate) struct Growing {
    store: MemoryStore<(), ManualClock>,
    payload: Arc<()>,
}

impl Appends for Growing {
    const NOTE: &'static str = "MemoryStore in memory without duplicate detection";

    fn open(corpus: &Corpus) -> Result<Self, String> {
        let clock = ManualClock::new(Timestamp::from_hours(NOW_HOURS));
        let config = Config::builder(DIMENSIONS).dedup(None).build();
        let store = config.and_then(|config| MemoryStore::with_clock(config, clock));
        let store = store.map_err(|error| error.to_string())?;
        let payload = Arc::new(());
        for memory in 0..corpus.len() {
            let at = Timestamp::from_hours(corpus.hours[memory]);
            let new = Memory::shared(corpus.vector(memory), Arc::clone(&payload)).at(at);
            store.write(new).map_err(|error| error.to_string())?;
        }
        Ok(Self { store, payload })
    }

    fn append(&mut self, _number: usize, vector: &[f32]) {
        self.store.write(Memory::shared(vector, Arc::clone(&self.payload))).expect("there is memory");
    }

    fn count(&self) -> usize {
        self.store.len()
    }
}
