//! Tells what happens to stamping workflows: from the journal, which is the outbox.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_store::{ApplyError, EventStore, Position, Projection, Query, Read, RecordedEvent, StreamId, StreamVersion};
use futures_util::StreamExt as _;

use super::event::{Publisher, Tracked};
use super::journal::{Change, change, query};
use super::metrics::{StampMetrics, times};

/// Workflows that are remembered, at most. One that is forgotten is read again from its journal.
const REMEMBERED: usize = 4_096;

/// A projection that changes no table: it tells a [`Publisher`] the events of stamping workflows as they come into the journal, and counts.
///
/// So no workflow waits for a publisher or fails by one, nothing is told that is not in the journal, and what a workflow tells has one order.
/// A [`ProjectionRunner`](event_store::ProjectionRunner) runs it: with a [`PgReadModel`](event_store::ReadModel) its place outlives the process,
/// with a `MemoryReadModel<()>` it begins at the first event that the store still has.
///
/// # Delivery
/// At least once, with the same [`Message::id`](super::Message::id): a crash tells the last batch again. A message that fails is tried
/// again with the others of its record, as often as the runner's options say; then its record is parked, listed by the runner, and told when it
/// is asked to ([`ProjectionRunner::retry_parked`](event_store::ProjectionRunner::retry_parked)); those behind it are told meanwhile.
///
/// # Cost
/// No append. One read of a journal for each of its records whose workflow is not among the 4,096 that are remembered.
pub struct Relay<S, P, Tx> {
    store: Arc<S>,
    publisher: P,
    name: String,
    known: Mutex<HashMap<String, Known>>,
    figures: Arc<Mutex<Figures>>,
    tx: PhantomData<fn() -> Tx>,
}

#[derive(Clone)]
struct Known {
    /// The last event of its stream that was looked at.
    version: StreamVersion,
    /// `None` for a workflow of another type.
    tracked: Option<Tracked>,
}

#[derive(Debug, Default)]
struct Figures {
    counts: RelayCounts,
    metrics: StampMetrics,
    /// The last event whose times were counted: a batch that is applied again counts once.
    counted: Option<Position>,
}

/// What a relay has told since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RelayCounts {
    /// Messages that the publisher has taken, those told again included.
    pub published: u64,
    /// Attempts that failed.
    pub failed: u64,
}

/// Looks at a relay that a runner has taken.
#[derive(Debug, Clone)]
pub struct RelayFigures(Arc<Mutex<Figures>>);

impl RelayFigures {
    /// What it has told.
    #[must_use]
    pub fn counts(&self) -> RelayCounts {
        lock(&self.0).counts
    }

    /// How long workflows and their steps took that it has told of.
    #[must_use]
    pub fn metrics(&self) -> StampMetrics {
        lock(&self.0).metrics.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code of anybody else's runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S, P, Tx> std::fmt::Debug for Relay<S, P, Tx> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<S: EventStore, P: Publisher, Tx> Relay<S, P, Tx> {
    /// A relay of the journals in `store`, its projection named `stamping-events`.
    pub fn new(store: Arc<S>, publisher: P) -> Self {
        let name = "stamping-events".to_owned();
        Self { store, publisher, name, known: Mutex::default(), figures: Arc::default(), tx: PhantomData }
    }

    /// The same under another name: for a second relay on one read model.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// What it tells and counts, to be looked at while a runner has it.
    #[must_use]
    pub fn figures(&self) -> RelayFigures {
        RelayFigures(Arc::clone(&self.figures))
    }

    /// The workflow of a stream before `version`; `None` if it is of another type.
    async fn before(
        &self,
        execution: &str,
        stream: &StreamId,
        version: StreamVersion,
    ) -> Result<Option<Tracked>, ApplyError> {
        if let Some(known) = lock(&self.known).get(execution)
            && known.version < version
        {
            return Ok(known.tracked.clone());
        }
        let mut events = pin!(self.store.read(Read::stream(stream.clone())));
        let mut tracked = None;
        while let Some(event) = events.next().await {
            let event = event.map_err(ApplyError::unavailable)?;
            if event.stream_version().is_none_or(|found| found >= version) {
                break;
            }
            // What cannot be read is parked where it stands.
            match change(&event) {
                Ok(Some((_, began @ Change::Began(_)))) => {
                    tracked.insert(Tracked::new(event.time())).apply(&event, execution, began);
                }
                Ok(Some((_, change))) => {
                    if let Some(tracked) = &mut tracked {
                        Tracked::apply(tracked, &event, execution, change);
                    }
                }
                Ok(None) | Err(_) => {}
            }
        }
        Ok(tracked)
    }

    fn remember(&self, execution: &str, known: Known) {
        let mut all = lock(&self.known);
        if all.len() >= REMEMBERED && !all.contains_key(execution) {
            all.clear();
        }
        all.insert(execution.to_owned(), known);
    }
}

impl<S: EventStore, P: Publisher, Tx: Send + 'static> Projection for Relay<S, P, Tx> {
    type Tx = Tx;

    fn name(&self) -> &str {
        &self.name
    }

    fn query(&self) -> Query {
        query()
    }

    async fn apply(&self, _: &mut Tx, event: &RecordedEvent) -> Result<(), ApplyError> {
        let Some((stream, version)) = event.stream() else { return Ok(()) };
        let Some((execution, change)) = change(event)? else { return Ok(()) };
        let tracked = match &change {
            Change::Began(_) => Some(Tracked::new(event.time())),
            Change::BeganOther => None,
            _ => self.before(execution, stream, version).await?,
        };
        let is_end = matches!(change, Change::Completed | Change::Failed(_));
        let Some(mut tracked) = tracked else {
            if is_end {
                lock(&self.known).remove(execution);
            } else {
                self.remember(execution, Known { version, tracked: None });
            }
            return Ok(());
        };
        let times = times(tracked.began, event.time(), &change);
        for message in tracked.apply(event, execution, change) {
            let told = self.publisher.publish(&message).await;
            let mut figures = lock(&self.figures);
            match told {
                Ok(()) => figures.counts.published += 1,
                Err(error) => {
                    figures.counts.failed += 1;
                    drop(figures);
                    lock(&self.known).remove(execution);
                    return Err(ApplyError::event(error));
                }
            }
        }
        if is_end {
            lock(&self.known).remove(execution);
        } else {
            self.remember(execution, Known { version, tracked: Some(tracked) });
        }
        let mut figures = lock(&self.figures);
        if figures.counted < Some(event.position()) {
            figures.counted = Some(event.position());
            figures.metrics.add(times);
        }
        Ok(())
    }
}
