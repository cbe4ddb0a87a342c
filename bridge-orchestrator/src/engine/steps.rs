//! The steps of one execution that run or wait for their next attempt.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use event_store::{Append, StreamVersion, Timestamp};

use super::budgets::Budgets;
use super::host::Host;
use super::record::Record;
use crate::error::ErrorCode;
use crate::workflow::{Attempt, ExecutionId, NotCommitted, Progress, RetryPolicy, StepError, StepRun};

/// An attempt that is over the budget waits at least so long before it is asked for again.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

struct Running {
    seq: u32,
    name: &'static str,
    run: Pin<Box<dyn StepRun>>,
    retry: RetryPolicy,
    timeout: Option<Duration>,
    /// The attempt that is under way, or the one that comes.
    attempt: u16,
    is_under_way: bool,
    /// How often the budget has refused the attempt that comes.
    refused: u16,
    /// When the attempt has to have ended, or begins.
    alarm: Option<Timestamp>,
    /// What it waits to be committed with.
    prepared: Option<Bytes>,
}

/// A step that waits to be committed together with its record.
pub(super) struct Prepared {
    pub(super) seq: u32,
    pub(super) attempt: u16,
    pub(super) name: &'static str,
    pub(super) value: Bytes,
}

pub(super) struct Steps {
    running: Vec<Running>,
    budgets: Arc<Budgets>,
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.running.iter().map(|step| step.name)).finish()
    }
}

impl Steps {
    pub(super) fn new(budgets: &Arc<Budgets>) -> Self {
        Self { running: Vec::new(), budgets: Arc::clone(budgets) }
    }

    /// Adds a step; `failed` are the attempts that the journal knows of, with the time before which there is no other.
    pub(super) fn add(
        &mut self,
        seq: u32,
        name: &'static str,
        run: Pin<Box<dyn StepRun>>,
        (retry, timeout): (RetryPolicy, Option<Duration>),
        failed: Option<(u16, Timestamp)>,
    ) {
        if failed.is_none() {
            self.budgets.call(name);
        }
        let (attempt, alarm) = failed.map_or((1, None), |(attempts, at)| (attempts.saturating_add(1), Some(at)));
        let alarm = alarm.or(Some(Timestamp::from_micros(i64::MIN)));
        self.running.push(Running {
            seq,
            name,
            run,
            retry,
            timeout,
            attempt,
            is_under_way: false,
            refused: 0,
            alarm,
            prepared: None,
        });
    }

    pub(super) fn abandon(&mut self, seq: u32) {
        if let Some(at) = self.running.iter().position(|step| step.seq == seq) {
            discard(self.running.swap_remove(at));
        }
    }

    pub(super) fn is_any_under_way(&self) -> bool {
        self.running.iter().any(|step| step.is_under_way)
    }

    pub(super) fn next_alarm(&self) -> Option<Timestamp> {
        self.running.iter().filter_map(|step| step.alarm).min()
    }

    /// The first step that waits to be committed.
    pub(super) fn prepared(&self) -> Option<Prepared> {
        self.running.iter().find_map(|step| {
            let value = step.prepared.clone()?;
            Some(Prepared { seq: step.seq, attempt: step.attempt, name: step.name, value })
        })
    }

    pub(super) fn commit(&mut self, seq: u32, append: Append) {
        if let Some(step) = self.running.iter_mut().find(|step| step.seq == seq) {
            step.run.as_mut().commit(append);
        }
    }

    /// Goes on with a step that is being committed. One that failed is passed to `arrive`, and goes on from there.
    pub(super) fn poll_commit(
        &mut self,
        seq: u32,
        cx: &mut Context<'_>,
        now: impl Fn() -> Timestamp,
        arrive: impl FnOnce(Record, Timestamp),
    ) -> Poll<Result<StreamVersion, NotCommitted>> {
        let Some(at) = self.running.iter().position(|step| step.seq == seq) else {
            return Poll::Ready(Err(NotCommitted::Unknown));
        };
        let step = &mut self.running[at];
        let error = match ready!(step.run.as_mut().poll(cx)) {
            Progress::Prepared(_) => return Poll::Pending,
            Progress::Committed(Err(NotCommitted::Failed(error))) | Progress::Done(Err(error)) => error,
            Progress::Done(Ok(_)) => StepError::retryable("it was not committed"),
            Progress::Committed(ended) => {
                discard(self.running.swap_remove(at));
                return Poll::Ready(ended);
            }
        };
        step.prepared = None;
        let (record, time) = step.failed(error.clone(), now());
        if matches!(record, Record::StepDone { .. }) {
            discard(self.running.swap_remove(at));
        }
        arrive(record, time);
        Poll::Ready(Err(NotCommitted::Failed(error)))
    }

    /// Begins attempts that are due, if any may begin, ends those that take too long, goes on with the others. What ended is passed to `arrive`.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (execution, host): (&ExecutionId, &dyn Host),
        now: impl Fn() -> Timestamp,
        may_begin: bool,
        mut arrive: impl FnMut(Record, Timestamp),
    ) {
        let mut at = 0;
        while at < self.running.len() {
            let step = &mut self.running[at];
            let Some(record) = step.poll(cx, (execution, host), &now, may_begin, &self.budgets) else {
                at += 1;
                continue;
            };
            if matches!(record.0, Record::StepDone { .. }) {
                discard(self.running.swap_remove(at));
            } else {
                at += 1;
            }
            arrive(record.0, record.1);
        }
    }
}

impl Running {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (execution, host): (&ExecutionId, &dyn Host),
        now: &impl Fn() -> Timestamp,
        may_begin: bool,
        budgets: &Budgets,
    ) -> Option<(Record, Timestamp)> {
        if self.prepared.is_some() {
            return None;
        }
        if !self.is_under_way {
            let due = self.alarm.filter(|_| may_begin)?;
            if due.as_micros() != i64::MIN && due > now() {
                return None;
            }
            if self.attempt > 1 && !budgets.try_retry(self.name, tokio::time::Instant::now().into_std()) {
                self.refused = self.refused.saturating_add(1);
                let pause = self.retry.pause(self.attempt.saturating_add(self.refused), fastrand::f64());
                self.alarm = Some(after(now(), pause.max(LEAST_PAUSE)));
                return None;
            }
            self.is_under_way = true;
            self.alarm = self.timeout.map(|limit| after(now(), limit));
            let attempt = Attempt { number: self.attempt, key: format!("{execution}/{}", self.seq) };
            if let Err(error) = self.run.as_mut().begin(attempt, host) {
                return Some(self.failed(error, now()));
            }
        }
        match self.run.as_mut().poll(cx) {
            Poll::Ready(Progress::Prepared(value)) => {
                (self.prepared, self.alarm) = (Some(value), None);
                None
            }
            Poll::Ready(Progress::Committed(_)) => {
                Some(self.failed(StepError::retryable("it was committed by nobody"), now()))
            }
            Poll::Ready(Progress::Done(Ok(value))) => {
                let name = Cow::Borrowed(self.name);
                Some((Record::StepDone { seq: self.seq, attempt: self.attempt, name, outcome: Ok(value) }, now()))
            }
            Poll::Ready(Progress::Done(Err(error))) => Some(self.failed(error, now())),
            Poll::Pending => {
                let limit = self.timeout?;
                let now = now();
                if self.alarm.is_some_and(|alarm| alarm > now) {
                    return None;
                }
                self.run.as_mut().end();
                let error = StepError::retryable(format!("no result in {limit:?}")).code(ErrorCode::Timeout);
                Some(self.failed(error, now))
            }
        }
    }

    fn failed(&mut self, error: StepError, now: Timestamp) -> (Record, Timestamp) {
        let (seq, attempt, name) = (self.seq, self.attempt, Cow::Borrowed(self.name));
        let record = if error.is_retryable && attempt < self.retry.attempts {
            let retry_at = after(now, self.retry.pause(attempt, fastrand::f64()));
            self.is_under_way = false;
            self.refused = 0;
            self.attempt += 1;
            self.alarm = Some(retry_at);
            Record::AttemptFailed { seq, attempt, name, failure: error.failure, retry_at }
        } else {
            Record::StepDone { seq, attempt, name, outcome: Err(error.failure) }
        };
        (record, now)
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.running.drain(..).for_each(discard);
    }
}

/// Drops a step with what its function holds, which is user code, too: a panic there is nobody's affair.
fn discard(step: Running) {
    let _ = catch_unwind(AssertUnwindSafe(move || drop(step)));
}

/// `duration` behind `time`.
pub(super) fn after(time: Timestamp, duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(time.as_micros().saturating_add(micros))
}
