//! A small batcher, exactly: which items wait, which run together, and what each caller is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{End, Gated, Running, Watched, settle};
use fastrand::Rng;
use swarm_batcher::{BatchError, Batcher, BatcherBuilder, CallOptions, OnFull, Reason};

/// Operations of a sequence.
const OPERATIONS: usize = 40;

type Ours = Batcher<u64, u64, String>;
type Letter = (u64, BatchError<String>);
type Told = Result<Option<u64>, BatchError<String>>;

/// What is expected of a batcher.
struct Model {
    max_batch: usize,
    max_in_flight: usize,
    max_items: usize,
    on_full: OnFull,
    lines: Vec<VecDeque<u64>>,
    running: Vec<Vec<u64>>,
    /// Pushes that wait for room, in order.
    waiting: Vec<u64>,
    open: bool,
    /// Who waits for what, and the level of those in line.
    callers: BTreeMap<u64, Kind>,
    /// What callers have to be told, and what the dead-letter sink has to get.
    told: BTreeMap<u64, Told>,
    letters: Vec<Letter>,
    accepted: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Called,
    Pushed,
}

impl Model {
    fn held(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum::<usize>() + self.running.iter().map(Vec::len).sum::<usize>()
    }

    fn has_room(&self) -> bool {
        self.held() - self.waiting.len() < self.max_items
    }

    /// Takes an item, or says why not. `waits`: whether whoever gives it can.
    fn give(&mut self, item: u64, level: usize, kind: Kind, waits: bool) -> Result<(), Reason> {
        if !self.open {
            return Err(Reason::Closed);
        }
        let mut room = self.waiting.is_empty() && self.has_room();
        if !room && self.on_full == OnFull::ShedOldest {
            while !self.has_room() {
                let Some(oldest) = self.lines.iter_mut().find_map(VecDeque::pop_front) else { break };
                self.end(oldest, Err(BatchError::Rejected(Reason::Shed)));
            }
            room = self.has_room();
        }
        let waits = self.on_full == OnFull::Wait && waits;
        if !room && !waits {
            return Err(Reason::Full);
        }
        if kind == Kind::Pushed {
            if room {
                self.told.insert(item, Ok(None));
            } else {
                self.waiting.push(item);
            }
        }
        self.accepted += 1;
        self.callers.insert(item, kind);
        self.lines[level].push_back(item);
        Ok(())
    }

    /// An item has ended.
    fn end(&mut self, item: u64, outcome: Result<u64, BatchError<String>>) {
        match self.callers.remove(&item) {
            Some(Kind::Called) => drop(self.told.insert(item, outcome.map(Some))),
            Some(Kind::Pushed) => self.letters.extend(outcome.err().map(|error| (item, error))),
            None => {}
        }
    }

    /// Batches start while they can.
    fn start(&mut self) {
        while self.running.len() < self.max_in_flight {
            let mut batch = Vec::new();
            while batch.len() < self.max_batch {
                let Some(item) = self.lines.iter_mut().rev().find_map(VecDeque::pop_front) else { break };
                if let Some(place) = self.waiting.iter().position(|&waiting| waiting == item) {
                    self.waiting.remove(place);
                    self.told.insert(item, Ok(None));
                }
                batch.push(item);
            }
            if batch.is_empty() {
                return;
            }
            self.running.push(batch);
        }
    }

    fn admit(&mut self) {
        while !self.waiting.is_empty() && self.has_room() {
            let item = self.waiting.remove(0);
            self.told.insert(item, Ok(None));
        }
    }

    fn finish(&mut self, place: usize, end: &End) {
        let batch = self.running.remove(place);
        for (&item, outcome) in batch.iter().zip(end.outcomes(&batch)) {
            self.end(item, outcome);
        }
        self.admit();
    }

    fn cancel(&mut self, item: u64) {
        for line in &mut self.lines {
            line.retain(|&waiting| waiting != item);
        }
        self.waiting.retain(|&waiting| waiting != item);
        self.callers.remove(&item);
        self.admit();
    }
}

struct Run {
    rng: Rng,
    batcher: Ours,
    gated: Gated,
    running: Vec<Running>,
    model: Model,
    futures: BTreeMap<u64, Watched<Told>>,
    letters: Arc<Mutex<Vec<Letter>>>,
    next: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let on_full = [OnFull::Wait, OnFull::Reject, OnFull::ShedOldest][rng.usize(0..3)];
        let levels = rng.usize(1..=3);
        let (max_batch, max_in_flight, max_items) = (rng.usize(1..=4), rng.usize(1..=3), rng.usize(1..=10));
        let gated = Gated::default();
        let letters = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&letters);
        let builder: BatcherBuilder<u64, u64, String> = Batcher::builder(gated.clone());
        let batcher = builder
            .max_batch_items(max_batch)
            .max_in_flight(max_in_flight)
            .max_queue_items(max_items)
            .on_full(on_full)
            .priority_levels(levels as u8)
            .dead_letter(move |letter| {
                let item = letter.item.expect("the handler takes none");
                sink.lock().expect("no panic under it").push((item, letter.error));
            })
            .build()
            .expect("valid");
        let model = Model {
            max_batch,
            max_in_flight,
            max_items,
            on_full,
            lines: vec![VecDeque::new(); levels],
            running: Vec::new(),
            waiting: Vec::new(),
            open: true,
            callers: BTreeMap::new(),
            told: BTreeMap::new(),
            letters: Vec::new(),
            accepted: 0,
        };
        Self { rng, batcher, gated, running: Vec::new(), model, futures: BTreeMap::new(), letters, next: 0 }
    }

    async fn step(&mut self) {
        let item = self.next;
        let level = self.rng.usize(0..self.model.lines.len());
        let options = CallOptions::new().level(level as u8);
        let batcher = self.batcher.clone();
        match self.rng.u32(0..100) {
            0..20 => {
                let future = Watched::new(async move { batcher.with(options).call(item).await.map(Some) });
                let given = self.model.give(item, level, Kind::Called, true);
                self.given(item, future, given);
            }
            20..35 => match batcher.with(options).submit(item) {
                Ok(receipt) => {
                    let given = self.model.give(item, level, Kind::Called, false);
                    assert_eq!(given, Ok(()), "submit");
                    self.given(item, Watched::new(async move { receipt.await.map(Some) }), given);
                }
                Err(rejected) => {
                    assert_eq!(rejected.item, item);
                    assert_eq!(self.model.give(item, level, Kind::Called, false), Err(rejected.reason));
                }
            },
            35..50 => {
                let given = self.model.give(item, level, Kind::Pushed, false);
                self.model.told.remove(&item);
                assert_eq!(batcher.with(options).try_push(item).map_err(|rejected| rejected.reason), given);
            }
            50..65 => {
                let future = Watched::new(async move {
                    let pushed = batcher.with(options).push(item).await;
                    pushed.map(|()| None).map_err(|rejected| {
                        assert_eq!(rejected.item, item, "the item comes back");
                        BatchError::Rejected(rejected.reason)
                    })
                });
                let given = self.model.give(item, level, Kind::Pushed, true);
                self.given(item, future, given);
            }
            65..75 if !self.futures.is_empty() => {
                let place = self.rng.usize(0..self.futures.len());
                let (&item, _) = self.futures.iter().nth(place).expect("so many");
                drop(self.futures.remove(&item));
                if self.model.told.remove(&item).is_none() {
                    self.model.cancel(item);
                }
            }
            75..98 if !self.running.is_empty() => self.end_one(),
            98..100 if self.rng.u32(0..4) == 0 => {
                self.model.open = false;
                let mut shutdown = Watched::new(async move { batcher.shutdown(Duration::ZERO).await });
                let _begun = shutdown.poll();
            }
            _ => {}
        }
        self.next += 1;
        self.check().await;
    }

    fn given(&mut self, item: u64, mut future: Watched<Told>, given: Result<(), Reason>) {
        match (future.poll(), given) {
            (None, Ok(())) => drop(self.futures.insert(item, future)),
            (Some(told), Ok(())) => assert_eq!(self.model.told.remove(&item), Some(told), "item {item}"),
            (told, Err(reason)) => assert_eq!(told, Some(Err(BatchError::Rejected(reason))), "item {item}"),
        }
    }

    fn end_one(&mut self) {
        let place = self.rng.usize(0..self.running.len());
        let running = self.running.remove(place);
        let end = End::random(&mut self.rng, &running.items);
        let batch = self.model.running.iter().position(|batch| *batch == running.items);
        self.model.finish(batch.unwrap_or_else(|| panic!("{:?} do not run together", running.items)), &end);
        running.end(end);
    }

    /// Everything goes as far as it can, then all has to be as the model says.
    async fn check(&mut self) {
        self.model.start();
        settle().await;
        self.running.extend(self.gated.take());
        let mut running: Vec<_> = self.running.iter().map(|running| running.items.clone()).collect();
        let mut expected = self.model.running.clone();
        running.sort();
        expected.sort();
        assert_eq!(running, expected, "what runs");
        let ready: Vec<_> =
            self.futures.iter_mut().filter_map(|(&item, future)| Some((item, future.poll()?))).collect();
        for (item, told) in ready {
            self.futures.remove(&item);
            assert_eq!(self.model.told.remove(&item), Some(told), "item {item}");
        }
        assert!(self.model.told.is_empty(), "not told: {:?}", self.model.told);
        assert_eq!(*self.letters.lock().expect("no panic under it"), self.model.letters);
        let stats = self.batcher.stats();
        assert!(stats.is_balanced(), "{stats:?}");
        assert_eq!(stats.accepted, self.model.accepted);
        assert_eq!((stats.queued + stats.in_flight) as usize, self.model.held(), "{stats:?}");
    }

    /// Everything ends: nothing hangs, nothing is left.
    async fn end(mut self) {
        while !self.running.is_empty() {
            self.end_one();
            self.check().await;
        }
        assert!(self.futures.is_empty(), "callers are left without anything to wait for");
        let report = self.batcher.shutdown(Duration::from_secs(1)).await;
        assert!(report.drained && report.stats.is_balanced() && report.stats.queued + report.stats.in_flight == 0);
    }
}

#[test]
fn random_sequences_do_what_the_model_says() {
    crate::each_seed(|seed| {
        let runtime = crate::runtime();
        runtime.block_on(async {
            let mut run = Run::new(seed);
            for _ in 0..OPERATIONS {
                run.step().await;
            }
            run.end().await;
        });
    });
}
