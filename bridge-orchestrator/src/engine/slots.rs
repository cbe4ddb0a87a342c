//! What a workflow function awaits, and what was delivered to it. No clock, no store, no task: the same records give the same state.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use event_store::Timestamp;

use super::record::{Cause, Record};
use crate::workflow::{ExecutionId, Failure, RetryPolicy, StepRun};

/// What was awaited ended with: a value as JSON, or why there is none.
pub(crate) type Answer = Result<Bytes, NoValue>;

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoValue {
    /// What was awaited failed.
    Failed(Failure),
    /// The execution is being cancelled, and nobody waits for the rest.
    Cancelled,
}

/// Signals that were delivered and not asked for yet, at most.
pub(crate) const MAX_UNREAD_SIGNALS: usize = 10_000;

/// What is awaited, as far as a journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Step(&'static str),
    Timer,
    Signal(String),
    Child(ExecutionId),
    Cancelled,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step(name) => write!(f, "step {name}"),
            Self::Timer => f.write_str("a timer"),
            Self::Signal(name) => write!(f, "signal {name}"),
            Self::Child(id) => write!(f, "child {id}"),
            Self::Cancelled => f.write_str("cancellation"),
        }
    }
}

#[derive(Debug)]
enum Stage {
    /// Nobody has polled it yet.
    New,
    /// It was polled, and has no answer.
    Waiting,
    /// It has an answer that nobody has taken.
    Answered(Answer),
    /// Its answer was taken, or it was dropped.
    Over,
}

#[derive(Debug)]
struct Slot {
    kind: Kind,
    stage: Stage,
    is_shielded: bool,
    /// The id of the signal that it was answered with.
    signal: u128,
    waker: Option<Waker>,
}

impl Slot {
    /// Answers with a signal.
    fn give(&mut self, id: u128, payload: Bytes) -> Option<Waker> {
        self.stage = Stage::Answered(Ok(payload));
        self.signal = id;
        self.waker.take()
    }
}

/// What a function wants to have done.
pub(crate) enum Command {
    Step {
        seq: u32,
        name: &'static str,
        run: Pin<Box<dyn StepRun>>,
        retry: RetryPolicy,
        timeout: Option<Duration>,
    },
    Timer {
        seq: u32,
        fire_at: Timestamp,
    },
    Child {
        seq: u32,
        start: ChildStart,
    },
    /// What is awaited under this number is not any more.
    Abandon {
        seq: u32,
    },
}

impl Command {
    /// The number of what is awaited.
    pub(crate) fn seq(&self) -> u32 {
        match self {
            Self::Step { seq, .. } | Self::Timer { seq, .. } | Self::Child { seq, .. } | Self::Abandon { seq } => *seq,
        }
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({:?})", self.seq())
    }
}

/// What is to be done for something that is awaited, before it has begun.
#[derive(Default)]
pub(crate) enum Start {
    /// Others answer it.
    #[default]
    Nothing,
    Step {
        name: &'static str,
        run: Pin<Box<dyn StepRun>>,
        retry: RetryPolicy,
        timeout: Option<Duration>,
    },
    Sleep(Duration),
    SleepUntil(Timestamp),
    Child(ChildStart),
}

impl Start {
    fn command(self, seq: u32, now: Timestamp) -> Option<Command> {
        Some(match self {
            Self::Nothing => return None,
            Self::Step { name, run, retry, timeout } => Command::Step { seq, name, run, retry, timeout },
            Self::Sleep(duration) => {
                let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
                let fire_at = Timestamp::from_micros(now.as_micros().saturating_add(micros));
                Command::Timer { seq, fire_at }
            }
            Self::SleepUntil(fire_at) => Command::Timer { seq, fire_at },
            Self::Child(start) => Command::Child { seq, start },
        })
    }
}

/// A child that is to be started.
#[derive(Debug, Clone)]
pub(crate) struct ChildStart {
    pub(crate) id: ExecutionId,
    pub(crate) workflow: &'static str,
    pub(crate) version: u32,
    pub(crate) input: Bytes,
}

/// The journal says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal has an answer to {journal} under number {seq}, where the function {function}")]
pub struct NonDeterminism {
    /// The number of what was awaited, counted from 0 over all that the run has awaited.
    pub seq: u32,
    /// What the journal has there.
    pub journal: String,
    /// What the function does there.
    pub function: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// What was there in the beginning.
    #[cfg(feature = "testkit")]
    pub(super) carried: Vec<Record>,
    /// So many of them, from the first on, are over.
    over: usize,
    commands: Vec<Command>,
    /// Time of the record that was delivered last.
    now: Timestamp,
    seed: u64,
    drawn: u64,
    /// Records that are known and not delivered yet.
    ahead: usize,
    /// What the journal says of patches, and what was answered.
    recorded_patches: HashSet<String>,
    patches: HashMap<String, bool>,
    new_patches: Vec<String>,
    /// What was delivered and not asked for, by name, with the signal's id.
    unread: HashMap<String, VecDeque<(u128, Bytes)>>,
    unread_count: usize,
    unread_bytes: usize,
    cancelled: Option<Cause>,
    shields: u32,
    exposed: HashMap<String, Bytes>,
    compensations: u32,
    #[cfg(feature = "testkit")]
    pub(super) tape: Option<Box<super::second::Tape>>,
}

impl Slots {
    pub(crate) fn new(seed: u64, now: Timestamp) -> Self {
        Self {
            slots: Vec::new(),
            #[cfg(feature = "testkit")]
            carried: Vec::new(),
            over: 0,
            commands: Vec::new(),
            now,
            seed,
            drawn: 0,
            ahead: 0,
            recorded_patches: HashSet::new(),
            patches: HashMap::new(),
            new_patches: Vec::new(),
            unread: HashMap::new(),
            unread_count: 0,
            unread_bytes: 0,
            cancelled: None,
            shields: 0,
            exposed: HashMap::new(),
            compensations: 0,
            #[cfg(feature = "testkit")]
            tape: None,
        }
    }

    /// So many records come before anything new, and these patches are among them.
    pub(crate) fn expect_history(&mut self, records: usize, patches: HashSet<String>) {
        self.ahead = records;
        self.recorded_patches = patches;
    }

    /// What the run before has left is there before this one begins: signals that nobody has asked for, and a cancellation.
    pub(crate) fn carry(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Signalled { name, id, payload, .. } => self.signal(name, *id, payload, &mut Vec::new()),
                Record::CancelRequested { cause, .. } => self.cancel(*cause, &mut Vec::new()),
                _ => {}
            }
        }
        #[cfg(feature = "testkit")]
        self.carried.extend_from_slice(records);
    }

    /// Whether all that was known is delivered.
    pub(crate) fn is_live(&self) -> bool {
        self.ahead == 0
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.is_some()
    }

    pub(crate) fn cause(&self) -> Option<Cause> {
        self.cancelled
    }

    /// How many signals nobody has asked for, and the bytes of their payloads.
    pub(crate) fn unread_signals(&self) -> (usize, usize) {
        (self.unread_count, self.unread_bytes)
    }

    /// The signals that nobody has asked for: name, id, payload.
    pub(crate) fn take_unread(&mut self) -> Vec<(String, u128, Bytes)> {
        (self.unread_count, self.unread_bytes) = (0, 0);
        let unread = std::mem::take(&mut self.unread);
        let mut unread: Vec<_> = unread
            .into_iter()
            .flat_map(|(name, signals)| signals.into_iter().map(move |(id, payload)| (name.clone(), id, payload)))
            .collect();
        // A map has no order, and a journal is the same for the same history.
        unread.sort_by(|a, b| a.0.cmp(&b.0));
        unread
    }

    /// SplitMix64 (Steele, Lea, Flood 2014) over the execution's seed.
    pub(crate) fn random(&mut self) -> u64 {
        self.drawn += 1;
        #[cfg(feature = "testkit")]
        self.note(|| "draws a random number".to_owned());
        let mut z = self.seed.wrapping_add(self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn patched(&mut self, id: &str) -> bool {
        if let Some(answer) = self.patches.get(id) {
            return *answer;
        }
        let is_recorded = self.recorded_patches.contains(id);
        let answer = is_recorded || self.is_live();
        self.patches.insert(id.to_owned(), answer);
        #[cfg(feature = "testkit")]
        self.note(|| format!("asks whether it is patched with {id}"));
        if answer && !is_recorded {
            self.new_patches.push(id.to_owned());
        }
        answer
    }

    pub(crate) fn take_new_patches(&mut self) -> Vec<String> {
        std::mem::take(&mut self.new_patches)
    }

    pub(crate) fn expose(&mut self, name: &str, value: Bytes) {
        #[cfg(feature = "testkit")]
        self.note(|| format!("shows {} as {name}", String::from_utf8_lossy(&value)));
        self.exposed.insert(name.to_owned(), value);
    }

    pub(crate) fn exposed(&self, name: &str) -> Option<Bytes> {
        self.exposed.get(name).cloned()
    }

    pub(crate) fn enter_shield(&mut self) {
        self.shields += 1;
    }

    pub(crate) fn leave_shield(&mut self) {
        self.shields -= 1;
    }

    pub(crate) fn begin_compensation(&mut self) {
        self.compensations += 1;
    }

    pub(crate) fn end_compensation(&mut self) {
        self.compensations -= 1;
    }

    pub(crate) fn is_compensating(&self) -> bool {
        self.compensations > 0
    }

    /// A number for something that will be awaited.
    pub(crate) fn reserve(&mut self, kind: Kind) -> u32 {
        let seq = self.slots.len() as u32;
        let is_shielded = self.shields > 0;
        #[cfg(feature = "testkit")]
        self.note(|| format!("makes {kind}, number {seq}"));
        self.slots.push(Slot { kind, stage: Stage::New, is_shielded, signal: 0, waker: None });
        seq
    }

    /// Polls what has the number. `start` is taken at the first poll: what is to be done for it.
    pub(crate) fn poll(&mut self, seq: u32, cx: &Context<'_>, start: &mut Start) -> Poll<Answer> {
        let now = self.now;
        let is_cancelled = self.is_cancelled();
        let slot = &mut self.slots[seq as usize];
        match &mut slot.stage {
            Stage::New => {
                slot.is_shielded |= self.shields > 0;
                if is_cancelled && (slot.kind == Kind::Cancelled || !slot.is_shielded) {
                    let is_asked_for = slot.kind == Kind::Cancelled;
                    slot.stage = Stage::Over;
                    return Poll::Ready(if is_asked_for { Ok(Bytes::new()) } else { Err(NoValue::Cancelled) });
                }
                if let Kind::Signal(name) = &slot.kind
                    && let Some((_, payload)) = self.unread.get_mut(name).and_then(VecDeque::pop_front)
                {
                    self.unread_count -= 1;
                    self.unread_bytes -= payload.len();
                    slot.stage = Stage::Over;
                    return Poll::Ready(Ok(payload));
                }
                slot.stage = Stage::Waiting;
                slot.waker = Some(cx.waker().clone());
                let command = std::mem::take(start).command(seq, now);
                #[cfg(feature = "testkit")]
                self.note(|| super::second::begins(seq, command.as_ref()));
                self.commands.extend(command);
                Poll::Pending
            }
            Stage::Waiting => {
                match &mut slot.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Stage::Answered(_) => {
                let Stage::Answered(answer) = std::mem::replace(&mut slot.stage, Stage::Over) else { unreachable!() };
                Poll::Ready(answer)
            }
            Stage::Over => panic!("polled after it was ready"),
        }
    }

    /// What has the number is dropped. The waker is to be woken.
    pub(crate) fn abandon(&mut self, seq: u32) -> Option<Waker> {
        let slot = &mut self.slots[seq as usize];
        slot.waker = None;
        match std::mem::replace(&mut slot.stage, Stage::Over) {
            Stage::Waiting if matches!(slot.kind, Kind::Step(_) | Kind::Timer | Kind::Child(_)) => {
                self.commands.push(Command::Abandon { seq });
                #[cfg(feature = "testkit")]
                self.note(|| format!("gives number {seq} up"));
                None
            }
            Stage::New | Stage::Over | Stage::Waiting => None,
            // The signal is for whoever waits for it next.
            Stage::Answered(answer) => {
                let (Kind::Signal(name), Ok(payload)) = (&slot.kind, answer) else { return None };
                let (name, id) = (name.clone(), slot.signal);
                match self.waits_for(&name) {
                    Some(slot) => slot.give(id, payload),
                    None => {
                        self.unread_count += 1;
                        self.unread_bytes += payload.len();
                        self.unread.entry(name).or_default().push_front((id, payload));
                        None
                    }
                }
            }
        }
    }

    /// Whether somebody still waits for an answer under the number.
    pub(crate) fn is_awaited(&self, seq: u32) -> bool {
        self.slots.get(seq as usize).is_some_and(|slot| matches!(slot.stage, Stage::Waiting))
    }

    /// The children that are awaited outside of a shield.
    pub(crate) fn children_to_cancel(&self) -> Vec<ExecutionId> {
        let awaited = self.slots.iter().filter(|slot| matches!(slot.stage, Stage::Waiting) && !slot.is_shielded);
        awaited
            .filter_map(|slot| if let Kind::Child(child) = &slot.kind { Some(child.clone()) } else { None })
            .collect()
    }

    /// Whether the function awaits anything that can be answered.
    pub(crate) fn awaits_something(&self) -> bool {
        self.slots.iter().rev().any(|slot| matches!(slot.stage, Stage::Waiting | Stage::Answered(_)))
    }

    /// What it awaits that has no answer yet.
    pub(crate) fn awaited(&self) -> Vec<&Kind> {
        self.slots.iter().filter(|slot| matches!(slot.stage, Stage::Waiting)).map(|slot| &slot.kind).collect()
    }

    /// The patches that were asked for and answered with yes.
    #[cfg(feature = "testkit")]
    pub(super) fn patches_taken(&self) -> HashSet<String> {
        self.patches.iter().filter(|(_, is_taken)| **is_taken).map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Delivers one record: its time is the time now, and whoever awaits it has an answer. The wakers are to be woken, then the function
    /// is to be polled. Records that are no answer say nothing to a function.
    pub(crate) fn deliver(&mut self, record: &Record, at: Timestamp) -> Result<Vec<Waker>, NonDeterminism> {
        #[cfg(feature = "testkit")]
        if let Some(tape) = &mut self.tape {
            tape.delivered.push((record.clone(), at));
        }
        self.ahead = self.ahead.saturating_sub(1);
        // A patch is noted behind the record at which it was asked for, and was never delivered then.
        if !matches!(record, Record::Patched { .. }) {
            self.now = self.now.max(at);
        }
        let mut wakers = Vec::new();
        match record {
            Record::StepDone { seq, name, outcome, .. } => {
                self.answer(
                    *seq,
                    |kind| matches!(kind, Kind::Step(own) if *own == name.as_ref()),
                    || format!("step {name}"),
                    outcome.clone().map_err(NoValue::Failed),
                    &mut wakers,
                )?;
            }
            Record::AttemptFailed { seq, name, .. } => {
                self.check(
                    *seq,
                    |kind| matches!(kind, Kind::Step(own) if *own == name.as_ref()),
                    || format!("step {name}"),
                )?;
            }
            Record::TimerFired { seq } => {
                self.answer(*seq, |kind| *kind == Kind::Timer, || "a timer".to_owned(), Ok(Bytes::new()), &mut wakers)?;
            }
            Record::ChildDone { seq, child, outcome } => {
                let is_it = |kind: &Kind| matches!(kind, Kind::Child(own) if own.as_str() == *child);
                self.answer(
                    *seq,
                    is_it,
                    || format!("child {child}"),
                    outcome.clone().map_err(NoValue::Failed),
                    &mut wakers,
                )?;
            }
            Record::Signalled { name, id, payload, .. } => self.signal(name, *id, payload, &mut wakers),
            Record::CancelRequested { cause, .. } => self.cancel(*cause, &mut wakers),
            Record::Patched { .. }
            | Record::Claimed { .. }
            | Record::Retried
            | Record::Settled
            | Record::Started(_)
            | Record::ContinuedAsNew(_)
            | Record::Completed { .. }
            | Record::Failed { .. } => {}
        }
        Ok(wakers)
    }

    fn check(
        &self,
        seq: u32,
        is_it: impl Fn(&Kind) -> bool,
        journal: impl Fn() -> String,
    ) -> Result<(), NonDeterminism> {
        let function = match self.slots.get(seq as usize) {
            Some(slot) if is_it(&slot.kind) => return Ok(()),
            Some(slot) => format!("awaits {}", slot.kind),
            None => format!("has awaited {} things", self.slots.len()),
        };
        Err(NonDeterminism { seq, journal: journal(), function })
    }

    fn answer(
        &mut self,
        seq: u32,
        is_it: impl Fn(&Kind) -> bool,
        journal: impl Fn() -> String,
        answer: Answer,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), NonDeterminism> {
        self.check(seq, is_it, journal)?;
        let slot = &mut self.slots[seq as usize];
        if matches!(slot.stage, Stage::Waiting) {
            slot.stage = Stage::Answered(answer);
            wakers.extend(slot.waker.take());
        }
        Ok(())
    }

    fn signal(&mut self, name: &str, id: u128, payload: &Bytes, wakers: &mut Vec<Waker>) {
        if let Some(slot) = self.waits_for(name) {
            wakers.extend(slot.give(id, payload.clone()));
        } else {
            self.unread.entry(name.to_owned()).or_default().push_back((id, payload.clone()));
            self.unread_count += 1;
            self.unread_bytes += payload.len();
        }
    }

    /// Who waits for a signal of the name, the first of them.
    fn waits_for(&mut self, name: &str) -> Option<&mut Slot> {
        while self.slots.get(self.over).is_some_and(|slot| matches!(slot.stage, Stage::Over)) {
            self.over += 1;
        }
        let is_it =
            |slot: &&mut Slot| matches!((&slot.stage, &slot.kind), (Stage::Waiting, Kind::Signal(own)) if own == name);
        self.slots[self.over..].iter_mut().find(is_it)
    }

    fn cancel(&mut self, cause: Cause, wakers: &mut Vec<Waker>) {
        if self.cancelled.is_some() {
            return;
        }
        self.cancelled = Some(cause);
        for seq in 0..self.slots.len() {
            let slot = &mut self.slots[seq];
            if !matches!(slot.stage, Stage::Waiting) {
                continue;
            }
            if slot.kind == Kind::Cancelled {
                slot.stage = Stage::Answered(Ok(Bytes::new()));
                wakers.extend(slot.waker.take());
                continue;
            }
            if slot.is_shielded {
                continue;
            }
            slot.stage = Stage::Answered(Err(NoValue::Cancelled));
            wakers.extend(slot.waker.take());
            if matches!(slot.kind, Kind::Step(_) | Kind::Timer) {
                self.commands.push(Command::Abandon { seq: seq as u32 });
            }
        }
    }
}
