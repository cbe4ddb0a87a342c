//! Durable workflows of three steps that do next to nothing: what is left is what durability costs.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_store_postgres_contest::{Database, Setting};
use harness::{Bench, BenchError};

/// Steps of a workflow.
pub const STEPS: u64 = 3;

/// Workflows of a round: with one client, and of each of many. The slowest contender's round takes seconds.
const ALONE: u64 = 8;
const TOGETHER: u64 = 4;

/// Workflows that survive the process, in PostgreSQL.
pub trait Orchestrates: Sized + Send + Sync + 'static {
    /// What may be set, so that the best is taken.
    type Setting: Copy + Debug + Send + Sync + 'static;
    /// How it is set up and called, and what it does not do; every report repeats it.
    const NOTE: &'static str;
    /// What it may be set to; the fastest is taken, before the clock starts.
    const SETTINGS: &'static [Self::Setting];
    /// Counts those of the workflows with the ids `$1`, an array of texts, that its tables say have completed.
    const COMPLETED: &'static str;

    /// Not timed: an engine on an empty database, ready to run workflows.
    fn open(database: &Database, setting: Self::Setting) -> impl Future<Output = Result<Self, String>> + Send;

    /// Timed: starts a workflow whose steps are [`step`] of 1, 2 and 3, each with the value of the one before it, and waits for its result. Each
    /// value is on disk before the next step begins, and the result before it is returned.
    fn run(&self, id: &str, input: u64) -> impl Future<Output = u64> + Send;

    /// Not timed: ends the engine.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// What a step makes of the value of the one before it.
#[must_use]
pub fn step(number: u64, value: u64) -> u64 {
    value * 3 + number
}

/// What all steps make of a workflow's input.
fn answer(input: u64) -> u64 {
    (1..=STEPS).fold(input, |value, number| step(number, value))
}

fn id(number: u64) -> String {
    format!("order-{number}")
}

/// An engine, the clients that use it, and what they have been told.
struct Party<O> {
    engine: Arc<O>,
    clients: u64,
    /// Workflows that were started.
    started: u64,
    /// Workflows whose result is right.
    right: u64,
}

impl<O: Orchestrates> Party<O> {
    fn new(engine: O, clients: u64) -> Self {
        Self { engine: Arc::new(engine), clients, started: 0, right: 0 }
    }

    fn workflows(&self) -> u64 {
        self.clients * if self.clients == 1 { ALONE } else { TOGETHER }
    }

    async fn round(&mut self) -> Duration {
        let numbers = self.started..self.started + self.workflows();
        self.started = numbers.end;
        let start = Instant::now();
        if self.clients == 1 {
            for number in numbers {
                self.right += u64::from(self.engine.run(&id(number), number).await == answer(number));
            }
            return start.elapsed();
        }
        let clients = (0..self.clients).map(|client| {
            let (engine, mine) = (Arc::clone(&self.engine), numbers.clone().skip(client as usize));
            let mine = mine.step_by(self.clients as usize);
            tokio::spawn(async move {
                let mut right = 0;
                for number in mine {
                    right += u64::from(engine.run(&id(number), number).await == answer(number));
                }
                right
            })
        });
        let clients: Vec<_> = clients.collect();
        for client in clients {
            self.right += client.await.expect("a client does not panic");
        }
        start.elapsed()
    }

    /// Ids of the workflows of the last round.
    fn last(&self) -> Vec<String> {
        (self.started - self.workflows()..self.started).map(id).collect()
    }

    async fn close(self) {
        if let Some(engine) = Arc::into_inner(self.engine) {
            engine.close().await;
        }
    }
}

/// One operation is one workflow, from its start to its result: with one client its latency, with several what each takes of the time of all.
pub(crate) fn measure<O: Orchestrates>(bench: &mut Bench, clients: u64) -> Result<(), BenchError> {
    bench.note(O::NOTE);
    let on = if clients == 1 { Setting::alone()? } else { Setting::threaded()? };
    bench.note(on.server.report().to_string());
    let setting = on.runtime.block_on(fastest::<O>(&on, clients))?;
    bench.note(format!("{setting:?}"));
    let (mut party, database) = on.runtime.block_on(seat::<O>(&on, setting, clients))?;
    bench.rounds(|| {
        let elapsed = on.runtime.block_on(party.round());
        (elapsed, party.workflows())
    })?;
    let completed = on.runtime.block_on(completed::<O>(&database, &party.last()))?;
    let said = |right, completed| format!("{right} right results, {completed} completed in the last round");
    bench.proof(said(party.started, party.workflows() as i64), said(party.right, completed));
    on.runtime.block_on(party.close());
    Ok(())
}

/// A party on a database of its own, which goes with it.
async fn seat<O: Orchestrates>(
    on: &Setting,
    setting: O::Setting,
    clients: u64,
) -> Result<(Party<O>, Database), BenchError> {
    let database = on.server.database().await.map_err(|error| BenchError::Invalid(error.to_string()))?;
    let engine = O::open(&database, setting).await.map_err(BenchError::Invalid)?;
    Ok((Party::new(engine, clients), database))
}

/// The setting that is the fastest with so many clients; one engine is open at a time.
async fn fastest<O: Orchestrates>(on: &Setting, clients: u64) -> Result<O::Setting, BenchError> {
    if let &[setting] = O::SETTINGS {
        return Ok(setting);
    }
    let mut best: Option<(Duration, O::Setting)> = None;
    for &setting in O::SETTINGS {
        let (mut party, _database) = seat::<O>(on, setting, clients).await?;
        // The first round opens connections and prepares statements.
        party.round().await;
        let time = party.round().await.min(party.round().await);
        party.close().await;
        if best.is_none_or(|(least, _)| time < least) {
            best = Some((time, setting));
        }
    }
    best.map(|(_, setting)| setting).ok_or_else(|| BenchError::Invalid("there is no setting".to_owned()))
}

async fn completed<O: Orchestrates>(database: &Database, ids: &[String]) -> Result<i64, BenchError> {
    let invalid = |error: &dyn std::error::Error| BenchError::Invalid(error.to_string());
    let client = database.connect().await.map_err(|error| invalid(&error))?;
    let row = client.query_one(O::COMPLETED, &[&ids]).await.map_err(|error| invalid(&error))?;
    Ok(row.get(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Runs so many of the steps, in memory.
    struct InMemory {
        steps: u64,
        ids: Mutex<Vec<String>>,
    }

    impl Orchestrates for InMemory {
        type Setting = u64;
        const NOTE: &'static str = "in memory";
        const SETTINGS: &'static [u64] = &[STEPS];
        const COMPLETED: &'static str = "";

        async fn open(_: &Database, steps: u64) -> Result<Self, String> {
            Ok(Self { steps, ids: Mutex::default() })
        }

        async fn run(&self, id: &str, input: u64) -> u64 {
            self.ids.lock().expect("no panic").push(id.to_owned());
            (1..=self.steps).fold(input, |value, number| step(number, value))
        }

        async fn close(self) {}
    }

    fn party(steps: u64, clients: u64) -> Party<InMemory> {
        Party::new(InMemory { steps, ids: Mutex::default() }, clients)
    }

    fn rounds(party: &mut Party<InMemory>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
        for _ in 0..2 {
            runtime.block_on(party.round());
        }
    }

    #[test]
    fn every_workflow_of_every_client_is_another_one_and_its_result_is_seen() {
        for (clients, workflows) in [(1, 2 * ALONE), (64, 2 * 64 * TOGETHER)] {
            let mut party = party(STEPS, clients);
            rounds(&mut party);
            assert_eq!((party.started, party.right), (workflows, workflows));
            let mut ids = party.engine.ids.lock().expect("no panic").clone();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len() as u64, workflows);
            assert!(party.last().iter().all(|id| ids.binary_search(id).is_ok()));
            assert_eq!(party.last().len() as u64, workflows / 2);
        }
    }

    #[test]
    fn an_engine_that_leaves_a_step_out_has_no_right_result() {
        for clients in [1, 64] {
            let mut party = party(STEPS - 1, clients);
            rounds(&mut party);
            assert_eq!(party.right, 0);
        }
    }

    #[test]
    fn steps_in_another_order_have_another_result() {
        assert_ne!(answer(7), [2, 1, 3].into_iter().fold(7, |value, number| step(number, value)));
    }
}
