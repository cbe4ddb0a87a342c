//! Drives one execution: delivers what arrives, appends it, begins what the function asks for.
//!
//! The order is what makes it sound. Arrivals are delivered to the function in the order in which they will stand in the journal, before
//! they are appended: what the function does between two awaits touches nothing. What it asks for is begun only when the append is
//! acknowledged. So an execution that breaks off anywhere has done nothing that its journal does not account for, and the last answer and the
//! end of a workflow share an append.

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

use super::core::Core;
use super::execution::{Execution, Mail, Parked, Standing};
use super::function::{self, Function, Polled};
use super::journal::{self, Broken, History, Journal};
use super::record::{Cause, Record, Started};
use super::slots::{Command, MAX_UNREAD_SIGNALS, NonDeterminism, Slots};
use super::steps::Steps;
use crate::error::Error;
use crate::workflow::{Failure, WorkflowError};

/// Claims without anything behind them before an execution is left alone.
const MAX_CLAIMS: u32 = 10;
/// The pause after the first panic of a function; each next one is twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Records of one append, at most.
const MAX_BATCH: usize = 256;
/// Ids of signals that are remembered, at most: the latest.
const MAX_SIGNAL_IDS: usize = 1_024;

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
enum End {
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
            End::Released => break Standing::Released,
            End::Refused(error) => break Standing::Refused(error),
        }
    };
    core.let_go(&execution, standing);
}

async fn load<S: EventStore>(core: &Arc<Core<S>>, execution: &Arc<Execution>, begin: Begin) -> Result<Driver<S>, End> {
    let stream = execution.id().stream();
    let (history, journal) = match begin {
        Begin::New(started) => {
            execution.describe(&started);
            let mut journal = Journal::new(stream, None);
            let now = core.clock.now();
            let records = [(Record::Started(started.clone()), now)];
            let appended = journal.append(&core.store, &records, |_| ()).await;
            match appended {
                Ok(()) => {}
                Err(Broken::Fenced) => return Err(End::Refused(Error::AlreadyExists(execution.id().clone()))),
                Err(Broken::Refused(error)) => return Err(End::Refused(Error::Append(error))),
            }
            (History::new(*started, now, event_store::StreamVersion::FIRST), journal)
        }
        Begin::Continue(next) => {
            let (history, journal) = *next;
            // Where it fails the next run removes more.
            let _ = core.store.truncate_stream(&stream, journal.before(history.records.len() as u64)).await;
            (history, journal)
        }
        Begin::Resume => {
            let mut pause = FIRST_PAUSE;
            let history = loop {
                match journal::read(&core.store, &stream).await {
                    Ok(Some(history)) => break history,
                    Ok(None) => return Err(End::Refused(Error::NotFound(execution.id().clone()))),
                    Err(error @ Error::Malformed { .. }) => {
                        return Err(End::Parked(Parked::Malformed(error.to_string())));
                    }
                    Err(_) => tokio::time::sleep(pause).await,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            };
            if let Some(end) = history.end {
                return Err(End::WasEnded(end));
            }
            execution.describe(&history.started);
            let (workflow, version) = (&history.started.workflow, history.started.code_version);
            // What nobody here can run waits for somebody who can, and burns no attempt.
            if core.registry.get(workflow, version).is_none() {
                return Err(End::Parked(Parked::Unregistered { workflow: workflow.clone(), version }));
            }
            if history.claims >= MAX_CLAIMS {
                let last = execution.last_panic().unwrap_or_else(|| "its owners ended".to_owned());
                return Err(End::Parked(Parked::Poisoned { attempts: history.claims, last }));
            }
            let mut journal = Journal::new(stream, Some(history.version));
            let claim = Record::Claimed { owner: core.owner, epoch: history.epoch + 1 };
            match journal.append(&core.store, &[(claim, core.clock.now())], |_| ()).await {
                Ok(()) => {}
                Err(Broken::Fenced) => return Err(End::Released),
                Err(Broken::Refused(error)) => return Err(End::Refused(Error::Append(error))),
            }
            (history, journal)
        }
    };
    execution.stands(Standing::Running);
    Driver::new(core, execution, history, journal)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Deadline,
    Timer(u32),
}

struct Arrival {
    record: Record,
    at: Timestamp,
    done: Option<oneshot::Sender<Result<(), Error>>>,
}

struct Driver<S> {
    core: Arc<Core<S>>,
    execution: Arc<Execution>,
    started: Started,
    function: Function,
    journal: Journal,
    /// What the function has asked for, not begun yet.
    held: Vec<Command>,
    steps: Steps,
    /// What came and is not delivered yet.
    arrivals: VecDeque<Arrival>,
    /// What is delivered and not appended yet.
    outbox: Vec<(Record, Timestamp)>,
    /// Who waits for the outbox to be appended.
    waiting: Vec<oneshot::Sender<Result<(), Error>>>,
    alarms: BinaryHeap<Reverse<(Timestamp, Alarm)>>,
    sleep: Option<Pin<Box<Sleep>>>,
    signals: VecDeque<u128>,
    known_signals: HashSet<u128>,
    /// Attempts that the journal knows of.
    failed_attempts: HashMap<u32, (u16, Timestamp)>,
    end: Option<End>,
}

impl<S: EventStore> Driver<S> {
    /// Replays `history`.
    fn new(core: &Arc<Core<S>>, execution: &Arc<Execution>, history: History, journal: Journal) -> Result<Self, End> {
        let History { started, began, records, patches, signals, .. } = history;
        let mut slots = Slots::new(started.seed, began);
        slots.expect_history(records.len(), patches);
        execution.replace_slots(slots);
        let (workflow, version) = (&started.workflow, started.code_version);
        let Some(function) = core.registry.function(execution, &started) else {
            return Err(End::Parked(Parked::Unregistered { workflow: workflow.clone(), version }));
        };
        let mut alarms = BinaryHeap::new();
        alarms.extend(started.deadline.map(|deadline| Reverse((deadline, Alarm::Deadline))));
        let mut driver = Self {
            core: Arc::clone(core),
            execution: Arc::clone(execution),
            function,
            started,
            journal,
            held: Vec::new(),
            steps: Steps::new(&core.budgets),
            arrivals: VecDeque::new(),
            outbox: Vec::new(),
            waiting: Vec::new(),
            alarms,
            sleep: None,
            known_signals: signals.iter().copied().collect(),
            signals: signals.into(),
            failed_attempts: HashMap::new(),
            end: None,
        };
        let polled = driver.function.poll();
        driver.after_poll(polled);
        for (record, at) in records {
            if driver.end.is_some() {
                let left =
                    NonDeterminism { seq: u32::MAX, journal: "more".to_owned(), function: "has returned".to_owned() };
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
        }
    }

    /// Waits until something has arrived, or the execution ends.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.execution.waker.register(cx.waker());
        for command in mem::take(&mut self.held) {
            self.begin(command);
        }
        self.poll_steps(cx);
        // What comes behind the end is refused when the mailbox is closed.
        while self.end.is_none()
            && let Some(mail) = self.execution.next_mail()
        {
            self.receive(mail);
        }
        if self.end.is_some() {
            return Poll::Ready(());
        }
        if self.arrivals.is_empty() {
            self.acknowledge();
        }
        if self.function.is_foreign() {
            self.end = Some(End::Parked(Parked::ForeignAwait));
        } else if self.core.lets_go(self.steps.is_any_under_way()) {
            self.end = Some(End::Released);
        }
        self.ring(cx);
        if self.arrivals.is_empty() && self.end.is_none() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn poll_steps(&mut self, cx: &mut Context<'_>) {
        let (clock, arrivals) = (&self.core.clock, &mut self.arrivals);
        self.steps.poll(
            cx,
            self.execution.id(),
            || clock.now(),
            true,
            |record, at| arrivals.push_back(Arrival { record, at, done: None }),
        );
    }

    /// Takes what is due, and sleeps until the next moment that counts.
    fn ring(&mut self, cx: &mut Context<'_>) {
        loop {
            let next = self.alarms.peek().map(|Reverse((at, _))| *at);
            let Some(next) = next.into_iter().chain(self.steps.next_alarm()).min() else { return };
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
                self.poll_steps(cx);
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

    fn receive(&mut self, mail: Mail) {
        let now = self.core.clock.now();
        let mut arrive = |record, done| self.arrivals.push_back(Arrival { record, at: now, done });
        match mail {
            Mail::Signal { name, id, payload, done } => {
                if self.known_signals.contains(&id) {
                    // It is in the journal, or on its way there with what else has arrived.
                    self.waiting.push(done);
                } else if self.execution.slots().unread_signals() >= MAX_UNREAD_SIGNALS {
                    let _ = done.send(Err(Error::Busy("too many signals are unread")));
                } else {
                    self.known_signals.insert(id);
                    self.signals.push_back(id);
                    arrive(Record::Signalled { name, id, payload }, Some(done));
                }
                while self.signals.len() > MAX_SIGNAL_IDS {
                    self.signals.pop_front().map(|oldest| self.known_signals.remove(&oldest));
                }
            }
            Mail::Cancel { cause, told, done } => {
                let (is_cancelled, mut children) = {
                    let slots = self.execution.slots();
                    (slots.is_cancelled(), slots.children_to_cancel())
                };
                children.retain(|child| !told.contains(child));
                if is_cancelled {
                    self.waiting.extend(done);
                } else if children.is_empty() {
                    arrive(Record::CancelRequested { cause }, done);
                } else {
                    Core::cancel_children(&self.core, &self.execution, children, (cause, told, done));
                }
            }
            Mail::Terminate { done } => {
                let failure = Failure::terminated();
                self.outbox.push((Record::Failed { failure: failure.clone() }, now));
                self.waiting.push(done);
                self.end = Some(End::Ended(Err(failure)));
            }
            Mail::ChildDone { seq, child, outcome } => {
                if self.execution.slots().is_awaited(seq) {
                    arrive(Record::ChildDone { seq, child: child.as_str().to_owned(), outcome }, None);
                }
            }
        }
    }

    /// Delivers what has arrived, in order, until the function has ended.
    fn turn(&mut self) {
        while self.end.is_none() && self.outbox.len() < MAX_BATCH {
            let Some(Arrival { record, at, done }) = self.arrivals.pop_front() else { break };
            self.waiting.extend(done);
            self.deliver_new(record, at);
        }
        if self.end.is_some() {
            for arrival in self.arrivals.drain(..) {
                if let Some(done) = arrival.done {
                    let _ = done.send(Err(Error::NotFound(self.execution.id().clone())));
                }
            }
        }
    }

    fn deliver_new(&mut self, record: Record, at: Timestamp) {
        let polled = self.tell(&record, at);
        self.outbox.push((record, at));
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
        let kept: HashSet<u128> = unread.iter().map(|(_, id, _)| *id).collect();
        // Those that are kept come again behind.
        let taken_signals = self.signals.iter().copied().filter(|id| !kept.contains(id)).collect();
        let seed = self.started.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
            ^ u64::from(self.started.code_version);
        let started = Started { input, seed, start_at: None, taken_signals, ..self.started.clone() };
        let signals = unread.into_iter().map(|(name, id, payload)| (Record::Signalled { name, id, payload }, at));
        let records: Vec<_> = signals.collect();
        self.outbox.push((Record::ContinuedAsNew(Box::new(started.clone())), at));
        self.outbox.extend(records.iter().cloned());
        let mut history = History::new(started, at, event_store::StreamVersion::FIRST);
        history.signals.extend(kept);
        history.records = records;
        self.end = Some(End::Continued(Box::new(history)));
    }

    async fn append(&mut self) -> Result<(), End> {
        if self.outbox.is_empty() {
            self.acknowledge();
            return Ok(());
        }
        let Self { core, journal, outbox, steps, arrivals, execution, .. } = self;
        let clock = &core.clock;
        let appended = journal.append(&core.store, outbox, |cx| {
            let arrive = |record, at| arrivals.push_back(Arrival { record, at, done: None });
            steps.poll(cx, execution.id(), || clock.now(), false, arrive);
        });
        match appended.await {
            Ok(()) => {}
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

    fn acknowledge(&mut self) {
        for done in self.waiting.drain(..) {
            let _ = done.send(Ok(()));
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
        for done in self.waiting.drain(..) {
            let _ = done.send(Err(Error::ShutDown));
        }
        for done in self.arrivals.drain(..).filter_map(|arrival| arrival.done) {
            let _ = done.send(Err(Error::ShutDown));
        }
        end
    }
}
