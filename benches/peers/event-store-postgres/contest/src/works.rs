//! One operation is one append.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Bench, BenchError};

use crate::Contender;
use crate::setting::Setting;

/// What contenders do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// So many writers, each with a stream of its own.
    Writers(usize),
}

/// All works.
pub const WORKS: [Work; 2] = [Work::Writers(1), Work::Writers(64)];

impl Work {
    /// The id of this work's benchmark for one contender.
    #[must_use]
    pub fn id(self, peer: &str) -> String {
        format!("peers/event-store-postgres/{self}/{peer}")
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Writers(writers) = self;
        write!(f, "append/writers-{writers}")
    }
}

/// Appends of a writer in a round.
const APPENDS: u64 = 16;

/// A store and those who write through it.
struct Party<C: Contender> {
    store: Arc<C>,
    writers: Vec<C::Writer>,
}

impl<C: Contender> Party<C> {
    async fn open(setting: &Setting, connections: u32, writers: usize, first: &mut u64) -> Result<Self, BenchError> {
        let store = C::open(&setting.database, connections).await.map_err(BenchError::Invalid)?;
        let numbers = *first..*first + writers as u64;
        *first = numbers.end;
        Ok(Self { writers: numbers.map(|number| store.writer(number)).collect(), store: Arc::new(store) })
    }

    async fn round(&mut self) -> Duration {
        let start = Instant::now();
        if let [writer] = &mut self.writers[..] {
            for _ in 0..APPENDS {
                self.store.append(writer).await;
            }
            return start.elapsed();
        }
        let tasks = self.writers.drain(..).map(|mut writer| {
            let store = Arc::clone(&self.store);
            tokio::spawn(async move {
                for _ in 0..APPENDS {
                    store.append(&mut writer).await;
                }
                writer
            })
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            self.writers.push(task.await.expect("a writer does not panic"));
        }
        start.elapsed()
    }
}

pub(crate) fn measure<C: Contender>(bench: &mut Bench, work: Work) -> Result<(), BenchError> {
    let Work::Writers(writers) = work;
    let setting = if writers == 1 { Setting::alone()? } else { Setting::threaded()? };
    bench.note(setting.server.report().to_string());
    let (mut first, mut appended) = (0, 0);
    let a_round = APPENDS * writers as u64;
    let sizes: &[u32] = if writers == 1 { &[1] } else { C::CONNECTIONS };
    let mut best: Option<(Duration, u32, Party<C>)> = None;
    for &connections in sizes {
        let (party, time) = setting.runtime.block_on(async {
            let mut party = Party::<C>::open(&setting, connections, writers, &mut first).await?;
            // The first round opens connections and prepares statements.
            party.round().await;
            let time = party.round().await.min(party.round().await);
            Ok::<_, BenchError>((party, time))
        })?;
        appended += 3 * a_round;
        if best.as_ref().is_none_or(|(least, ..)| time < *least) {
            best = Some((time, connections, party));
        }
    }
    let (_, connections, mut party) = best.expect("a number of connections");
    bench.note(format!("at most {connections} connections"));
    let rounds = bench.rounds(|| (setting.runtime.block_on(party.round()), a_round))?;
    appended += rounds * a_round;
    let counted = setting.runtime.block_on(async {
        let client = setting.database.connect().await.map_err(|error| BenchError::Invalid(error.to_string()))?;
        let row = client.query_one(C::COUNT, &[]).await.map_err(|error| BenchError::Invalid(error.to_string()))?;
        Ok::<i64, BenchError>(row.get(0))
    })?;
    bench.proof(appended, counted);
    Ok(())
}
