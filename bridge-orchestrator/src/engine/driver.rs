//! Drives one execution: delivers what arrives, appends it, begins what the function asks for.
//!
//! The order is what makes it sound. Arrivals are delivered to the function in the order in which they will stand in the journal, before
//! they are appended: what the function does between two awaits touches nothing. What it asks for is begun only when the append is
//! acknowledged. So an execution that breaks off anywhere has done nothing that its journal does not account for, and the last answer and the
//! end of a workflow share an append.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::future::{Future as _, poll_fn};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use event_store::{EventStore, Timestamp};
use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::boundary::Boundary;
use super::core::Core;
use super::execution::{Execution, Mail, Parked, Standing};
use super::function::{self, Function, Polled};
use super::journal::{Broken, History, Journal};
use super::lease::Lease;
use super::load::load;
use super::observe::{Seen, observe};
use super::receive::{Arrivals, HeldBack, MAX_SIGNAL_IDS, Reading};
use super::record::{Cause, Record, Started};
use super::slots::{Command, NonDeterminism, Slots};
use super::steps::{Prepared, Steps};
use crate::error::Error;
use crate::workflow::{Failure, NotCommitted, WorkflowError};

/// The pause after the first panic of a function; each next one is twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Records of one append, at most, and bytes of their values, but for the last one's.
const MAX_BATCH: usize = 256;
const MAX_BATCH_BYTES: usize = 8 << 20;

/// How an execution begins here.
pub(super) enum Begin {
    /// It is new.
    New(Box<Started>),
    /// Its journal says where it stands.
    Resume,
    /// It goes on with another run.
    Continue(Box<(History, Journal)>),
}

/// Why a drive ended.
pub(super) enum End {
    /// The execution has ended.
    Ended(Result<Bytes, Failure>),
    /// It had ended before.
    WasEnded(Result<Bytes, Failure>),
    /// It goes on with another run, as whose owner nothing changes.
    Continued(Box<History>),
    /// Its function panicked.
    Panicked(String),
    Parked(Parked),
    /// It has another owner, or the engine shuts down.
    Released,
    /// Another process has it in hand, and lives.
    Elsewhere,
    /// Its journal has to say where it stands.
    LookAgain,
    Refused(Error),
}

/// Runs an execution until it ends, is parked, or is let go.
pub(super) async fn drive<S: EventStore>(core: Arc<Core<S>>, execution: Arc<Execution>, begin: Begin) {
    let mut begin = begin;
    let mut pause = FIRST_PAUSE;
    let standing = loop {
        let end = match load(&core, &execution, mem::replace(&mut begin, Begin::Resume)).await {
            Ok(mut driver) => match driver.run().await {
                End::Continued(history) => {
                    pause = FIRST_PAUSE;
                    begin = Begin::Continue(Box::new((*history, driver.journal)));
                    continue;
                }
                end => end,
            },
            Err(end) => end,
        };
        match end {
            End::Ended(outcome) => {
                core.retain(execution.id());
                break Standing::Ended(outcome);
            }
            End::WasEnded(outcome) => break Standing::Ended(outcome),
            End::Continued(_) => unreachable!("it was taken above"),
            End::Panicked(message) => {
                execution.note_panic(message);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            End::Parked(why) => break Standing::Parked(why),
            // Where there are others, one of them has it, or this process by another name.
            End::Released if core.shared.is_some() && !core.is_stopping() => {}
            End::Released => break Standing::Released,
            End::LookAgain => {}
            End::Elsewhere => match observe(&core, &execution).await {
                Seen::Ended(outcome) => break Standing::Ended(outcome),
                Seen::LookAgain => {}
                Seen::Released => break Standing::Released,
                Seen::Gone => break Standing::Refused(Error::NotFound(execution.id().clone())),
            },
            End::Refused(error) => break Standing::Refused(error),
        }
    };
    core.let_go(&execution, standing);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Deadline,
    Timer(u32),
}

pub(super) struct Arrival {
    pub(super) record: Record,
    pub(super) at: Timestamp,
    pub(super) done: Option<oneshot::Sender<Result<(), Error>>>,
}

pub(super) struct Driver<S> {
    pub(super) core: Arc<Core<S>>,
    pub(super) execution: Arc<Execution>,
    lease: Arc<Lease>,
    pub(super) started: Started,
    function: Function,
    pub(super) journal: Journal,
    /// What the function has asked for, not begun yet.
    held: Vec<Command>,
    steps: Steps,
    pub(super) arrivals: Arrivals,
    /// What is delivered and not appended yet.
    pub(super) outbox: Vec<(Record, Timestamp)>,
    /// Who waits for the outbox to be appended.
    pub(super) waiting: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Who waits for all that has arrived to be appended.
    pub(super) waiting_for_all: Vec<oneshot::Sender<Result<(), Error>>>,
    alarms: BinaryHeap<Reverse<(Timestamp, Alarm)>>,
    sleep: Option<Pin<Box<Sleep>>>,
    pub(super) signals: VecDeque<u128>,
    pub(super) known_signals: HashSet<u128>,
    /// It was claimed before, and nothing came of it.
    is_suspected: bool,
    /// How many messages of the inbox were taken, and whether it is being read.
    pub(super) inbox: u64,
    pub(super) reading: Reading,
    pub(super) held_back: HeldBack,
    /// Where the execution began in the store.
    pub(super) since: u64,
    /// Attempts that the journal knows of.
    failed_attempts: HashMap<u32, (u16, Timestamp)>,
    pub(super) end: Option<End>,
}

impl<S: EventStore> Driver<S> {
    /// Replays `history`.
    pub(super) fn new(
        core: &Arc<Core<S>>,
        execution: &Arc<Execution>,
        lease: Arc<Lease>,
        history: History,
        journal: Journal,
    ) -> Result<Self, End> {
        let History { started, began, carried, records, patches, signals, inbox, since, claims, .. } = history;
        let mut slots = Slots::new(started.seed, began);
        slots.carry(&carried);
        slots.expect_history(records.len(), patches);
        execution.replace_slots(slots);
        let (workflow, version) = (&started.workflow, started.code_version);
        let Some(function) = core.registry.function(execution, &started) else {
            return Err(End::Parked(Parked::Unregistered { workflow: workflow.clone(), version }));
        };
        let mut alarms = BinaryHeap::new();
        if !execution.slots().is_cancelled() {
            alarms.extend(started.deadline.map(|deadline| Reverse((deadline, Alarm::Deadline))));
        }
        let mut driver = Self {
            core: Arc::clone(core),
            execution: Arc::clone(execution),
            lease,
            function,
            started,
            journal,
            held: Vec::new(),
            steps: Steps::new(&core.budgets),
            arrivals: Arrivals::default(),
            outbox: Vec::new(),
            waiting: Vec::new(),
            waiting_for_all: Vec::new(),
            alarms,
            sleep: None,
            known_signals: signals[signals.len().saturating_sub(MAX_SIGNAL_IDS)..].iter().copied().collect(),
            signals: signals[signals.len().saturating_sub(MAX_SIGNAL_IDS)..].iter().copied().collect(),
            is_suspected: claims > 0,
            inbox,
            since,
            reading: Reading::Not,
            held_back: HeldBack::Nothing,
            failed_attempts: HashMap::new(),
            end: None,
        };
        let polled = driver.function.poll();
        driver.after_poll(polled);
        for (record, at) in records {
            if driver.end.is_some() {
                let left = NonDeterminism {
                    seq: record.number().unwrap_or_default(),
                    journal: record.in_short(),
                    function: "has returned before".to_owned(),
                };
                return Err(match driver.end.take() {
                    Some(end @ (End::Panicked(_) | End::Parked(_))) => end,
                    _ => End::Parked(left.into()),
                });
            }
            match record {
                Record::AttemptFailed { seq, attempt, retry_at, .. } => {
                    driver.failed_attempts.insert(seq, (attempt, retry_at));
                }
                Record::CancelRequested { .. } => driver.alarms.clear(),
                _ => {}
            }
            driver.deliver(&record, at);
        }
        // What is in the outbox by now is new: patches, or the end that the function came to.
        Ok(driver)
    }

    async fn run(&mut self) -> End {
        loop {
            tokio::task::consume_budget().await;
            if self.outbox.is_empty() && self.end.is_none() {
                poll_fn(|cx| self.gather(cx)).await;
            }
            self.turn();
            if let Err(end) = self.append().await {
                return self.close(end);
            }
            if let Some(end) = self.end.take() {
                return self.close(end);
            }
            if let Err(end) = self.commit().await {
                return self.close(end);
            }
        }
    }

    /// Waits until something has arrived, or the execution ends.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.lease.is_lost() {
            self.end = Some(End::Released);
            return Poll::Ready(());
        }
        // Who is not sure to be the owner begins nothing, nor who is about to let go.
        let is_sure = self.lease.is_sure() && !self.core.is_stopping();
        if is_sure {
            for command in mem::take(&mut self.held) {
                self.begin(command);
            }
        }
        self.poll_steps(cx, is_sure);
        // What comes behind the end is refused when the mailbox is closed.
        while self.end.is_none()
            && let Some(mail) = self.execution.next_mail()
        {
            self.receive(mail);
        }
        self.make_room();
        if self.end.is_some() {
            return Poll::Ready(());
        }
        if self.arrivals.is_empty() {
            self.acknowledge();
        }
        if self.function.is_foreign() {
            self.end = Some(End::Parked(Parked::ForeignAwait));
        } else if self.arrivals.is_empty() && self.core.lets_go(self.steps.is_any_under_way()) {
            self.end = Some(End::Released);
        }
        self.ring(cx, is_sure);
        self.settle();
        let has_something = !self.arrivals.is_empty() || !self.outbox.is_empty() || self.steps.prepared().is_some();
        let is_idle = !has_something && self.end.is_none();
        if is_idle { Poll::Pending } else { Poll::Ready(()) }
    }

    /// An execution that was claimed again and again without getting on, and waits by now, is none that kills its owners.
    fn settle(&mut self) {
        let is_waiting = self.arrivals.is_empty() && self.end.is_none() && self.held.is_empty();
        if self.is_suspected && is_waiting && !self.steps.is_any_under_way() {
            self.is_suspected = false;
            // It is nothing to the function.
            self.outbox.push((Record::Settled, self.core.clock.now()));
        }
    }

    fn poll_steps(&mut self, cx: &mut Context<'_>, may_begin: bool) {
        let (clock, arrivals) = (&self.core.clock, &mut self.arrivals);
        self.steps.poll(
            cx,
            (self.execution.id(), &self.core),
            || clock.now(),
            may_begin,
            |record, at| arrivals.push_back(Arrival { record, at, done: None }),
        );
    }

    /// Takes what is due, and sleeps until the next moment that counts.
    fn ring(&mut self, cx: &mut Context<'_>, may_begin: bool) {
        loop {
            let next = self.alarms.peek().map(|Reverse((at, _))| *at);
            let Some(next) = next.into_iter().chain(self.steps.next_alarm().filter(|_| may_begin)).min() else {
                return;
            };
            let now = self.core.clock.now();
            while let Some(Reverse((at, alarm))) = self.alarms.peek().copied()
                && at <= now
            {
                self.alarms.pop();
                match alarm {
                    Alarm::Deadline => {
                        self.receive(Mail::Cancel { cause: Cause::Deadline, told: Vec::new(), done: None });
                    }
                    Alarm::Timer(seq) if self.execution.slots().is_awaited(seq) => {
                        self.arrivals.push_back(Arrival { record: Record::TimerFired { seq }, at: now, done: None });
                    }
                    Alarm::Timer(_) => {}
                }
            }
            if !self.arrivals.is_empty() {
                return;
            }
            if next <= now {
                self.poll_steps(cx, may_begin);
                if !self.arrivals.is_empty() {
                    return;
                }
                continue;
            }
            let left = Duration::from_micros(next.as_micros().saturating_sub(now.as_micros()).unsigned_abs());
            let until = tokio::time::Instant::now() + left.min(self.core.longest_sleep);
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(until),
                none => *none = Some(Box::pin(tokio::time::sleep_until(until))),
            }
            let sleep = self.sleep.as_mut().expect("it was set");
            if sleep.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    /// Delivers what has arrived, in order, until the function has ended.
    fn turn(&mut self) {
        let mut bytes = 0;
        while self.end.is_none() && self.outbox.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Some(Arrival { record, at, done }) = self.arrivals.pop_front() else { break };
            bytes += record.value_bytes();
            self.waiting.extend(done);
            self.deliver_new(record, at);
        }
        if self.end.is_some() {
            let left = self.arrivals.take();
            // Who has repeated a signal that is among them is told the same.
            let repeated = if left.is_empty() { Vec::new() } else { mem::take(&mut self.waiting_for_all) };
            for done in left.into_iter().filter_map(|arrival| arrival.done).chain(repeated) {
                let _ = done.send(Err(Error::NotFound(self.execution.id().clone())));
            }
        }
    }

    fn deliver_new(&mut self, record: Record, at: Timestamp) {
        let polled = self.tell(&record, at);
        // What does not fit the function is not written: it would not fit any more when it is read.
        if !matches!(self.end, Some(End::Parked(Parked::NonDeterminism(_)))) {
            self.outbox.push((record, at));
        }
        self.after_poll(polled);
    }

    fn deliver(&mut self, record: &Record, at: Timestamp) {
        let polled = self.tell(record, at);
        self.after_poll(polled);
    }

    fn tell(&mut self, record: &Record, at: Timestamp) -> Polled {
        self.function.tell(record, at).unwrap_or_else(|error| {
            self.end = Some(End::Parked(error.into()));
            Polled::Waits
        })
    }

    fn after_poll(&mut self, polled: Polled) {
        let at = self.core.clock.now();
        let (commands, patches) = {
            let mut slots = self.execution.slots();
            (slots.take_commands(), slots.take_new_patches())
        };
        self.held.extend(commands);
        self.outbox.extend(patches.into_iter().map(|id| (Record::Patched { id }, at)));
        match polled {
            Polled::Waits => {}
            Polled::Unsound(why) => self.end = Some(End::Parked(why)),
            Polled::Panicked(message) => self.end = Some(End::Panicked(message)),
            Polled::Returned(result) => self.returned(result, at),
        }
    }

    fn returned(&mut self, result: Result<Bytes, WorkflowError>, at: Timestamp) {
        let cause = self.execution.slots().cause();
        let outcome = match function::outcome(result, cause) {
            Ok(outcome) => outcome,
            Err(input) => return self.go_on(input, at),
        };
        let record = match outcome.clone() {
            Ok(output) => Record::Completed { output },
            Err(failure) => Record::Failed { failure },
        };
        self.outbox.push((record, at));
        self.end = Some(End::Ended(outcome));
    }

    fn go_on(&mut self, input: Bytes, at: Timestamp) {
        let unread = self.execution.slots().take_unread();
        let signals =
            unread.into_iter().map(|(name, id, payload)| (Record::Signalled { name, id, payload, inbox: 0 }, at));
        let mut records: Vec<_> = signals.collect();
        // What has arrived and was not delivered belongs to the next run, but for answers to this one.
        for Arrival { record, at, done } in self.arrivals.take() {
            self.waiting.extend(done);
            if matches!(record, Record::Signalled { .. } | Record::CancelRequested { .. }) {
                records.push((record, at));
            }
        }
        let kept: HashSet<u128> = records
            .iter()
            .filter_map(|(record, _)| if let Record::Signalled { id, .. } = record { Some(*id) } else { None })
            .collect();
        // Those that are kept come again behind.
        let taken_signals = self.signals.iter().copied().filter(|id| !kept.contains(id)).collect();
        let seed = self.started.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
            ^ u64::from(self.started.code_version);
        let (owner, inbox, since, carried) = (self.lease.owner(), self.inbox, self.since, records.len() as u32);
        let next = Started { input, seed, owner, inbox, since, carried, ..self.started.clone() };
        let started = Started { start_at: None, taken_signals, ..next };
        self.outbox.push((Record::ContinuedAsNew(Box::new(started.clone())), at));
        self.outbox.extend(records.iter().cloned());
        let mut history = History::new(started, at, event_store::StreamVersion::FIRST);
        history.signals.extend(kept);
        history.carried = records.into_iter().map(|(record, _)| record).collect();
        self.end = Some(End::Continued(Box::new(history)));
    }

    async fn append(&mut self) -> Result<(), End> {
        if self.outbox.is_empty() {
            self.acknowledge();
            return Ok(());
        }
        if self.lease.sure().await.is_err() {
            return Err(End::Released);
        }
        self.core.at(Boundary::BeforeAppend);
        let Self { core, journal, outbox, steps, arrivals, execution, .. } = self;
        let clock = &core.clock;
        let appended = journal.append(&core.store, outbox, |cx| {
            let arrive = |record, at| arrivals.push_back(Arrival { record, at, done: None });
            steps.poll(cx, (execution.id(), core), || clock.now(), false, arrive);
        });
        let appended = appended.await;
        self.core.at(Boundary::AfterAppend);
        match appended {
            Ok(_) => {}
            Err(Broken::Fenced) => return Err(End::Released),
            Err(Broken::Refused(error)) => {
                // Too large to be written, alone or together: there is no way on.
                return Err(End::Parked(Parked::Malformed(error.to_string())));
            }
        }
        self.outbox.clear();
        self.acknowledge();
        Ok(())
    }

    /// Commits a step together with its record, if one waits for that.
    async fn commit(&mut self) -> Result<(), End> {
        let Some(Prepared { seq, attempt, name, value }) = self.steps.prepared() else { return Ok(()) };
        if !self.execution.slots().is_awaited(seq) {
            // Nobody waits for it any more: it is rolled back.
            self.steps.abandon(seq);
            return Ok(());
        }
        if self.lease.sure().await.is_err() {
            return Err(End::Released);
        }
        let at = self.core.clock.now();
        let record = Record::StepDone { seq, attempt, name: Cow::Borrowed(name), outcome: Ok(value) };
        let records = [(record, at)];
        self.core.at(Boundary::BeforeAppend);
        self.steps.commit(seq, self.journal.next(&records));
        let Self { core, steps, arrivals, execution, .. } = self;
        let clock = &core.clock;
        let committed = poll_fn(|cx| {
            let mut arrive = |record, at| arrivals.push_back(Arrival { record, at, done: None });
            steps.poll(cx, (execution.id(), core), || clock.now(), false, &mut arrive);
            steps.poll_commit(seq, cx, || clock.now(), arrive)
        });
        let committed = committed.await;
        self.core.at(Boundary::AfterAppend);
        match committed {
            Ok(version) => {
                self.journal.appended(Some(version), 1);
                let [(record, at)] = &records;
                self.deliver(record, *at);
                Ok(())
            }
            Err(NotCommitted::Failed(_)) => Ok(()),
            Err(NotCommitted::Fenced) => Err(End::Released),
            // A claim settles it: behind one, what is not in the journal will never be.
            Err(NotCommitted::Unknown) => Err(End::LookAgain),
        }
    }

    fn acknowledge(&mut self) {
        for done in self.waiting.drain(..) {
            let _ = done.send(Ok(()));
        }
        if self.arrivals.is_empty() {
            self.waiting_for_all.drain(..).for_each(|done| drop(done.send(Ok(()))));
        }
    }

    /// Begins what the function has asked for: all that led to it is in the journal.
    fn begin(&mut self, command: Command) {
        if let Command::Abandon { seq } = command {
            return self.steps.abandon(seq);
        }
        if !self.execution.slots().is_awaited(command.seq()) {
            return;
        }
        match command {
            Command::Step { seq, name, run, retry, timeout } => {
                let failed = self.failed_attempts.remove(&seq);
                self.steps.add(seq, name, run, (retry, timeout), failed);
            }
            Command::Timer { seq, fire_at } => self.alarms.push(Reverse((fire_at, Alarm::Timer(seq)))),
            Command::Child { seq, start } => Core::begin_child(&self.core, &self.execution, &self.started, seq, start),
            Command::Abandon { .. } => {}
        }
    }

    fn close(&mut self, end: End) -> End {
        for done in self.waiting.drain(..).chain(self.waiting_for_all.drain(..)) {
            let _ = done.send(Err(Error::ShutDown));
        }
        for done in self.arrivals.take().into_iter().filter_map(|arrival| arrival.done) {
            let _ = done.send(Err(Error::ShutDown));
        }
        end
    }
}
