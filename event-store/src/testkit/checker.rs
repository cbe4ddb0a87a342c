//! Finds what a history shows to be wrong.
//!
//! Positions give a total order, so nothing need be searched for: every answer is held against what the store's own order says it
//! should have been at some moment between question and answer. For a history of `n` operations with answers of bounded size this
//! takes O(n log n) time.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::history::{Call, History, Operation};
use super::order::{Order, has_content_of};
use crate::append::{Append, Appended};
use crate::error::AppendError;
use crate::event::{EventId, Position, StreamVersion};
use crate::read::{Read, Source};
use crate::recorded::RecordedEvent;

mod deliveries;
mod snapshots;

/// Something that no correct store would have answered, with the numbers of the operations that show it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Anomaly {
    /// The store's order is not one: positions and versions are dense, ids unique.
    #[error("the order is broken at place {place}: {why}")]
    Order {
        /// Counted from 1.
        place: u64,
        /// What is wrong there.
        why: String,
    },
    /// An acknowledged event is not where its acknowledgement says, or not with its content.
    #[error("operation {operation}: acknowledged at position {position}, where it is not")]
    Lost {
        /// The append.
        operation: usize,
        /// Where it should be.
        position: u64,
    },
    /// An event that nobody appended, or that a refused append left behind.
    #[error("nobody appended the event at position {position}")]
    Phantom {
        /// Where it is.
        position: u64,
    },
    /// Some events of an append are there and some are not.
    #[error("operation {operation}: {present} of {appended} events are there")]
    Torn {
        /// The append.
        operation: usize,
        /// Events in the store.
        present: u64,
        /// Events of the append.
        appended: u64,
    },
    /// An append that began after another was acknowledged stands before it.
    #[error("operation {operation}: position {position} was given after position {earlier} had been acknowledged")]
    Reordered {
        /// The later append.
        operation: usize,
        /// Its position.
        position: u64,
        /// The position of the earlier one.
        earlier: u64,
    },
    /// A verdict that holds at no moment between question and answer.
    #[error("operation {operation}: {verdict} holds at no moment from position {from} to {to}; expected {expected}")]
    Verdict {
        /// The append.
        operation: usize,
        /// What the store said.
        verdict: String,
        /// What it should have said at `from`.
        expected: String,
        /// The first moment.
        from: u64,
        /// The last moment.
        to: u64,
    },
    /// An answer that is no prefix of the order, or of one that ends before what its reader had seen already.
    #[error("operation {operation}: {what} is the state of the store at no moment from position {from} to {to}: {why}")]
    Read {
        /// The read.
        operation: usize,
        /// What was asked.
        what: &'static str,
        /// The first moment.
        from: u64,
        /// The last moment.
        to: u64,
        /// What is wrong.
        why: String,
    },
    /// A subscription left something out, repeated it, or delivered what is not there.
    #[error("operation {operation}: subscription {subscription}: {why}")]
    Delivery {
        /// The delivery.
        operation: usize,
        /// Its subscription.
        subscription: u32,
        /// What is wrong.
        why: String,
    },
    /// A snapshot that was not saved, or that is ahead of its stream.
    #[error("operation {operation}: snapshot: {why}")]
    Snapshot {
        /// The load.
        operation: usize,
        /// What is wrong.
        why: String,
    },
}

/// What a history without anomalies consisted of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Appends that were applied, or that had nothing to apply.
    pub appended: u64,
    /// Appends that were refused.
    pub refused: u64,
    /// Appends that were recognised as repetitions.
    pub deduplicated: u64,
    /// Appends whose outcome nobody was told.
    pub unknown: u64,
    /// Reads, heads and versions.
    pub reads: u64,
    /// Events that subscriptions delivered.
    pub delivered: u64,
    /// Snapshots that were loaded.
    pub snapshots: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { appended, refused, deduplicated, unknown, reads, delivered, snapshots } = self;
        write!(
            f,
            "{appended} appended, {refused} refused, {deduplicated} repeated, {unknown} unknown, {reads} reads, \
             {delivered} delivered, {snapshots} snapshots"
        )
    }
}

/// Holds `history` against the contract.
///
/// # Errors
/// Every anomaly that was found. A broken order is reported alone: nothing can be held against it.
pub fn check(history: &History) -> Result<Summary, Vec<Anomaly>> {
    let (order, broken) = order_of(&history.events);
    if !broken.is_empty() {
        return Err(broken);
    }
    let mut checker = Checker {
        moments: Moments::default(),
        order,
        matches: Vec::new(),
        seen: HashMap::new(),
        anomalies: Vec::new(),
        summary: Summary::default(),
    };
    let claims = checker.claim(&history.operations);
    checker.moments = Moments::of(&checker.order, &history.operations, &claims);
    for (number, operation) in history.operations.iter().enumerate() {
        checker.judge(number, operation, claims.get(&number).copied());
    }
    checker.deliveries(&history.operations);
    checker.snapshots(&history.operations);
    if checker.anomalies.is_empty() { Ok(checker.summary) } else { Err(checker.anomalies) }
}

/// The order of `events`, and what is wrong with it.
fn order_of(events: &[RecordedEvent]) -> (Order, Vec<Anomaly>) {
    let mut order = Order::new();
    let mut broken = Vec::new();
    for (place, event) in (1..).zip(events) {
        let mut wrong = |why: String| broken.push(Anomaly::Order { place, why });
        if event.position().get() != place {
            wrong(format!("it has position {}", event.position()));
        }
        if let Some((stream, version)) = event.stream() {
            let next = order.stream(stream).len() as u64;
            if version.get() != next {
                wrong(format!("version {version} of {stream} comes where {next} belongs"));
            }
        }
        if let Some(taken) = order.position_of(event.id()) {
            wrong(format!("its id is that of position {taken}"));
        }
        order.push(event.clone());
    }
    (order, broken)
}

/// Positions and the times between which they came into being.
#[derive(Debug, Default)]
struct Moments {
    /// For each position, the latest beginning of it and of all before it: what began later cannot have been seen.
    latest_began: Vec<u64>,
    /// Acknowledgements `(time, position)` in the order of time, each with the highest position so far.
    acknowledged: Vec<(u64, u64)>,
    /// The same for each client.
    own: HashMap<u32, Vec<(u64, u64)>>,
    /// The last positions of appends: a reader sees all of an append or nothing.
    ends: Vec<u64>,
}

impl Moments {
    fn of(order: &Order, operations: &[Operation], claims: &HashMap<usize, u64>) -> Self {
        let mut began = vec![u64::MAX; order.head() as usize];
        let mut moments = Self { ends: vec![0], ..Self::default() };
        for operation in operations {
            let Call::Append { append, outcome } = &operation.call else { continue };
            if !may_have_applied(outcome.as_ref()) {
                continue;
            }
            for (_, event) in append.new_events() {
                if let Some(position) = order.position_of(event.id) {
                    let began = &mut began[position as usize - 1];
                    *began = operation.began.min(*began);
                }
            }
            if let (Some(ended), Some(Ok(Appended { positions: Some((_, last)), .. }))) = (operation.ended, outcome) {
                moments.acknowledged.push((ended, last.get()));
                moments.own.entry(operation.client).or_default().push((ended, last.get()));
            }
        }
        for (&number, first) in claims {
            if let Call::Append { append, .. } = &operations[number].call {
                moments.ends.push(first + append.len() as u64 - 1);
            }
        }
        moments.ends.sort_unstable();
        let mut latest = 0;
        moments.latest_began = began
            .into_iter()
            .map(|began| {
                latest = latest.max(began);
                latest
            })
            .collect();
        for list in moments.own.values_mut().chain([&mut moments.acknowledged]) {
            list.sort_unstable();
            let mut highest = 0;
            for (_, position) in list {
                highest = highest.max(*position);
                *position = highest;
            }
        }
        moments
    }

    /// The last position that can have been there at `time`.
    fn latest(&self, time: u64) -> u64 {
        self.latest_began.partition_point(|began| *began < time) as u64
    }

    /// The last position that everyone had to see from `time` on.
    fn acknowledged(&self, time: u64) -> u64 {
        highest_before(&self.acknowledged, time)
    }

    /// The last position that `client` had been told of at `time`.
    fn own(&self, client: u32, time: u64) -> u64 {
        self.own.get(&client).map_or(0, |list| highest_before(list, time))
    }

    /// The first moment from `from` to `to` at which no append was half there.
    fn first_whole(&self, from: u64, to: u64) -> Option<u64> {
        self.ends.get(self.ends.partition_point(|end| *end < from)).copied().filter(|end| *end <= to)
    }

    /// Every such moment.
    fn whole(&self, from: u64, to: u64) -> impl Iterator<Item = u64> + '_ {
        self.ends[self.ends.partition_point(|end| *end < from)..].iter().copied().take_while(move |end| *end <= to)
    }
}

fn highest_before(list: &[(u64, u64)], time: u64) -> u64 {
    list.partition_point(|(at, _)| *at < time).checked_sub(1).map_or(0, |last| list[last].1)
}

fn may_have_applied(outcome: Option<&Result<Appended, AppendError>>) -> bool {
    outcome.is_none_or(|outcome| outcome.as_ref().map_or_else(|error| !error.is_definite(), |_| true))
}

/// The moments at which an answer was true.
type Span = (u64, u64);

struct Checker {
    order: Order,
    moments: Moments,
    /// What sources select, looked up once.
    matches: Vec<(Source, Vec<u64>)>,
    /// For each client, how far it has seen.
    seen: HashMap<u32, u64>,
    anomalies: Vec<Anomaly>,
    summary: Summary,
}

impl Checker {
    /// Gives every event to the append that wrote it; returns the first position of each append that wrote.
    fn claim(&mut self, operations: &[Operation]) -> HashMap<usize, u64> {
        let mut claims = HashMap::new();
        let mut owners: BTreeMap<u64, usize> = BTreeMap::new();
        let appends = || {
            operations.iter().enumerate().filter_map(|(number, operation)| match &operation.call {
                Call::Append { append, outcome } => Some((number, append, outcome)),
                _ => None,
            })
        };
        for (number, append, outcome) in appends() {
            let Some(Ok(Appended { positions: Some((first, _)), deduplicated: false, .. })) = outcome else { continue };
            if let Some(position) = self.missing(append, first.get()) {
                self.anomalies.push(Anomaly::Lost { operation: number, position });
                continue;
            }
            claims.insert(number, first.get());
            for position in first.get()..first.get() + append.len() as u64 {
                if owners.insert(position, number).is_some() {
                    self.anomalies.push(Anomaly::Lost { operation: number, position });
                }
            }
        }
        for (number, append, outcome) in appends() {
            if outcome.as_ref().is_some_and(Result::is_ok) || !may_have_applied(outcome.as_ref()) {
                continue;
            }
            let ids: Vec<EventId> = append.new_events().map(|(_, event)| event.id).collect();
            let present: Vec<u64> = ids.iter().filter_map(|id| self.order.position_of(*id)).collect();
            let Some(&first) = present.first().filter(|first| !owners.contains_key(first)) else { continue };
            if self.missing(append, first).is_some() {
                let (present, appended) = (present.len() as u64, ids.len() as u64);
                self.anomalies.push(Anomaly::Torn { operation: number, present, appended });
            }
            claims.insert(number, first);
            owners.extend((first..first + ids.len() as u64).map(|position| (position, number)));
        }
        let unclaimed = (1..=self.order.head()).filter(|position| !owners.contains_key(position));
        self.anomalies.extend(unclaimed.map(|position| Anomaly::Phantom { position }));
        claims
    }

    /// The first position from `first` on where the order has something else than `append` has.
    fn missing(&self, append: &Append, first: u64) -> Option<u64> {
        let targets: Vec<_> = append.expectations().map(|(stream, ..)| stream).collect();
        append.new_events().zip(first..).find_map(|((target, event), position)| {
            let is_there = self.order.get(position).is_some_and(|recorded| {
                has_content_of(recorded, &event)
                    && recorded.stream().map(|(stream, _)| stream) == target.map(|target| targets[target])
            });
            (!is_there).then_some(position)
        })
    }

    fn judge(&mut self, number: usize, operation: &Operation, claim: Option<u64>) {
        let Some(ended) = operation.ended else {
            if let (Call::Append { append, .. }, Some(first)) = (&operation.call, claim) {
                self.judge_applied(number, operation, append, first, None);
            }
            self.summary.unknown += u64::from(matches!(operation.call, Call::Append { .. }));
            return;
        };
        match &operation.call {
            Call::Append { append, outcome: Some(outcome) } => match (outcome, claim) {
                (Ok(appended), Some(first)) => {
                    self.summary.appended += 1;
                    self.judge_applied(number, operation, append, first, Some(appended));
                }
                (Err(AppendError::Unknown(_)), claim) => {
                    self.summary.unknown += 1;
                    if let Some(first) = claim {
                        self.judge_applied(number, operation, append, first, None);
                    }
                }
                _ => self.judge_unapplied(number, operation, append, outcome, ended),
            },
            Call::Read { read, events: Ok(events) } => {
                let span = self.span_of_read(read, events);
                self.judge_read(number, operation, "a read", span, ended);
            }
            Call::Head(Ok(head)) => {
                let head = head.map_or(0, Position::get);
                self.judge_read(number, operation, "the head", Ok((head, head)), ended);
            }
            Call::StreamVersion { stream, version: Ok(version) } => {
                let count = version.map_or(0, |version| version.get() + 1);
                let span = span_of_count(self.order.stream(stream), count, self.order.head());
                self.judge_read(number, operation, "a version", span, ended);
            }
            _ => {}
        }
    }

    /// An append that was applied at `first`: judged by what stood before it, and not before what had been acknowledged.
    fn judge_applied(
        &mut self,
        number: usize,
        operation: &Operation,
        append: &Append,
        first: u64,
        verdict: Option<&Appended>,
    ) {
        let earlier = self.moments.acknowledged(operation.began);
        if earlier >= first {
            self.anomalies.push(Anomaly::Reordered { operation: number, position: first, earlier });
        }
        let expected = self.order.judge(append, first - 1);
        if expected.as_ref().is_ok_and(|expected| verdict.is_none_or(|verdict| verdict == expected)) {
            return;
        }
        let verdict = verdict.map_or_else(|| "its application".to_owned(), |verdict| format!("{verdict:?}"));
        let (expected, from) = (format!("{expected:?}"), first - 1);
        self.anomalies.push(Anomaly::Verdict { operation: number, verdict, expected, from, to: from });
    }

    /// A refusal, a repetition or a check without a write: true at some moment between question and answer.
    fn judge_unapplied(
        &mut self,
        number: usize,
        operation: &Operation,
        append: &Append,
        outcome: &Result<Appended, AppendError>,
        ended: u64,
    ) {
        match outcome {
            Ok(appended) if appended.deduplicated => self.summary.deduplicated += 1,
            Ok(_) => self.summary.appended += 1,
            Err(_) => self.summary.refused += 1,
        }
        // An event that is claimed lost has been reported; what has no moment of its own cannot be judged by one.
        let has_moment = match outcome {
            Ok(appended) => appended.deduplicated || append.is_empty(),
            Err(error) => matches!(
                error,
                AppendError::WrongExpectedVersion { .. }
                    | AppendError::ConditionFailed { .. }
                    | AppendError::DuplicateEventId { .. }
            ),
        };
        let (from, to) = (self.moments.acknowledged(operation.began), self.moments.latest(ended));
        if !has_moment || self.moments.whole(from, to).any(|moment| self.judge_at(append, outcome, moment)) {
            return;
        }
        let (verdict, expected) = (format!("{outcome:?}"), format!("{:?}", self.order.judge(append, from)));
        self.anomalies.push(Anomaly::Verdict { operation: number, verdict, expected, from, to });
    }

    fn judge_at(&self, append: &Append, outcome: &Result<Appended, AppendError>, moment: u64) -> bool {
        self.order.judge(append, moment) == *outcome
    }

    fn judge_read(
        &mut self,
        number: usize,
        operation: &Operation,
        what: &'static str,
        span: Result<Span, String>,
        ended: u64,
    ) {
        self.summary.reads += 1;
        let seen = self.seen.entry(operation.client).or_default();
        let from = self.moments.own(operation.client, operation.began).max(*seen);
        let to = self.moments.latest(ended);
        let found = span.and_then(|(first, last)| {
            let why = || format!("it is that from position {first} to {last}");
            self.moments.first_whole(first.max(from), last.min(to)).ok_or_else(why)
        });
        match found {
            Ok(moment) => *seen = moment,
            Err(why) => self.anomalies.push(Anomaly::Read { operation: number, what, from, to, why }),
        }
    }

    /// The moments at which `read` is answered by `events`.
    fn span_of_read(&mut self, read: &Read, events: &[RecordedEvent]) -> Result<Span, String> {
        for event in events {
            let position = event.position().get();
            match self.order.get(position) {
                Some(recorded) if recorded == event => {}
                Some(_) => return Err(format!("the event at position {position} is another one")),
                None => return Err(format!("there is no position {position}")),
            }
        }
        let found: Vec<u64> = events.iter().map(|event| event.position().get()).collect();
        let head = self.order.head();
        let matches = self.matches_of(read.source());
        let cut = |from: Option<u64>| from.map(|from| usize::try_from(from).unwrap_or(usize::MAX).min(matches.len()));
        let is_full = found.len() as u64 == read.most();
        if read.is_backwards() {
            let end = match read.source() {
                Source::Stream { from, .. } => cut(from.map(|version| version.get().saturating_add(1))),
                Source::Store { from, .. } => from.map(|from| matches.partition_point(|m| *m <= from.get())),
            };
            let candidates = &matches[..end.unwrap_or(matches.len())];
            let Some(newest) = found.first() else {
                let last = candidates.first().map_or(head, |first| first - 1);
                return Ok((0, if is_full { head } else { last }));
            };
            let place = candidates.binary_search(newest).map_err(|_| format!("position {newest} does not match"))?;
            let expected: Vec<u64> = candidates[..=place].iter().rev().copied().take(found.len()).collect();
            if expected != found || !is_full && found.len() != place + 1 {
                return Err(format!("positions {found:?} are not the last ones up to {newest}"));
            }
            return Ok((*newest, candidates.get(place + 1).map_or(head, |next| next - 1)));
        }
        let start = match read.source() {
            Source::Stream { from, .. } => cut(from.map(StreamVersion::get)),
            Source::Store { from, .. } => from.map(|from| matches.partition_point(|m| *m < from.get())),
        };
        let candidates = &matches[start.unwrap_or(0)..];
        if candidates.get(..found.len()) != Some(&found[..]) {
            return Err(format!("positions {found:?} are not the first ones"));
        }
        let first = found.last().copied().unwrap_or(0);
        let next = candidates.get(found.len()).filter(|_| !is_full);
        Ok((first, next.map_or(head, |next| next - 1)))
    }

    fn matches_of(&mut self, source: &Source) -> &[u64] {
        let whole = match source {
            Source::Stream { id, .. } => Source::Stream { id: id.clone(), from: None },
            Source::Store { query, .. } => Source::Store { query: query.clone(), from: None },
        };
        let place = self.matches.iter().position(|(known, _)| *known == whole).unwrap_or_else(|| {
            let found = self.order.matches(&whole);
            self.matches.push((whole, found));
            self.matches.len() - 1
        });
        &self.matches[place].1
    }
}

/// The moments at which exactly `count` of `positions` were there.
fn span_of_count(positions: &[u64], count: u64, head: u64) -> Result<Span, String> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > positions.len() {
        return Err(format!("there are {} events", positions.len()));
    }
    let first = count.checked_sub(1).map_or(0, |last| positions[last]);
    Ok((first, positions.get(count).map_or(head, |next| next - 1)))
}
