//! Subscriptions: reading from a cursor to the watermark, then waiting for more.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use crate::error::ReadError;
use crate::event::Position;
use crate::query::Query;
use crate::recorded::RecordedEvent;
use crate::sync::{Mutex, MutexGuard};

/// Events that a subscription takes from its store at a time.
const PAGE: u64 = 256;

/// What to subscribe to, and from where.
///
/// ```
/// use std::num::NonZeroU32;
/// use event_store::{EventType, Query, QueryItem, Subscribe};
///
/// let placed = Query::item(QueryItem::types([EventType::new("OrderPlaced")?])?);
/// let subscribe = Subscribe::from_start().query(placed).window(NonZeroU32::new(100).expect("not zero"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a subscription begins when a store is given this"]
pub struct Subscribe {
    start: Start,
    query: Query,
    window: Option<NonZeroU32>,
}

/// Where a subscription begins: for back ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Behind this position; at the first event without one.
    After(Option<Position>),
    /// Behind the head.
    Tail,
}

impl Subscribe {
    /// Every event from the first on.
    pub fn from_start() -> Self {
        Self::of(Start::After(None))
    }

    /// Every event behind `position`: the last one that the subscriber has dealt with. A position beyond the head of the store
    /// is an error of the subscription. The head is taken as for [`Subscribe::tail`].
    pub fn after(position: Position) -> Self {
        Self::of(Start::After(Some(position)))
    }

    /// Every event that is yet to come. The head is taken by the store when it is asked to subscribe if it can tell without
    /// waiting, otherwise when the subscription is first polled.
    pub fn tail() -> Self {
        Self::of(Start::Tail)
    }

    /// Only events that match `query`.
    pub fn query(self, query: Query) -> Self {
        Self { query, ..self }
    }

    /// At most `events` delivered and not yet acknowledged; without a window nothing need be acknowledged.
    pub fn window(self, events: NonZeroU32) -> Self {
        Self { window: Some(events), ..self }
    }

    /// Where it begins.
    #[must_use]
    pub fn start(&self) -> Start {
        self.start
    }

    /// Which events it is about.
    #[must_use]
    pub fn events(&self) -> &Query {
        &self.query
    }

    fn of(start: Start) -> Self {
        Self { start, query: Query::All, window: None }
    }
}

/// What a subscription yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The next event.
    Event(RecordedEvent),
    /// Every matching event up to this position has been delivered, and there was none behind it: a checkpoint that also covers
    /// the events that did not match. `None` for an empty store. Comes once each time the subscription catches up.
    CaughtUp(Option<Position>),
}

/// Why a subscription cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The cursor lies beyond the last event: it comes from another store, or from this one before a backup was restored. Nothing
    /// is delivered, for what would come under these positions is not what the subscriber takes it for. The subscription has ended.
    #[error("the cursor {cursor} is beyond the head of the store, {}", .head.map_or_else(|| "which is empty".to_owned(), |head| head.to_string()))]
    BeyondHead {
        /// Where the subscription was to begin.
        cursor: Position,
        /// The last event of the store.
        head: Option<Position>,
    },
    /// The store could not be read. Nothing is lost: the next poll tries again from the same place.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why an acknowledgement does not count; it has changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcknowledgeError {
    /// The subscription has no window: there is nothing to acknowledge.
    #[error("the subscription has no window")]
    NoWindow,
    /// Neither an event at or behind this position nor an arrival there has been delivered yet.
    #[error("position {position} has not been delivered yet")]
    NotDelivered {
        /// What was acknowledged.
        position: Position,
    },
}

/// What a back end gives its subscriptions: the events behind a cursor, and a wake-up when there are more.
///
/// A subscription polls one method at a time, from one task. Dropping it between two polls loses nothing.
pub trait Feed: Send + 'static {
    /// The last position of the store.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Position>, ReadError>>;

    /// The first `limit` events behind `after` that match `query`, as far as they are committed now. Does not wait for more.
    fn poll_page(
        &mut self,
        context: &mut Context<'_>,
        after: Option<Position>,
        query: &Query,
        limit: u64,
    ) -> Poll<Result<Page, ReadError>>;

    /// Waits until there may be events behind `after`. A wake-up for nothing is allowed, a missed one is not.
    fn poll_more(&mut self, context: &mut Context<'_>, after: Option<Position>) -> Poll<More>;
}

/// A stretch of a store as a subscription sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The matching events, in order.
    pub events: Vec<RecordedEvent>,
    /// The position up to which `events` are all that match: the last of them if the page is full, otherwise the watermark that the
    /// page was read at. One before the cursor says that the store was restored to an earlier state: the subscription ends with
    /// [`SubscribeError::BeyondHead`].
    pub seen: Option<Position>,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum More {
    /// There may be events.
    Events,
    /// The store is gone: there will be none.
    Closed,
}

/// The events of a store from a cursor on, for ever: first those that are there, then each as it is committed.
///
/// A subscription reads the store from its cursor to the watermark and sleeps when it has arrived. There is no queue between
/// writer and subscriber and no hand-off from old events to new ones, so a slow subscriber loses nothing and costs nobody
/// anything but its cursor.
///
/// Yields [`Delivery::Event`] in the order of positions and [`Delivery::CaughtUp`] on arrival; ends when the store is dropped.
/// `Stream::next` and [`Subscription::next`] may be cancelled at any time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use event_store::{Append, Delivery, EventStore, EventType, MemoryStore, NewEvent, Subscribe};
///
/// let store = MemoryStore::new();
/// let mut subscription = store.subscribe(Subscribe::from_start());
/// store.append_now(Append::events([NewEvent::new(EventType::new("Started")?, "{}")]))?;
/// let Some(Ok(Delivery::Event(event))) = subscription.next().await else { panic!("there is an event") };
/// assert_eq!(event.event_type().as_str(), "Started");
/// # Ok(()) }
/// ```
#[must_use = "a subscription delivers when it is polled"]
pub struct Subscription {
    feed: Box<dyn Feed>,
    query: Query,
    state: State,
    /// Events up to here have been taken from the store.
    cursor: Option<Position>,
    page: std::vec::IntoIter<RecordedEvent>,
    /// Whether [`Delivery::CaughtUp`] has been given for the cursor.
    has_caught_up: bool,
    window: Option<Arc<Window>>,
}

enum State {
    Starting(Start),
    Running,
    /// The cursor is beyond the head, which has still to be said.
    Refused(SubscribeError),
    Ended,
}

/// What a look at the feed led to.
enum Step {
    LookAgain,
    Yield(Result<Delivery, SubscribeError>),
}

impl Subscription {
    /// A subscription that takes its events from `feed`: for back ends.
    pub fn new(subscribe: Subscribe, feed: impl Feed) -> Self {
        let Subscribe { start, query, window } = subscribe;
        let window =
            window.map(|size| Window { size: size.get() as usize, state: Mutex::new(Unacknowledged::default()) });
        Self {
            feed: Box::new(feed),
            query,
            state: State::Starting(start),
            cursor: None,
            page: Vec::new().into_iter(),
            has_caught_up: false,
            window: window.map(Arc::new),
        }
    }

    /// As [`Subscription::new`], for a store that knows its `head` without waiting: where the subscription begins is settled now.
    pub fn starting_at(head: Option<Position>, subscribe: Subscribe, feed: impl Feed) -> Self {
        let start = subscribe.start;
        let mut subscription = Self::new(subscribe, feed);
        subscription.begin(start, head);
        subscription
    }

    /// Whether the next event, which has been taken from the store already, stands at `position` too: one recorded event that an upcaster
    /// split. A checkpoint at `position` would then skip it.
    #[must_use]
    pub fn has_more_at(&self, position: Position) -> bool {
        self.page.as_slice().first().is_some_and(|event| event.position() == position)
    }

    /// The same subscription, fed by what `wrap` makes of its feed.
    pub(crate) fn map_feed(self, wrap: impl FnOnce(Box<dyn Feed>) -> Box<dyn Feed>) -> Self {
        Self { feed: wrap(self.feed), ..self }
    }

    fn begin(&mut self, start: Start, head: Option<Position>) {
        self.cursor = match start {
            Start::Tail => head,
            Start::After(cursor) => cursor,
        };
        self.state = match self.cursor {
            Some(cursor) if self.cursor > head => State::Refused(SubscribeError::BeyondHead { cursor, head }),
            _ => State::Running,
        };
    }

    /// The next delivery; `None` when the store is gone or after [`SubscribeError::BeyondHead`].
    pub async fn next(&mut self) -> Option<Result<Delivery, SubscribeError>> {
        poll_fn(|context| self.poll_delivery(context)).await
    }

    /// Acknowledges every event up to `position`.
    ///
    /// # Errors
    /// [`AcknowledgeError`]; then nothing has changed.
    pub fn acknowledge(&self, position: Position) -> Result<(), AcknowledgeError> {
        self.acknowledger().acknowledge(position)
    }

    /// A handle that acknowledges from another task.
    #[must_use]
    pub fn acknowledger(&self) -> Acknowledger {
        Acknowledger { window: self.window.clone() }
    }

    fn poll_delivery(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Delivery, SubscribeError>>> {
        loop {
            if let Some(event) = self.page.as_slice().first() {
                if self.window.as_ref().is_some_and(|window| !window.admit(event.position(), context)) {
                    return Poll::Pending;
                }
                return Poll::Ready(self.page.next().map(|event| Ok(Delivery::Event(event))));
            }
            match &self.state {
                &State::Starting(start) => match std::task::ready!(self.feed.poll_head(context)) {
                    Ok(head) => self.begin(start, head),
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                },
                State::Running => match std::task::ready!(self.poll_running(context)) {
                    Step::LookAgain => {}
                    Step::Yield(delivery) => return Poll::Ready(Some(delivery)),
                },
                State::Refused(error) => {
                    let error = error.clone();
                    self.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    /// Takes the next page, or announces that there is none, or waits for one.
    fn poll_running(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        match std::task::ready!(self.feed.poll_page(context, self.cursor, &self.query, PAGE)) {
            Ok(page) if page.seen < self.cursor => {
                let Some(cursor) = self.cursor else { return Poll::Ready(Step::LookAgain) };
                self.state = State::Refused(SubscribeError::BeyondHead { cursor, head: page.seen });
                return Poll::Ready(Step::LookAgain);
            }
            Ok(page) if page.events.is_empty() && page.seen == self.cursor => {}
            Ok(page) => {
                self.cursor = page.seen;
                self.has_caught_up = false;
                self.page = page.events.into_iter();
                return Poll::Ready(Step::LookAgain);
            }
            Err(error) => return Poll::Ready(Step::Yield(Err(error.into()))),
        }
        if !self.has_caught_up {
            self.has_caught_up = true;
            if let Some(window) = &self.window {
                window.arrive(self.cursor);
            }
            return Poll::Ready(Step::Yield(Ok(Delivery::CaughtUp(self.cursor))));
        }
        match std::task::ready!(self.feed.poll_more(context, self.cursor)) {
            More::Events => {}
            More::Closed => self.state = State::Ended,
        }
        Poll::Ready(Step::LookAgain)
    }
}

impl Stream for Subscription {
    type Item = Result<Delivery, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_delivery(context)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("query", &self.query).field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

/// Acknowledges the events of a subscription, from any task. A clone is a reference count.
#[derive(Debug, Clone)]
pub struct Acknowledger {
    window: Option<Arc<Window>>,
}

impl Acknowledger {
    /// Acknowledges every event up to `position`; what is acknowledged already stays so.
    ///
    /// # Errors
    /// [`AcknowledgeError`]; then nothing has changed.
    pub fn acknowledge(&self, position: Position) -> Result<(), AcknowledgeError> {
        self.window.as_ref().ok_or(AcknowledgeError::NoWindow)?.acknowledge(position)
    }
}

/// The events that are delivered and not acknowledged.
#[derive(Debug)]
struct Window {
    size: usize,
    state: Mutex<Unacknowledged>,
}

#[derive(Debug, Default)]
struct Unacknowledged {
    delivered: VecDeque<Position>,
    last: Option<Position>,
    waiting: Option<Waker>,
}

impl Unacknowledged {
    fn admit(&mut self, position: Position, size: usize) -> bool {
        let has_room = self.delivered.len() < size;
        if has_room {
            self.delivered.push_back(position);
            self.last = Some(position);
        }
        has_room
    }
}

impl Window {
    /// Counts the event at `position` as delivered if there is room, otherwise wakes the task of `context` when there is.
    fn admit(&self, position: Position, context: &Context<'_>) -> bool {
        if self.lock().admit(position, self.size) {
            return true;
        }
        // Wakers are the executor's code: cloned and dropped outside the lock.
        let waker = context.waker().clone();
        let mut state = self.lock();
        let is_admitted = state.admit(position, self.size);
        let of_no_use = if is_admitted { Some(waker) } else { state.waiting.replace(waker) };
        drop(state);
        drop(of_no_use);
        is_admitted
    }

    /// What was seen up to `position` may be acknowledged, whether it matched or not.
    fn arrive(&self, position: Option<Position>) {
        let mut state = self.lock();
        state.last = state.last.max(position);
    }

    fn acknowledge(&self, position: Position) -> Result<(), AcknowledgeError> {
        let mut state = self.lock();
        if state.last < Some(position) {
            return Err(AcknowledgeError::NotDelivered { position });
        }
        let done = state.delivered.partition_point(|delivered| *delivered <= position);
        state.delivered.drain(..done);
        let waiting = state.waiting.take();
        drop(state);
        if let Some(waker) = waiting {
            waker.wake();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Unacknowledged> {
        // Nothing under this lock can break off half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
