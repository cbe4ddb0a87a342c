//! What the children of `crash` do, and what their parents expect of it: both know it from a seed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use memory_store::{
    Capacity, Config, CriticalFull, Dedup, Durability, ManualClock, Memory, MemoryId, MemoryStore, MergePolicy, Prune,
    Recalled, Recovery, RetentionClass, Timestamp, Update, Written,
};

pub(crate) type Store = MemoryStore<String, ManualClock>;
pub(crate) const DIMENSIONS: usize = 24;
pub(crate) const THREADS: u64 = 2;
/// Memories that both threads write.
pub(crate) const SHARED: u64 = 4;
pub(crate) const INCIDENTS: [&str; 2] = ["storm", "outage"];
/// About as much as 150 memories take, so that now the one limit is reached and now the other.
pub(crate) const MAX_BYTES: u64 = 46_000;
/// Until a store with an interval syncs. The operating system has what was written all the same.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3600);

/// What a directory is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Sync,
    Buffered,
    Interval,
    /// Synced, one thread, and full, by number or by bytes: a new memory takes the place of others.
    Full,
}

pub(crate) const MODES: [Mode; 4] = [Mode::Sync, Mode::Buffered, Mode::Interval, Mode::Full];

impl Mode {
    pub(crate) fn durability(self) -> Durability {
        match self {
            Self::Buffered => Durability::Buffered,
            Self::Interval => Durability::Interval(INTERVAL),
            Self::Sync | Self::Full => Durability::Sync,
        }
    }

    /// Whether all that is reported outlives the process at once.
    pub(crate) fn syncs(self) -> bool {
        self.durability() == Durability::Sync
    }

    pub(crate) fn threads(self) -> u64 {
        if self == Self::Full { 1 } else { THREADS }
    }
}

/// One life of a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) mode: Mode,
    pub(crate) merge: MergePolicy,
    pub(crate) seed: u64,
}

impl Life {
    pub(crate) fn config(&self) -> Config {
        let capacity = match self.mode {
            Mode::Full => {
                Capacity { max_memories: 150, on_critical_full: CriticalFull::Grow, max_bytes: Some(MAX_BYTES) }
            }
            Mode::Sync | Mode::Buffered | Mode::Interval => Capacity::default(),
        };
        let dedup = Dedup { threshold: 0.99, merge: self.merge, ..Dedup::default() };
        Config::builder(DIMENSIONS).dedup(dedup).capacity(capacity).build().expect("a configuration")
    }

    pub(crate) fn open(&self, dir: &Path) -> (Store, Recovery) {
        self.open_with(dir, self.mode.durability())
    }

    pub(crate) fn open_with(&self, dir: &Path, durability: Durability) -> (Store, Recovery) {
        let opened = MemoryStore::open_with(dir, self.config(), durability, ManualClock::default());
        opened.unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    pub(crate) fn encode(&self) -> String {
        let mode = MODES.iter().position(|mode| *mode == self.mode);
        let mode = mode.expect("one of them");
        format!("{mode} {} {}", u8::from(self.merge == MergePolicy::KeepLatest), self.seed)
    }

    pub(crate) fn decode(text: &str) -> Self {
        let mut words = text.split(' ').map(|word| word.parse::<u64>().expect("a number"));
        let mut next = || words.next().expect("three numbers");
        let mode = MODES[next() as usize];
        let merge = [MergePolicy::KeepFirst, MergePolicy::KeepLatest][next() as usize];
        Self { mode, merge, seed: next() }
    }
}

/// A direction that no other seed is close to.
pub(crate) fn direction(seed: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..DIMENSIONS).map(|_| (0..6).map(|_| rng.f32() - 0.5).sum::<f32>()).collect()
}

/// A memory as a script knows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    /// Unknown while the write is under way.
    pub(crate) id: Option<u64>,
    pub(crate) revision: u64,
    pub(crate) turn: u64,
    pub(crate) class: RetentionClass,
    pub(crate) importance: f32,
    pub(crate) weight: f32,
    pub(crate) pinned: bool,
    pub(crate) recurrence: u32,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
    pub(crate) incident: Option<&'static str>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    /// New, or once more.
    Write {
        key: u64,
        class: RetentionClass,
        importance: f32,
        incident: Option<&'static str>,
    },
    Shared(u64),
    Payload {
        key: u64,
        class: RetentionClass,
    },
    Turn {
        key: u64,
    },
    Remove {
        key: u64,
    },
    Pin {
        key: u64,
        pinned: bool,
    },
    Weigh {
        key: u64,
        factor: f32,
    },
    /// Of all that have no importance, which one thread alone writes.
    Prune,
    Snapshot,
    Sync,
    Compact,
}

/// What one thread does, and what it is to find of its own.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) thread: u64,
    pub(crate) life: Life,
    pub(crate) rng: fastrand::Rng,
    pub(crate) kept: BTreeMap<u64, Kept>,
    pub(crate) next_key: u64,
    pub(crate) tick: i64,
    /// Writes of memories that both threads share.
    pub(crate) shared: u64,
}

impl Script {
    /// Begins with what a store holds.
    pub(crate) fn new(thread: u64, life: Life, all: &[Recalled<String>]) -> Self {
        let kept = own(thread, all);
        let next_key = kept.last_key_value().map_or(0, |(key, _)| key + 1);
        let tick = kept.values().map(|kept| kept.last_seen).max().unwrap_or(0);
        let rng = fastrand::Rng::with_seed(life.seed ^ thread << 32);
        Self { thread, life, rng, kept, next_key, tick, shared: 0 }
    }

    pub(crate) fn next(&mut self) -> Operation {
        let rng = &mut self.rng;
        let some = (!self.kept.is_empty()).then(|| {
            let at = rng.usize(..self.kept.len());
            *self.kept.keys().nth(at).expect("one of them")
        });
        let full = self.life.mode == Mode::Full;
        let class = [RetentionClass::Low, RetentionClass::Medium, RetentionClass::High, RetentionClass::Critical]
            [[0, 1, 1, 2, 1, 0, 2, 3][rng.usize(..8)]];
        let importance = if self.thread == 0 && rng.usize(..8) == 0 { 0.0 } else { 0.1 + 0.9 * rng.f32() };
        let incident = [None, None, Some(INCIDENTS[0]), Some(INCIDENTS[1])][rng.usize(..4)];
        let write = Operation::Write { key: self.next_key, class, importance, incident };
        let roll = rng.usize(..200);
        if full {
            // What is evicted a script does not know: it only adds, and now and then a critical memory.
            let class =
                if class == RetentionClass::Critical && !roll.is_multiple_of(4) { RetentionClass::Low } else { class };
            return match roll {
                0..2 => Operation::Snapshot,
                2 => Operation::Compact,
                3..30 => Operation::Shared(roll as u64 % SHARED),
                _ => Operation::Write { key: self.next_key, class, importance: 0.1 + importance * 0.9, incident },
            };
        }
        let Some(key) = some else { return write };
        match roll {
            0..2 => Operation::Snapshot,
            2..5 => Operation::Sync,
            5 => Operation::Compact,
            6..8 if self.thread == 0 => Operation::Prune,
            8..30 => Operation::Shared(roll as u64 % SHARED),
            30..45 => Operation::Payload { key, class },
            45..60 => Operation::Turn { key },
            60..80 => Operation::Remove { key },
            80..86 => Operation::Pin { key, pinned: roll.is_multiple_of(2) },
            86..96 => {
                let factor = if self.kept[&key].weight > 1.0 { 0.5 } else { 1.5 };
                Operation::Weigh { key, factor }
            }
            96..130 => Operation::Write { key, class, importance, incident },
            _ if self.kept.len() > 400 => Operation::Remove { key },
            _ => write,
        }
    }

    pub(crate) fn vector(&self, key: u64, turn: u64) -> Vec<f32> {
        direction(vector_seed(self.thread, key, turn))
    }

    pub(crate) fn payload(&self, key: u64, revision: u64, turn: u64) -> String {
        let length = if revision % 7 == 3 { 3000 } else { 0 };
        format!("{} {key} {revision} {turn} {}", self.thread, "x".repeat(length))
    }

    /// What the operation makes of what there is. `id` is that of a new memory, if it is known.
    pub(crate) fn apply(&mut self, operation: &Operation, id: Option<u64>) {
        self.tick += 1;
        let tick = self.tick;
        match *operation {
            Operation::Write { key, class, importance, incident } => match self.kept.get_mut(&key) {
                Some(kept) => {
                    kept.recurrence += 1;
                    kept.last_seen = tick;
                    kept.class = kept.class.max(class);
                    kept.importance = kept.importance.max(importance);
                    kept.incident = kept.incident.or(incident);
                    kept.revision += u64::from(self.life.merge == MergePolicy::KeepLatest);
                }
                None => {
                    let (first_seen, last_seen) = (tick, tick);
                    let (recurrence, weight, pinned, revision, turn) = (1, 1.0, false, 0, 0);
                    let kept = Kept {
                        id,
                        revision,
                        turn,
                        class,
                        importance,
                        weight,
                        pinned,
                        recurrence,
                        first_seen,
                        last_seen,
                        incident,
                    };
                    self.kept.insert(key, kept);
                    self.next_key = self.next_key.max(key + 1);
                }
            },
            Operation::Shared(_) => self.shared += 1,
            Operation::Payload { key, class } => {
                let kept = self.kept.get_mut(&key).expect("chosen of those");
                kept.class = class;
                kept.revision += 1;
            }
            Operation::Turn { key } => {
                let kept = self.kept.get_mut(&key).expect("chosen of those");
                kept.turn += 1;
                kept.revision += 1;
            }
            Operation::Remove { key } => drop(self.kept.remove(&key)),
            Operation::Pin { key, pinned } => self.kept.get_mut(&key).expect("chosen of those").pinned = pinned,
            Operation::Weigh { key, factor } => self.kept.get_mut(&key).expect("chosen of those").weight *= factor,
            Operation::Prune => self.kept.retain(|_, kept| !is_pruned(kept)),
            Operation::Snapshot | Operation::Sync | Operation::Compact => {}
        }
    }

    /// Does the operation to a store, and says which id a write has.
    pub(crate) fn execute(&self, store: &Store, operation: &Operation) -> Option<u64> {
        let id = |key: &u64| MemoryId(self.kept[key].id.expect("it was written"));
        match operation {
            Operation::Write { key, class, importance, incident } => {
                let kept = self.kept.get(key);
                let (revision, turn) = kept.map_or((0, 0), |kept| (kept.revision + 1, kept.turn));
                let vector = self.vector(*key, turn);
                let mut memory = Memory::new(&vector, self.payload(*key, revision, turn))
                    .at(Timestamp(self.tick + 1))
                    .class(*class)
                    .importance(*importance)
                    .payload_bytes((*key % 7) as u32 * 40);
                if let Some(incident) = incident {
                    memory = memory.incident(incident);
                }
                let written = store.write(memory).expect("written");
                match (written, kept) {
                    (Written::Inserted(_), None) => {}
                    (Written::Merged { id, recurrence, .. }, Some(kept)) => {
                        assert_eq!((Some(id.0), recurrence), (kept.id, kept.recurrence + 1));
                    }
                    (other, _) => panic!("{other:?} of {kept:?}"),
                }
                return Some(written.id().0);
            }
            Operation::Shared(number) => {
                let vector = direction(vector_seed(THREADS, *number, 0));
                let memory = Memory::new(&vector, format!("{THREADS} {number} 0 0 ")).at(Timestamp(5));
                return Some(store.write(memory.importance(1.0).critical()).expect("written").id().0);
            }
            Operation::Payload { key, class } => {
                let kept = &self.kept[key];
                let payload = self.payload(*key, kept.revision + 1, kept.turn);
                assert!(store.update(id(key), Update::new().payload(payload, 9).class(*class)).expect("updated"));
            }
            Operation::Turn { key } => {
                let kept = &self.kept[key];
                let payload = self.payload(*key, kept.revision + 1, kept.turn + 1);
                let vector = self.vector(*key, kept.turn + 1);
                assert!(store.update(id(key), Update::new().payload(payload, 9).vector(&vector)).expect("updated"));
            }
            Operation::Remove { key } => assert!(store.remove(id(key)).expect("removed")),
            Operation::Pin { key, pinned: true } => assert!(store.pin(id(key)).expect("pinned")),
            Operation::Pin { key, pinned: false } => assert!(store.unpin(id(key)).expect("unpinned")),
            Operation::Weigh { key, factor } if *factor > 1.0 => {
                assert!(store.boost(id(key), *factor).expect("boosted"));
            }
            Operation::Weigh { key, factor } => assert!(store.suppress(id(key), *factor).expect("suppressed")),
            Operation::Prune => {
                let report = store.prune(Prune::new().below(1e-9).at(Timestamp::MIN)).expect("pruned");
                let gone = self.kept.values().filter(|kept| is_pruned(kept));
                let (removed, recurrences) =
                    gone.fold((0, 0), |(removed, times), kept| (removed + 1, times + u64::from(kept.recurrence)));
                assert_eq!((report.removed, report.recurrences), (removed, recurrences));
            }
            Operation::Snapshot => store.snapshot().expect("a snapshot"),
            Operation::Sync => store.sync().expect("synced"),
            Operation::Compact => store.compact().expect("compacted"),
        }
        None
    }

    /// Whether a store holds this of the thread's memories, and no other.
    pub(crate) fn is(&self, found: &BTreeMap<u64, Kept>) -> bool {
        self.kept.len() == found.len()
            && self.kept.iter().zip(found).all(|((key, kept), (other, found))| {
                key == other && Kept { id: kept.id.or(found.id), ..kept.clone() } == *found
            })
    }
}

pub(crate) fn is_pruned(kept: &Kept) -> bool {
    kept.importance == 0.0 && !kept.pinned && kept.class != RetentionClass::Critical
}

pub(crate) fn vector_seed(thread: u64, key: u64, turn: u64) -> u64 {
    (thread + 1) << 56 | key << 24 | turn
}

/// Thread, key, revision and turn of a memory.
pub(crate) fn name(memory: &Recalled<String>) -> [u64; 4] {
    let mut words = memory.payload.split(' ');
    std::array::from_fn(|_| words.next().and_then(|word| word.parse().ok()).expect("four numbers"))
}

/// The memories of a thread.
pub(crate) fn own(thread: u64, all: &[Recalled<String>]) -> BTreeMap<u64, Kept> {
    let own = all.iter().filter(|memory| name(memory)[0] == thread);
    own.map(|memory| {
        let [_, key, revision, turn] = name(memory);
        let incident = memory
            .incident
            .as_deref()
            .map(|name| *INCIDENTS.iter().find(|incident| **incident == name).expect("an incident that there is"));
        let kept = Kept {
            id: Some(memory.id.0),
            revision,
            turn,
            class: memory.class,
            importance: memory.importance,
            weight: memory.weight,
            pinned: memory.pinned,
            recurrence: memory.recurrence,
            first_seen: memory.first_seen.0,
            last_seen: memory.last_seen.0,
            incident,
        };
        (key, kept)
    })
    .collect()
}

pub(crate) fn all(store: &Store) -> Vec<Recalled<String>> {
    store.replay(..).expect("a range")
}
