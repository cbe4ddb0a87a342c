//! A store that tells of what it does (features `tracing` and `metrics`).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::append::{Append, Appended};
use crate::error::{AppendError, ReadError, RemoveError};
use crate::event::{Position, StreamVersion};
use crate::name::StreamId;
use crate::query::Query;
use crate::read::{Read, Source};
use crate::recorded::RecordedEvent;
use crate::snapshot::{Snapshot, SnapshotError, SnapshotStore};
use crate::store::EventStore;
use crate::subscription::{Feed, More, Page, Subscribe, Subscription};

/// A store with a span, by the `tracing` facade, and figures, by the `metrics` facade, for each append, each read, and each page that a
/// subscription takes. Which of the two is told is up to the features; without both this type does not exist.
///
/// | spans at level debug | fields |
/// |---|---|
/// | `event_store.append` | `streams`, `events`, `outcome`; `first_position` and `last_position` where it was applied |
/// | `event_store.read` | `source` (`stream`, `all`, `query`), `backwards`, `events`, `outcome` |
/// | `event_store.page` | `events`, `outcome` |
///
/// | figure | kind | what |
/// |---|---|---|
/// | `event_store_appends_total{outcome}` | counter | appends: `appended`, `deduplicated`, `checked` (without events), `wrong_version`, `condition_failed`, `duplicate_id`, `too_large`, `unavailable`, `unknown`, `poisoned`, `cancelled` (dropped before its answer) |
/// | `event_store_appended_events_total` | counter | events of appends that wrote them |
/// | `event_store_append_seconds` | histogram | from the first poll to the answer |
/// | `event_store_reads_total{outcome}` | counter | reads: `complete`, `failed`, `stopped` (dropped before their end) |
/// | `event_store_read_events_total` | counter | events that reads yielded |
/// | `event_store_read_seconds` | histogram | from the first poll to the end, the reader's own time included |
/// | `event_store_pages_total{outcome}` | counter | pages of subscriptions: `filled`, `empty`, `failed`, `stopped` |
/// | `event_store_page_events_total` | counter | events on these pages |
/// | `event_store_page_seconds` | histogram | from the first poll to the page |
///
/// No figure has a label that grows with the data: no stream, no type, no tag. Removals, looks at a head or a version, and snapshots pass
/// unobserved.
///
/// # Cost
/// With `metrics` two reads of the clock and three updates an operation; with `tracing` a span an operation, which is next to nothing where no
/// subscriber wants it; a read allocates once more.
///
/// ```
/// use event_store::{MemoryStore, Observed};
///
/// let store = Observed::new(MemoryStore::new());
/// ```
#[derive(Debug)]
pub struct Observed<S> {
    store: S,
}

impl<S> Observed<S> {
    /// `store`, observed.
    pub fn new(store: S) -> Self {
        Self { store }
    }

    /// The store itself, which tells nothing.
    pub fn inner(&self) -> &S {
        &self.store
    }
}

impl<S: EventStore> EventStore for Observed<S> {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let (streams, events) = (append.expectations().len(), append.len() as u64);
        let mut operation = Operation::append(streams, events);
        let mut appending = pin!(self.store.append(append));
        let answer = poll_fn(|context| operation.enter(|| appending.as_mut().poll(context))).await;
        operation.appended(&answer, events);
        answer
    }

    fn read(&self, read: Read) -> impl Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        let source = match read.source() {
            Source::Stream { .. } => "stream",
            Source::Store { query: Query::All, .. } => "all",
            Source::Store { .. } => "query",
        };
        let backwards = read.is_backwards();
        ObservedRead { events: Box::pin(self.store.read(read)), source, backwards, operation: None, is_over: false }
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        self.store.subscribe(subscribe).map_feed(|feed| Box::new(ObservedFeed { feed, operation: None }))
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.store.head().await
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        self.store.stream_version(stream).await
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        self.store.truncate_stream(stream, before).await
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        self.store.delete_stream(stream).await
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self) -> Option<&crate::PostgresStore> {
        self.store.postgres()
    }
}

impl<S: SnapshotStore> SnapshotStore for Observed<S> {
    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), SnapshotError> {
        self.store.save_snapshot(snapshot).await
    }

    async fn load_snapshot(&self, stream: &StreamId, schema_version: u16) -> Result<Option<Snapshot>, SnapshotError> {
        self.store.load_snapshot(stream, schema_version).await
    }
}

struct ObservedRead<R> {
    events: Pin<Box<R>>,
    source: &'static str,
    backwards: bool,
    /// From the first poll to the end.
    operation: Option<Operation>,
    is_over: bool,
}

impl<R: Stream<Item = Result<RecordedEvent, ReadError>>> Stream for ObservedRead<R> {
    type Item = Result<RecordedEvent, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.is_over {
            return this.events.as_mut().poll_next(context);
        }
        let operation = this.operation.get_or_insert_with(|| Operation::read(this.source, this.backwards));
        let next = ready!(operation.enter(|| this.events.as_mut().poll_next(context)));
        match &next {
            Some(Ok(_)) => operation.events += 1,
            end => {
                operation.outcome = if end.is_some() { "failed" } else { "complete" };
                this.is_over = true;
                this.operation = None;
            }
        }
        Poll::Ready(next)
    }
}

struct ObservedFeed {
    feed: Box<dyn Feed>,
    /// While a page is taken.
    operation: Option<Operation>,
}

impl Feed for ObservedFeed {
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Position>, ReadError>> {
        self.feed.poll_head(context)
    }

    fn poll_page(
        &mut self,
        context: &mut Context<'_>,
        after: Option<Position>,
        query: &Query,
        limit: u64,
    ) -> Poll<Result<Page, ReadError>> {
        let operation = self.operation.get_or_insert_with(Operation::page);
        let page = ready!(operation.enter(|| self.feed.poll_page(context, after, query, limit)));
        (operation.outcome, operation.events) = match &page {
            Ok(page) if page.events.is_empty() => ("empty", 0),
            Ok(page) => ("filled", page.events.len() as u64),
            Err(_) => ("failed", 0),
        };
        self.operation = None;
        Poll::Ready(page)
    }

    fn poll_more(&mut self, context: &mut Context<'_>, after: Option<Position>) -> Poll<More> {
        self.feed.poll_more(context, after)
    }
}

/// What is told of an operation, when it ends or is dropped.
struct Operation {
    #[cfg(feature = "metrics")]
    figures: Figures,
    #[cfg(feature = "metrics")]
    began: std::time::Instant,
    #[cfg(feature = "tracing")]
    span: tracing::Span,
    /// Whether the span is told how many events there were when it ends: that of an append knows from the start.
    #[cfg(feature = "tracing")]
    tells_events: bool,
    /// What it has come to, if it ended now.
    outcome: &'static str,
    events: u64,
}

/// The names of an operation's figures.
#[cfg(feature = "metrics")]
struct Figures {
    operations: &'static str,
    events: &'static str,
    seconds: &'static str,
}

impl Operation {
    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "for the span"))]
    fn append(streams: usize, events: u64) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            figures: Figures {
                operations: "event_store_appends_total",
                events: "event_store_appended_events_total",
                seconds: "event_store_append_seconds",
            },
            #[cfg(feature = "metrics")]
            began: std::time::Instant::now(),
            #[cfg(feature = "tracing")]
            span: tracing::debug_span!(
                "event_store.append",
                streams,
                events,
                outcome = tracing::field::Empty,
                first_position = tracing::field::Empty,
                last_position = tracing::field::Empty
            ),
            #[cfg(feature = "tracing")]
            tells_events: false,
            outcome: "cancelled",
            events: 0,
        }
    }

    #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "for the span"))]
    fn read(source: &'static str, backwards: bool) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            figures: Figures {
                operations: "event_store_reads_total",
                events: "event_store_read_events_total",
                seconds: "event_store_read_seconds",
            },
            #[cfg(feature = "metrics")]
            began: std::time::Instant::now(),
            #[cfg(feature = "tracing")]
            span: tracing::debug_span!(
                "event_store.read",
                source,
                backwards,
                events = tracing::field::Empty,
                outcome = tracing::field::Empty
            ),
            #[cfg(feature = "tracing")]
            tells_events: true,
            outcome: "stopped",
            events: 0,
        }
    }

    fn page() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            figures: Figures {
                operations: "event_store_pages_total",
                events: "event_store_page_events_total",
                seconds: "event_store_page_seconds",
            },
            #[cfg(feature = "metrics")]
            began: std::time::Instant::now(),
            #[cfg(feature = "tracing")]
            span: tracing::debug_span!(
                "event_store.page",
                events = tracing::field::Empty,
                outcome = tracing::field::Empty
            ),
            #[cfg(feature = "tracing")]
            tells_events: true,
            outcome: "stopped",
            events: 0,
        }
    }

    /// Does a part of the operation inside its span.
    #[cfg_attr(not(feature = "tracing"), expect(clippy::unused_self, reason = "for the span"))]
    fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        #[cfg(feature = "tracing")]
        let _entered = self.span.enter();
        work()
    }

    fn appended(&mut self, answer: &Result<Appended, AppendError>, events: u64) {
        self.outcome = match answer {
            Ok(appended) if appended.deduplicated => "deduplicated",
            Ok(Appended { positions: None, .. }) => "checked",
            Ok(_) => {
                self.events = events;
                "appended"
            }
            Err(AppendError::WrongExpectedVersion { .. }) => "wrong_version",
            Err(AppendError::ConditionFailed { .. }) => "condition_failed",
            Err(AppendError::DuplicateEventId { .. }) => "duplicate_id",
            Err(AppendError::TooLarge { .. }) => "too_large",
            Err(AppendError::Unavailable(_)) => "unavailable",
            Err(AppendError::Unknown(_)) => "unknown",
            Err(AppendError::Poisoned) => "poisoned",
        };
        #[cfg(feature = "tracing")]
        if let Ok(Appended { positions: Some((first, last)), .. }) = answer {
            self.span.record("first_position", first.get());
            self.span.record("last_position", last.get());
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        #[cfg(feature = "tracing")]
        {
            self.span.record("outcome", self.outcome);
            if self.tells_events {
                self.span.record("events", self.events);
            }
        }
        #[cfg(feature = "metrics")]
        {
            let Figures { operations, events, seconds } = self.figures;
            metrics::counter!(operations, "outcome" => self.outcome).increment(1);
            if self.events > 0 {
                metrics::counter!(events).increment(self.events);
            }
            metrics::histogram!(seconds).record(self.began.elapsed().as_secs_f64());
        }
    }
}
