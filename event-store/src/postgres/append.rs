//! Appends: sent, judged, answered.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::Transaction;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{ToSql, Type};

use super::Shared;
use super::call::{
    Call, CallForOne, Judged, Match, STATEMENT, STATEMENT_FOR_ONE, TYPES, TYPES_FOR_ONE, Verdict, number,
    verdict_on_one,
};
use super::queue::{Answer, Turn};
use super::rows::{COLUMNS, Rows};
use crate::append::{Append, Appended};
use crate::batch::{Header, NO_STREAM};
use crate::error::{AppendError, Clause, describe};
use crate::event::{EventId, Position, StreamVersion};
use crate::recorded::RecordedEvent;

/// How often an append is sent whose transaction the server gave up.
const ATTEMPTS: u32 = 6;
/// The first pause between two of them; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// Bytes of a call's parameters at most, names included: the server takes no message of 1 GiB.
const CALL_BYTES: u64 = 512 << 20;

/// Why a call has no verdicts.
pub(super) enum Refused {
    /// The server gave the transaction up for the sake of others: nothing was applied, and it may go better the next time.
    Aborted(String),
    /// Nothing was applied. `may_be_one`: what is wrong may be wrong with one append of the group.
    Unavailable { why: String, may_be_one: bool },
    /// The call was sent, and no answer came.
    Unknown(String),
}

impl From<Refused> for AppendError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Aborted(why) | Refused::Unavailable { why, .. } => Self::Unavailable(why),
            Refused::Unknown(why) => Self::Unknown(why),
        }
    }
}

impl Refused {
    pub(super) fn nothing_sent(why: String) -> Self {
        Self::Unavailable { why, may_be_one: false }
    }

    /// What an error says that came for a call that was sent.
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let why = describe(error);
        let Some(answer) = error.as_db_error() else {
            // What could not be put into a message was not sent.
            let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
            let is_unsent = cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::InvalidInput);
            return if is_unsent { Self::Unavailable { why, may_be_one: true } } else { Self::Unknown(why) };
        };
        let code = answer.code();
        let is_over = answer.parsed_severity() != Some(Severity::Error) || code.code().starts_with("57P");
        if is_over {
            return Self::Unknown(why);
        }
        if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) {
            return Self::Aborted(why);
        }
        let is_about_all = [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED].contains(code);
        Self::Unavailable { why, may_be_one: !is_about_all }
    }
}

impl Shared {
    /// Writes all of `append` or nothing.
    pub(super) async fn append(self: &Arc<Self>, append: Append) -> Result<Appended, AppendError> {
        self.check_size(&append)?;
        let (append, judged) = match Turn::take(self) {
            Some(turn) => {
                let judged = self.judge_alone(&append).await;
                drop(turn);
                (Arc::new(append), judged?)
            }
            None => {
                let append = Arc::new(append);
                let judged = self.wait_for_turn(Arc::clone(&append)).await?;
                (append, judged)
            }
        };
        if let Verdict::Taken(0, position) = judged.verdict {
            let fetching = self.recorded(position, append.len());
            let recorded = fetching.await.map_err(|why| AppendError::Unknown(format!("a repetition? {why}")))?;
            return repetition(&append, position, &recorded);
        }
        appended(&append, judged)
    }

    fn check_size(&self, append: &Append) -> Result<(), AppendError> {
        let options = &self.options;
        let sizes = [
            (append.batch.largest, options.max_event_bytes),
            (append.bytes(), options.max_append_bytes),
            (parameter_bytes(append), CALL_BYTES),
        ];
        match sizes.into_iter().find(|(size, limit)| size > limit) {
            Some((size, limit)) => Err(AppendError::TooLarge { size, limit }),
            None => Ok(()),
        }
    }

    /// An answer for each append. What is wrong with one of them is its own affair.
    pub(super) async fn judge_all(self: &Arc<Self>, appends: &[&Append], matches: &[Vec<Match>]) -> Vec<Answer> {
        match self.judge(appends, matches).await {
            Ok(judged) => judged.into_iter().map(Ok).collect(),
            Err(Refused::Unavailable { may_be_one: true, .. }) if appends.len() > 1 => {
                let mut answers = Vec::with_capacity(appends.len());
                for append in appends {
                    answers.push(self.judge_alone(append).await);
                }
                answers
            }
            Err(refused) => {
                let error = AppendError::from(refused);
                appends.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    async fn judge_alone(self: &Arc<Self>, append: &Append) -> Answer {
        let judged = self.judge(&[append], &[Vec::new()]).await?;
        judged.into_iter().next().ok_or_else(|| AppendError::Unknown("the server answered nothing".to_owned()))
    }

    /// The verdicts of one call, which is repeated as long as the server gives its transaction up.
    async fn judge(self: &Arc<Self>, appends: &[&Append], matches: &[Vec<Match>]) -> Result<Vec<Judged>, Refused> {
        let alone = match *appends {
            [append] => CallForOne::new(append, &self.lock_timeout),
            _ => None,
        };
        if let Some(call) = alone {
            let parameters = call.parameters();
            match self.retried(|| self.send(STATEMENT_FOR_ONE, &TYPES_FOR_ONE, &parameters)).await {
                // The other function looks before it writes, so it can say what is wrong.
                Err(Refused::Unavailable { may_be_one: true, .. }) => {}
                answer => return self.judged(appends, verdict_on_one(&answer?)),
            }
        }
        let mut call = Call::new(true, &self.lock_timeout);
        for (append, matches) in appends.iter().zip(matches) {
            call.add(append, matches);
        }
        let parameters = call.parameters();
        let answer = self.retried(|| self.send(STATEMENT, &TYPES, &parameters)).await?;
        self.judged(appends, call.verdicts(&answer))
    }

    /// Verdicts that have come. Subscriptions learn of what was written.
    fn judged(self: &Arc<Self>, appends: &[&Append], judged: Option<Vec<Judged>>) -> Result<Vec<Judged>, Refused> {
        let judged = judged.ok_or_else(|| Refused::Unknown("a strange answer".to_owned()))?;
        self.has_written(appends, &judged);
        Ok(judged)
    }

    /// What `send` is answered, which is sent again as long as the server gives its transaction up.
    pub(super) async fn retried<T, F>(&self, send: impl Fn() -> F) -> Result<T, Refused>
    where
        F: Future<Output = Result<T, Refused>>,
    {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            match send().await {
                Err(Refused::Aborted(_)) => {}
                answer => return answer,
            }
            sleep(pause.mul_f64(jitter())).await;
            pause *= 2;
        }
        send().await
    }

    async fn send(
        &self,
        statement: &str,
        types: &[Type],
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<i64>, Refused> {
        let lease = self.lessor.lease().await.map_err(Refused::nothing_sent)?;
        let client = lease.begin();
        let late = || format!("no answer in {:?}", self.options.answer_timeout);
        let preparing = timeout(self.options.answer_timeout, client.prepare_typed_cached(statement, types));
        let statement = preparing.await.map_err(|_| Refused::nothing_sent(late()))?;
        let statement = match statement {
            Ok(statement) => statement,
            Err(error) => {
                lease.end();
                return Err(Refused::nothing_sent(describe(&error)));
            }
        };
        let asking = timeout(self.options.answer_timeout, client.query_one(&statement, parameters));
        let answer = asking.await.map_err(|_| Refused::Unknown(late()))?;
        lease.end();
        answer.and_then(|row| row.try_get(0)).map_err(|error| Refused::of(&error))
    }

    /// Tells subscriptions, here and elsewhere, what was written.
    fn has_written(self: &Arc<Self>, appends: &[&Append], judged: &[Judged]) {
        let last = appends.iter().zip(judged).rev().find_map(|(append, judged)| match judged.verdict {
            Verdict::Written(first) => Some(first.get() + append.len() as u64 - 1),
            _ => None,
        });
        if let Some(last) = last {
            self.announce(last);
        }
    }

    /// The `count` events from `first` on, as far as they are there.
    async fn recorded(&self, first: Position, count: usize) -> Result<Vec<RecordedEvent>, String> {
        let lease = self.lessor.lease().await?;
        let client = lease.begin();
        let (statement, from, to) = range(first, count);
        let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&from, Type::INT8), (&to, Type::INT8)];
        let asking = timeout(self.options.answer_timeout, client.query_typed(&statement, &parameters));
        let rows = asking.await.map_err(|_| format!("no answer in {:?}", self.options.answer_timeout))?;
        lease.end();
        events_of(&rows.map_err(|error| describe(&error))?)
    }

    /// As [`Shared::append`], in a transaction of the caller's.
    pub(super) async fn append_in(
        &self,
        transaction: &Transaction<'_>,
        append: &Append,
    ) -> Result<Appended, AppendError> {
        self.check_size(append)?;
        // Whatever is answered, and if nothing is: nothing is applied before the caller commits.
        let unavailable = |error: &tokio_postgres::Error| AppendError::Unavailable(describe(error));
        let mut call = Call::new(false, &self.lock_timeout);
        call.add(append, &[]);
        let values = call.parameters();
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> = values.into_iter().zip(TYPES).collect();
        let asking = self.in_time(transaction.query_typed_one(STATEMENT, &parameters));
        let answer: Vec<i64> = asking.await?.and_then(|row| row.try_get(0)).map_err(|error| unavailable(&error))?;
        let judged = call.verdicts(&answer).and_then(|judged| judged.into_iter().next());
        let judged = judged.ok_or_else(|| AppendError::Unavailable("a strange answer".to_owned()))?;
        if let Verdict::Taken(0, position) = judged.verdict {
            let (statement, from, to) = range(position, append.len());
            let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&from, Type::INT8), (&to, Type::INT8)];
            let asking = self.in_time(transaction.query_typed(&statement, &parameters));
            let rows = asking.await?.map_err(|error| unavailable(&error))?;
            let recorded = events_of(&rows).map_err(AppendError::Unavailable)?;
            return repetition(append, position, &recorded);
        }
        appended(append, judged)
    }

    async fn in_time<T>(&self, asking: impl Future<Output = T>) -> Result<T, AppendError> {
        let late = |_| AppendError::Unavailable(format!("no answer in {:?}", self.options.answer_timeout));
        timeout(self.options.answer_timeout, asking).await.map_err(late)
    }
}

/// What the parameters of a call take for `append`, about: content, names as often as they are sent, and some ten numbers an event.
pub(super) fn parameter_bytes(append: &Append) -> u64 {
    const NUMBERS: usize = 96;
    let batch = &append.batch;
    let names = batch.headers.iter().map(|header| {
        let tags = &batch.tag_sets[header.tag_set as usize];
        // Each tag stands in the event's list and by itself.
        let tags: usize = tags.iter().map(|tag| 2 * tag.as_str().len() + 10).sum();
        NUMBERS + batch.types[header.event_type as usize].as_str().len() + tags
    });
    append.bytes() + names.sum::<usize>() as u64
}

/// The statement for the `count` events from `first` on, and its parameters.
fn range(first: Position, count: usize) -> (String, i64, i64) {
    let statement =
        format!("SELECT 0::bigint, {COLUMNS} FROM es_events e WHERE e.position BETWEEN $1 AND $2 ORDER BY e.position");
    (statement, number(first.get()), number(first.get() + count as u64 - 1))
}

fn events_of(rows: &[tokio_postgres::Row]) -> Result<Vec<RecordedEvent>, String> {
    let mut events = Rows::new();
    for row in rows {
        events.push(row).map_err(|error| error.to_string())?;
    }
    Ok(events.take().events)
}

/// The answer to an append whose first id is taken: `recorded` are the events from there on.
fn repetition(append: &Append, first: Position, recorded: &[RecordedEvent]) -> Result<Appended, AppendError> {
    let batch = &append.batch;
    let stream_of = |header: &Header| match header.stream {
        NO_STREAM => None,
        target => Some(&append.targets[target as usize].stream),
    };
    let is_same = |(place, header): (usize, &Header)| {
        recorded.get(place).is_some_and(|recorded| {
            recorded.position().get() == first.get() + place as u64
                && recorded.has_content_of(
                    header,
                    batch.data_of(place),
                    stream_of(header),
                    &batch.types[header.event_type as usize],
                    &batch.tag_sets[header.tag_set as usize],
                )
        })
    };
    if !batch.headers.iter().enumerate().all(is_same) {
        return Err(AppendError::DuplicateEventId { id: batch.headers[0].event_id(), position: first });
    }
    let written = append.targets.iter().filter(|target| target.count > 0);
    let versions = written.filter_map(|target| {
        let last = batch.headers.iter().rposition(|header| stream_of(header) == Some(&target.stream))?;
        Some((target.stream.clone(), recorded[last].stream_version()?))
    });
    Ok(Appended::new(Some((first, behind(first, append.len() - 1)?)), versions, true))
}

/// The answer to any other append.
fn appended(append: &Append, judged: Judged) -> Result<Appended, AppendError> {
    let Judged { verdict, versions } = judged;
    let positions = match verdict {
        Verdict::Written(first) => Some((first, behind(first, append.len() - 1)?)),
        Verdict::Checked => None,
        Verdict::WrongVersion(target, actual) => {
            let Some(target) = append.targets.get(target) else {
                return Err(AppendError::Unavailable("a strange answer".to_owned()));
            };
            let (stream, expected) = (target.stream.clone(), target.expected);
            return Err(AppendError::WrongExpectedVersion { stream, expected, actual: actual.map(StreamVersion::new) });
        }
        Verdict::Boundary(position) => return Err(AppendError::ConditionFailed { clause: Clause::Boundary, position }),
        Verdict::Existence(position) => {
            return Err(AppendError::ConditionFailed { clause: Clause::Existence, position });
        }
        Verdict::Taken(event, position) => {
            let id = append.batch.headers.get(event).map_or(EventId::from_u128(0), Header::event_id);
            return Err(AppendError::DuplicateEventId { id, position });
        }
    };
    let reached = append.targets.iter().zip(versions).filter(|(target, _)| target.count > 0 || append.is_empty());
    let versions = reached.filter_map(|(target, last)| Some((target.stream.clone(), StreamVersion::new(last?))));
    Ok(Appended::new(positions, versions, false))
}

/// The position `events` behind `first`.
fn behind(first: Position, events: usize) -> Result<Position, AppendError> {
    let position = Position::new(first.get() + events as u64);
    position.ok_or_else(|| AppendError::Unknown("a strange answer".to_owned()))
}

/// From a half to one and a half, evenly.
fn jitter() -> f64 {
    use std::hash::BuildHasher as _;
    0.5 + (std::hash::RandomState::new().hash_one(0) >> 11) as f64 / (1_u64 << 53) as f64
}
