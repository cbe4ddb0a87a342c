//! A plain store with one fault that can be switched on: what the checker of histories must catch.

use std::collections::{BTreeSet, HashMap};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use event_store::testkit::Order;
use event_store::{
    Append, AppendCondition, AppendError, Appended, EventStore, Feed, More, NewEvent, Page, Position, Query, Read,
    ReadError, RecordedEvent, RemoveError, Snapshot, SnapshotError, SnapshotStore, Source, Start, StreamId,
    StreamVersion, Subscribe, Subscription, Timestamp,
};

/// What can be wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An append is acknowledged before its events can be seen.
    EarlyAck,
    /// Now and then an acknowledged append is never published.
    LostPublish,
    /// Readers may look at an event before its content is written.
    WatermarkBeforeData,
    /// The head is that before the last append.
    StaleHead,
    /// Appends of one batch are judged without each other.
    SkippedSameBatchCheck,
    /// A boundary begins one event late.
    OffByOneAfter,
    /// Now and then two events share a position.
    DuplicatePosition,
    /// An append is published before the one that stands in front of it.
    ReorderedPublish,
    /// The last event of a full segment is not read.
    DroppedTailOnRollover,
    /// A snapshot of a version that its stream has not reached is handed out.
    SnapshotAhead,
    /// Known ids are a repetition whatever they come with.
    DedupeIgnoresPayload,
    /// A subscription whose page is full goes on at the watermark.
    CursorAdvancesOnLimit,
    /// A cursor beyond the head is taken for one that has arrived.
    AcceptsAnyCursor,
    /// A cursor beyond the head is not refused: its subscription waits.
    WaitsForItsCursor,
    /// A subscription that has arrived once delivers no more.
    StuckOnArrival,
    /// A subscription delivers its first page over and over.
    DeliversForEver,
    /// A subscription that has delivered something cannot be read any more.
    FailsForEver,
    /// A subscription that sleeps is not woken by every append: what only a client that waits can tell.
    MissedWakeUp,
}

impl Fault {
    /// What histories show.
    pub(crate) const ALL: [Self; 17] = [
        Self::EarlyAck,
        Self::LostPublish,
        Self::WatermarkBeforeData,
        Self::StaleHead,
        Self::SkippedSameBatchCheck,
        Self::OffByOneAfter,
        Self::DuplicatePosition,
        Self::ReorderedPublish,
        Self::DroppedTailOnRollover,
        Self::SnapshotAhead,
        Self::DedupeIgnoresPayload,
        Self::CursorAdvancesOnLimit,
        Self::AcceptsAnyCursor,
        Self::WaitsForItsCursor,
        Self::StuckOnArrival,
        Self::DeliversForEver,
        Self::FailsForEver,
    ];
}

/// Events of a segment, where the fault is about segments.
const SEGMENT: u64 = 16;
/// Events of a page, where the fault is about pages.
const SMALL_PAGE: u64 = 4;

/// A list of events behind a lock.
#[derive(Debug, Default)]
pub(crate) struct FaultyStore {
    fault: Option<Fault>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    order: Order,
    snapshots: HashMap<StreamId, Snapshot>,
    wakers: Vec<Waker>,
    appends: u64,
    /// Events at the end that are seen only after the next read.
    unseen: u64,
    /// Positions that nobody sees yet.
    held_back: BTreeSet<u64>,
    /// Positions whose content is not written yet.
    blank: BTreeSet<u64>,
    /// The head before the last append.
    last_head: u64,
    /// Appends under way, and the head when the first of them came.
    batch: (u64, u64),
}

impl State {
    fn head(&self) -> u64 {
        self.order.head() - self.unseen
    }

    fn read(&self, read: &Read, fault: Option<Fault>) -> Vec<RecordedEvent> {
        let mut events = self.order.read(read, self.head());
        events.retain(|event| !self.held_back.contains(&event.position().get()));
        if fault == Some(Fault::DroppedTailOnRollover) && matches!(read.source(), Source::Store { .. }) {
            events.retain(|event| !event.position().get().is_multiple_of(SEGMENT));
        }
        for event in events.iter_mut().filter(|event| self.blank.contains(&event.position().get())) {
            let unwritten = NewEvent::with_given_id(event.id(), event.event_type().clone(), "");
            let stream = event.stream().map(|(stream, version)| (stream.clone(), version));
            *event = RecordedEvent::of_event(event.position(), stream, event.time(), &unwritten);
        }
        events
    }

    /// Writes what `append` says at the end, without a look at it.
    fn write(&mut self, append: &Append) -> (u64, u64) {
        self.last_head = self.order.head();
        self.appends += 1;
        for event in self.order.recorded(append, self.last_head, Timestamp::now()) {
            self.order.push(event);
        }
        (self.last_head + 1, self.order.head())
    }
}

impl FaultyStore {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        Self { fault, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// The verdict as of now, with the faults that are about verdicts.
    fn judge(&self, state: &State, append: &Append, head: u64) -> Result<Appended, AppendError> {
        if self.has(Fault::DedupeIgnoresPayload) {
            let places: Option<Vec<u64>> = append.new_events().map(|(_, e)| state.order.position_of(e.id)).collect();
            if let Some([first, ..]) = places.as_deref() {
                let last = first + append.len() as u64 - 1;
                let versions = append.expectations().filter(|(.., count)| *count > 0).filter_map(|(stream, ..)| {
                    let own = |position: &u64| state.order.stream(stream).binary_search(position).ok();
                    Some((stream.clone(), StreamVersion::new((*first..=last).rev().find_map(|p| own(&p))? as u64)))
                });
                return Ok(Appended::new(Position::new(*first).zip(Position::new(last)), versions, true));
            }
        }
        let boundary = append.append_condition().and_then(AppendCondition::boundary);
        match boundary {
            Some((query, Some(after))) if self.has(Fault::OffByOneAfter) => {
                let late = Position::new(after.get() + 1).unwrap_or(after);
                let condition = AppendCondition::fail_if_events_match(query.clone()).after(late);
                state.order.judge(&append.clone().condition(condition), head)
            }
            _ => state.order.judge(append, head),
        }
    }

    fn remove(&self, stream: &StreamId, before: Option<StreamVersion>) -> u64 {
        let mut state = self.state();
        let removed = state.order.remove(stream, before);
        if state.order.stream_version(stream, state.order.head()).is_none() {
            state.snapshots.remove(stream);
        }
        removed
    }

    fn wake(&self) {
        let wakers = std::mem::take(&mut self.state().wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What [`Fault::SkippedSameBatchCheck`] makes of an append.
    async fn append_in_a_batch(&self, append: &Append) -> Result<Appended, AppendError> {
        {
            let mut state = self.state();
            if state.batch.0 == 0 {
                state.batch.1 = state.order.head();
            }
            state.batch.0 += 1;
        }
        pause(1).await;
        let mut state = self.state();
        state.batch.0 -= 1;
        let verdict = self.judge(&state, append, state.batch.1)?;
        if verdict.deduplicated || append.is_empty() {
            return Ok(verdict);
        }
        let positions = state.write(append);
        let versions = append
            .expectations()
            .filter(|(.., count)| *count > 0)
            .filter_map(|(stream, ..)| Some((stream.clone(), state.order.stream_version(stream, positions.1)?)));
        Ok(Appended::new(Position::new(positions.0).zip(Position::new(positions.1)), versions, false))
    }
}

impl EventStore for FaultyStore {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        if self.has(Fault::SkippedSameBatchCheck) {
            let appended = self.append_in_a_batch(&append).await;
            self.wake();
            return appended;
        }
        let (appended, written) = {
            let mut state = self.state();
            state.unseen = 0;
            let appended = self.judge(&state, &append, state.order.head())?;
            if appended.deduplicated || append.is_empty() {
                return Ok(appended);
            }
            if self.has(Fault::LostPublish) && state.appends % 7 == 6 {
                state.appends += 1;
                return Ok(appended);
            }
            let written = state.write(&append);
            let positions = written.0..=written.1;
            match self.fault {
                Some(Fault::EarlyAck) => state.unseen = append.len() as u64,
                Some(Fault::WatermarkBeforeData) => state.blank.extend(positions),
                Some(Fault::ReorderedPublish) if state.appends.is_multiple_of(3) => state.held_back.extend(positions),
                Some(Fault::DuplicatePosition) if state.appends.is_multiple_of(5) && written.0 > 1 => {
                    let mut events = state.order.events().to_vec();
                    if let Some(last) = events.pop() {
                        let stream = last.stream().map(|(stream, version)| (stream.clone(), version));
                        let (_, event) = append.new_events().last().expect("it is not empty");
                        let taken = Position::new(written.1 - 1).expect("not the first");
                        events.push(RecordedEvent::of_event(taken, stream, last.time(), &event));
                    }
                    state.order = Order::new();
                    events.into_iter().for_each(|event| state.order.push(event));
                }
                _ => {}
            }
            (appended, written)
        };
        if self.has(Fault::WatermarkBeforeData) || self.has(Fault::ReorderedPublish) {
            pause(2).await;
            let mut state = self.state();
            for position in written.0..=written.1 {
                state.blank.remove(&position);
                state.held_back.remove(&position);
            }
        }
        self.wake();
        Ok(appended)
    }

    fn read(&self, read: Read) -> impl futures::Stream<Item = Result<RecordedEvent, ReadError>> + Send {
        let mut state = self.state();
        let events = state.read(&read, self.fault);
        state.unseen = 0;
        futures::stream::iter(events.into_iter().map(Ok))
    }

    fn subscribe(&self, subscribe: Subscribe) -> Subscription {
        let is_beyond =
            matches!(subscribe.start(), Start::After(cursor) if cursor > Position::new(self.state().head()));
        let waits = is_beyond && self.has(Fault::WaitsForItsCursor);
        let feed = ListFeed { state: Arc::clone(&self.state), fault: self.fault, waits, is_stuck: false };
        Subscription::new(subscribe, feed)
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        let state = self.state();
        let head = if self.has(Fault::StaleHead) { state.last_head } else { state.head() };
        Ok(Position::new(head))
    }

    async fn stream_version(&self, stream: &StreamId) -> Result<Option<StreamVersion>, ReadError> {
        let state = self.state();
        Ok(state.order.stream_version(stream, state.head()))
    }

    async fn truncate_stream(&self, stream: &StreamId, before: StreamVersion) -> Result<u64, RemoveError> {
        Ok(self.remove(stream, Some(before)))
    }

    async fn delete_stream(&self, stream: &StreamId) -> Result<u64, RemoveError> {
        Ok(self.remove(stream, None))
    }
}

impl SnapshotStore for FaultyStore {
    async fn save_snapshot(&self, snapshot: Snapshot) -> Result<(), SnapshotError> {
        self.state().snapshots.insert(snapshot.stream.clone(), snapshot);
        Ok(())
    }

    async fn load_snapshot(&self, stream: &StreamId, schema_version: u16) -> Result<Option<Snapshot>, SnapshotError> {
        let state = self.state();
        let version = state.order.stream_version(stream, state.head());
        let head = if self.has(Fault::SnapshotAhead) { Some(StreamVersion::new(u64::MAX)) } else { version };
        let first = state.order.read(&Read::stream(stream.clone()).limit(1), state.head());
        let first = first.first().and_then(RecordedEvent::stream_version).map_or(0, StreamVersion::get);
        let is_whole = |s: &&Snapshot| first <= s.version.get().saturating_add(1);
        let is_usable = |s: &&Snapshot| s.is_usable(head, schema_version) && is_whole(s);
        Ok(state.snapshots.get(stream).filter(is_usable).cloned())
    }
}

struct ListFeed {
    state: Arc<Mutex<State>>,
    fault: Option<Fault>,
    waits: bool,
    is_stuck: bool,
}

impl ListFeed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed for ListFeed {
    fn poll_head(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Position>, ReadError>> {
        if self.waits {
            return Poll::Pending;
        }
        let reached = if self.fault == Some(Fault::AcceptsAnyCursor) { u64::MAX } else { self.state().head() };
        Poll::Ready(Ok(Position::new(reached)))
    }

    fn poll_page(
        &mut self,
        _: &mut Context<'_>,
        after: Option<Position>,
        query: &Query,
        limit: u64,
    ) -> Poll<Result<Page, ReadError>> {
        let limit = if self.fault == Some(Fault::CursorAdvancesOnLimit) { SMALL_PAGE } else { limit };
        let after = if self.fault == Some(Fault::DeliversForEver) { None } else { after };
        if self.fault == Some(Fault::FailsForEver) && after.is_some() {
            return Poll::Ready(Err(ReadError::Unavailable("for ever".to_owned())));
        }
        let next = Position::new(after.map_or(1, |after| after.get() + 1)).expect("counted from 1");
        if self.is_stuck {
            return Poll::Ready(Ok(Page { events: Vec::new(), seen: after }));
        }
        let state = self.state();
        let events = state.read(&Read::query_from(query.clone(), next).limit(limit), self.fault);
        let is_full = events.len() as u64 >= limit && self.fault != Some(Fault::CursorAdvancesOnLimit);
        let seen = if is_full { events.last().map(RecordedEvent::position) } else { Position::new(state.head()) };
        let has_arrived = after.is_some() && seen <= after;
        drop(state);
        self.is_stuck = has_arrived && self.fault == Some(Fault::StuckOnArrival);
        Poll::Ready(Ok(Page { events, seen: seen.max(after) }))
    }

    fn poll_more(&mut self, context: &mut Context<'_>, after: Option<Position>) -> Poll<More> {
        let is_stuck = self.is_stuck;
        let mut state = self.state();
        if is_stuck || self.fault == Some(Fault::MissedWakeUp) && state.appends % 7 == 6 {
            return Poll::Pending;
        }
        if Position::new(state.head()) > after {
            return Poll::Ready(More::Events);
        }
        state.wakers.push(context.waker().clone());
        Poll::Pending
    }
}

/// Lets others go on, so often.
async fn pause(times: u32) {
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
