//! Batchers of random options, all of them together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use swarm_batcher::{BatchError, Batcher, CallOptions, Reason, Stats};
use tokio::runtime::Runtime;

use crate::configuration::Configuration;
use crate::ledger::{Given, Ledger, Told};
use crate::support::{End, Gated, Running, Watched, settle};

/// Operations of a sequence.
const OPERATIONS: usize = 40;
/// What takes longer never happens.
const PATIENCE: Duration = Duration::from_secs(10);

type Letter = (u64, BatchError<String>);

struct Run {
    rng: Rng,
    configuration: Configuration,
    batcher: Batcher<u64, u64, String>,
    gated: Gated,
    ledger: Ledger,
    running: Vec<Running>,
    futures: BTreeMap<u64, Watched<Told>>,
    /// Flushes, and the items for which each of them waits.
    flushes: Vec<(Watched<()>, Vec<u64>)>,
    letters: Arc<Mutex<Vec<Letter>>>,
    /// What callers were told and is not written down yet.
    told: Vec<(u64, Told)>,
    next: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        // Waits before retries are drawn from the thread's own numbers.
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed);
        let configuration = Configuration::random(&mut rng);
        let (gated, letters) = (Gated::default(), Arc::new(Mutex::new(Vec::new())));
        let sink: Arc<Mutex<Vec<Letter>>> = Arc::clone(&letters);
        let batcher = configuration.build(gated.clone(), move |letter| {
            let item = letter.item.expect("the handler takes none");
            sink.lock().expect("no panic under it").push((item, letter.error));
        });
        let ledger = Ledger::new(configuration.clone());
        let (running, futures, flushes) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self {
            rng,
            configuration,
            batcher,
            gated,
            ledger,
            running,
            futures,
            flushes,
            letters,
            told: Vec::new(),
            next: 0,
        }
    }

    /// One operation. Everything goes as far as it can then.
    async fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..62 => self.give(),
            62..70 if !self.futures.is_empty() => {
                let place = self.rng.usize(0..self.futures.len());
                let (&item, _) = self.futures.iter().nth(place).expect("so many");
                drop(self.futures.remove(&item));
                self.ledger.left(item);
            }
            70..95 if !self.running.is_empty() => self.end_one(),
            95..98 => self.flush(),
            98 if self.rng.u32(0..4) == 0 => {
                self.ledger.draining();
                let batcher = self.batcher.clone();
                let mut shutdown = Watched::new(async move { batcher.shutdown(PATIENCE).await });
                let _begun = shutdown.poll();
            }
            99 if self.rng.u32(0..4) == 0 => {
                self.ledger.draining();
                self.batcher.shutdown(Duration::ZERO).await;
                self.hear_starts();
                self.ledger.closed();
            }
            _ => {}
        }
        self.settle().await;
    }

    fn give(&mut self) {
        let item = self.next;
        self.next += 1;
        let level = self.rng.u8(0..self.configuration.levels);
        let mut options = CallOptions::new().level(level);
        let hasty = self.rng.u32(0..20) == 0;
        if hasty {
            options = options.deadline(Duration::from_micros(self.rng.u64(0..40)));
        }
        let hasty = hasty || self.configuration.default_deadline.is_some();
        let (batcher, before) = (self.batcher.clone(), self.batcher.stats());
        let at = Instant::now();
        let given = |called, waits| Given { item, called, waits, level, hasty, at };
        let (given, outcome, future) = match self.rng.u32(0..4) {
            0 => {
                let call = Watched::new(async move { batcher.with(options).call(item).await.map(Some) });
                (given(true, true), Ok(()), Some(call))
            }
            1 => match batcher.with(options).submit(item) {
                Ok(receipt) => (given(true, false), Ok(()), Some(Watched::new(async move { receipt.await.map(Some) }))),
                Err(rejected) => (given(true, false), Err(rejected.reason), None),
            },
            2 => (given(false, false), batcher.with(options).try_push(item).map_err(|rejected| rejected.reason), None),
            _ => {
                let push = Watched::new(async move {
                    let pushed = batcher.with(options).push(item).await;
                    pushed.map(|()| None).map_err(|rejected| {
                        assert_eq!(rejected.item, item, "the item comes back");
                        BatchError::Rejected(rejected.reason)
                    })
                });
                (given(false, true), Ok(()), Some(push))
            }
        };
        self.given(given, outcome, future, before);
    }

    fn given(&mut self, given: Given, mut outcome: Result<(), Reason>, future: Option<Watched<Told>>, before: Stats) {
        let mut waits = false;
        if let Some(mut future) = future {
            match future.poll() {
                Some(Err(BatchError::Rejected(reason))) => outcome = Err(reason),
                Some(Ok(None)) => {}
                Some(told) => panic!("{} is told {told:?} at once", given.item),
                None => {
                    waits = !given.called;
                    self.futures.insert(given.item, future);
                }
            }
        }
        let shed = self.hear_sheds();
        self.ledger.give(given, outcome, before, shed);
        if waits {
            self.ledger.waits(given.item);
        }
        self.hear_starts();
    }

    fn end_one(&mut self) {
        let running = self.running.remove(self.rng.usize(0..self.running.len()));
        let end = End::random(&mut self.rng, &running.items);
        self.ledger.end(&running.items, &end);
        running.end(end);
    }

    fn flush(&mut self) {
        let (batcher, items) = (self.batcher.clone(), self.ledger.flushed());
        let mut flush = Watched::new(async move { batcher.flush().await.map(|_| ()).expect("outside of the handler") });
        match flush.poll() {
            Some(()) => {
                assert!(items.iter().all(|&item| self.ledger.may_be_over(item)), "a flush does not wait for {items:?}");
            }
            None => self.flushes.push((flush, items)),
        }
    }

    /// Items that were shed just now.
    fn hear_sheds(&mut self) -> Vec<u64> {
        let shed = BatchError::Rejected(Reason::Shed);
        let mut items: Vec<u64> = self
            .letters
            .lock()
            .expect("no panic under it")
            .extract_if(.., |letter| letter.1 == shed)
            .map(|letter| letter.0)
            .collect();
        items.iter().for_each(|_| self.ledger.shed_letter());
        let told = self.hear_told();
        let (shed, told) = told.into_iter().partition(|(_, told)| told.as_ref().is_err_and(|error| *error == shed));
        self.told = told;
        items.extend(shed.into_iter().map(|(item, _): (u64, Told)| item));
        items
    }

    /// What callers have been told since the last time.
    fn hear_told(&mut self) -> Vec<(u64, Told)> {
        let told: Vec<_> = self.futures.iter_mut().filter_map(|(&item, future)| Some((item, future.poll()?))).collect();
        for (item, _) in &told {
            self.futures.remove(item);
        }
        told
    }

    fn hear_starts(&mut self) {
        for running in self.gated.take() {
            self.ledger.start(&running.items);
            self.running.push(running);
        }
    }

    /// Writes down what has happened. What leaves the line because its time is over does so before others start.
    fn hear(&mut self) {
        let unstarted = |error: &BatchError<String>| {
            matches!(
                error,
                BatchError::Deadline { started: false }
                    | BatchError::Closed { started: false }
                    | BatchError::Rejected(Reason::Full)
            )
        };
        let told = self.hear_told();
        let letters = std::mem::take(&mut *self.letters.lock().expect("no panic under it"));
        let (gone, told): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|(_, told)| told.as_ref().is_err_and(unstarted));
        let (buried, letters): (Vec<_>, Vec<_>) = letters.into_iter().partition(|(_, error)| unstarted(error));
        gone.into_iter().for_each(|(item, told)| self.ledger.told(item, told));
        buried.into_iter().for_each(|(item, error)| self.ledger.letter(item, error));
        self.hear_starts();
        told.into_iter().for_each(|(item, told)| self.ledger.told(item, told));
        letters.into_iter().for_each(|(item, error)| self.ledger.letter(item, error));
        let ledger = &self.ledger;
        self.flushes.retain_mut(|(flush, items)| {
            let over = flush.poll().is_some();
            let left = items.iter().find(|&&item| !ledger.may_be_over(item));
            assert!(!over || left.is_none(), "a flush did not wait for {left:?}");
            !over
        });
    }

    /// What is still to happen, if anything is that needs nobody's help.
    fn undone(&self, stats: Stats) -> Option<String> {
        let flush = self.flushes.iter().find(|(_, items)| items.iter().all(|&item| self.ledger.is_over(item)));
        self.ledger.undone(stats).or_else(|| flush.map(|(_, items)| format!("a flush of {items:?}")))
    }

    /// Waits until nothing is left to happen that needs nobody's help.
    async fn settle(&mut self) {
        let began = Instant::now();
        loop {
            settle().await;
            self.hear();
            let stats = self.batcher.stats();
            match self.undone(stats) {
                None => return self.ledger.check(stats),
                Some(undone) => assert!(began.elapsed() < PATIENCE, "never happens: {undone}; {stats:?}"),
            }
        }
    }

    /// The runtime goes away in the middle of everything, and another one comes.
    fn drop_runtime(&mut self, runtime: Runtime) -> Runtime {
        drop(runtime);
        self.ledger.runtime_dropped();
        self.running.clear();
        self.hear();
        let stats = self.batcher.stats();
        assert_eq!(self.undone(stats), None, "without a runtime");
        assert_eq!(stats.queued + stats.in_flight, 0, "{stats:?}");
        self.ledger.check(stats);
        crate::runtime()
    }

    /// Everything ends: nothing hangs, nothing is left.
    async fn end(mut self) {
        loop {
            self.flush();
            self.settle().await;
            if self.running.is_empty() {
                break;
            }
            self.end_one();
            self.settle().await;
        }
        assert!(self.futures.is_empty(), "callers are left: {:?}", self.ledger);
        let report = self.batcher.shutdown(PATIENCE).await;
        assert!(report.drained, "{report:?}");
        self.hear();
        assert!(self.flushes.is_empty(), "flushes are left: {:?}", self.ledger);
        self.ledger.check_end(report.stats);
    }
}

#[test]
fn random_options_together_do_what_each_of_them_says() {
    crate::each_seed(|seed| {
        let mut runtime = crate::runtime();
        let mut run = Run::new(seed);
        for _ in 0..OPERATIONS {
            if run.rng.usize(0..8 * OPERATIONS) == 0 {
                runtime = run.drop_runtime(runtime);
            }
            runtime.block_on(run.step());
        }
        runtime.block_on(run.end());
    });
}
