//! What a journal consists of: one event a record. The payload is the user's value as JSON; what is ours stands in the metadata, little-endian
//! behind a version.

use std::borrow::Cow;

use bytes::{BufMut as _, Bytes, BytesMut};
use event_store::{EventId, EventType, NewEvent, RecordedEvent, Timestamp};
use uuid::Uuid;

use crate::workflow::Failure;

/// The version of what metadata look like.
const FORMAT: u8 = 1;

/// Why an execution is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody asked for it.
    Asked,
    /// Its deadline has passed.
    Deadline,
    /// Its parent is cancelled.
    Parent,
}

/// How an execution began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) workflow: String,
    pub(crate) code_version: u32,
    pub(crate) namespace: String,
    /// The execution whose child it is, and the number under which that one awaits it.
    pub(crate) parent: Option<(String, u32)>,
    pub(crate) start_at: Option<Timestamp>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) seed: u64,
    /// Whose it is, until somebody claims it.
    pub(crate) owner: Uuid,
    /// How much of its inbox was taken before.
    pub(crate) inbox: u64,
    /// Of an execution that goes on: where its first run began in the store; 0 in the first.
    pub(crate) since: u64,
    /// Of an execution that goes on: so many of the records behind this one come from the run before, and are there when the run begins.
    pub(crate) carried: u32,
    /// Of an execution that goes on: the ids of the last signals that were taken before.
    pub(crate) taken_signals: Vec<u128>,
    pub(crate) input: Bytes,
}

/// One entry of a journal. `inbox`: the message that it was made of, counted from 1 in the execution's inbox, or 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Started(Box<Started>),
    /// An owner took the execution over.
    Claimed {
        owner: Uuid,
        epoch: u64,
    },
    /// Somebody put a parked execution back to work: claims count anew.
    Retried,
    /// It waits for something, and nothing of it runs: that its owners ended before was not its doing, and claims count anew.
    Settled,
    /// A step has its answer.
    StepDone {
        seq: u32,
        attempt: u16,
        name: Cow<'static, str>,
        outcome: Result<Bytes, Failure>,
    },
    /// An attempt failed, and there will be another one, not before `retry_at`.
    AttemptFailed {
        seq: u32,
        attempt: u16,
        name: Cow<'static, str>,
        failure: Failure,
        retry_at: Timestamp,
    },
    TimerFired {
        seq: u32,
    },
    Signalled {
        name: String,
        id: u128,
        payload: Bytes,
        inbox: u64,
    },
    ChildDone {
        seq: u32,
        child: String,
        outcome: Result<Bytes, Failure>,
    },
    CancelRequested {
        cause: Cause,
        inbox: u64,
    },
    Patched {
        id: String,
    },
    /// The run ended, and the next one began. Nothing before counts any more.
    ContinuedAsNew(Box<Started>),
    Completed {
        output: Bytes,
    },
    Failed {
        failure: Failure,
    },
}

/// Names of the events.
pub(crate) mod kind {
    pub(crate) const STARTED: &str = "workflow.started";
    pub(crate) const CLAIMED: &str = "workflow.claimed";
    pub(crate) const RETRIED: &str = "workflow.retried";
    pub(crate) const STEP_COMPLETED: &str = "workflow.step.completed";
    pub(crate) const STEP_FAILED: &str = "workflow.step.failed";
    pub(crate) const ATTEMPT_FAILED: &str = "workflow.attempt.failed";
    pub(crate) const TIMER_FIRED: &str = "workflow.timer.fired";
    pub(crate) const SIGNALLED: &str = "workflow.signalled";
    pub(crate) const CHILD_COMPLETED: &str = "workflow.child.completed";
    pub(crate) const CHILD_FAILED: &str = "workflow.child.failed";
    pub(crate) const CANCEL_REQUESTED: &str = "workflow.cancel.requested";
    pub(crate) const PATCHED: &str = "workflow.patched";
    pub(crate) const CONTINUED: &str = "workflow.continued";
    pub(crate) const SETTLED: &str = "workflow.settled";
    pub(crate) const COMPLETED: &str = "workflow.completed";
    pub(crate) const FAILED: &str = "workflow.failed";
}

/// Why an event is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("an event of type {0}")]
    UnknownType(String),
    #[error("its format is {0}, and this version knows {FORMAT}")]
    UnknownFormat(u8),
    #[error("its metadata end too soon")]
    TooShort,
    #[error("its metadata do not end where they should")]
    TooLong,
    #[error("a name in it is not UTF-8")]
    NotText,
    #[error("its failure cannot be read: {0}")]
    Failure(String),
    #[error("it has a {what} of {value}")]
    OutOfRange { what: &'static str, value: u64 },
}

impl Record {
    /// The workflow that a run begins with, and its version.
    pub(crate) fn workflow(&self) -> Option<(&str, u32)> {
        match self {
            Self::Started(started) | Self::ContinuedAsNew(started) => Some((&started.workflow, started.code_version)),
            _ => None,
        }
    }

    /// The record as an event.
    pub(crate) fn encode(&self, id: EventId, at: Timestamp) -> NewEvent {
        let mut metadata = BytesMut::with_capacity(32);
        metadata.put_u8(FORMAT);
        let (kind, payload) = match self {
            Self::Started(started) | Self::ContinuedAsNew(started) => {
                metadata.put_u32_le(started.code_version);
                metadata.put_u64_le(started.seed);
                metadata.put_slice(started.owner.as_bytes());
                metadata.put_u64_le(started.inbox);
                metadata.put_u64_le(started.since);
                metadata.put_u32_le(started.carried);
                put_time(&mut metadata, started.start_at);
                put_time(&mut metadata, started.deadline);
                put_text(&mut metadata, &started.workflow);
                put_text(&mut metadata, &started.namespace);
                metadata.put_u16_le(u16::try_from(started.taken_signals.len()).expect("there is a bound"));
                started.taken_signals.iter().for_each(|id| metadata.put_u128_le(*id));
                if let Some((parent, seq)) = &started.parent {
                    metadata.put_u32_le(*seq);
                    put_text(&mut metadata, parent);
                }
                let is_first = matches!(self, Self::Started(_));
                (if is_first { kind::STARTED } else { kind::CONTINUED }, started.input.clone())
            }
            Self::Claimed { owner, epoch } => {
                metadata.put_slice(owner.as_bytes());
                metadata.put_u64_le(*epoch);
                (kind::CLAIMED, Bytes::new())
            }
            Self::Retried => (kind::RETRIED, Bytes::new()),
            Self::Settled => (kind::SETTLED, Bytes::new()),
            Self::StepDone { seq, attempt, name, outcome } => {
                metadata.put_u32_le(*seq);
                metadata.put_u16_le(*attempt);
                metadata.put_slice(name.as_bytes());
                answer(outcome, kind::STEP_COMPLETED, kind::STEP_FAILED)
            }
            Self::AttemptFailed { seq, attempt, name, failure, retry_at } => {
                metadata.put_u32_le(*seq);
                metadata.put_u16_le(*attempt);
                metadata.put_i64_le(retry_at.as_micros());
                metadata.put_slice(name.as_bytes());
                (kind::ATTEMPT_FAILED, failure_bytes(failure))
            }
            Self::TimerFired { seq } => {
                metadata.put_u32_le(*seq);
                (kind::TIMER_FIRED, Bytes::new())
            }
            Self::Signalled { name, id, payload, inbox } => {
                metadata.put_u128_le(*id);
                metadata.put_u64_le(*inbox);
                metadata.put_slice(name.as_bytes());
                (kind::SIGNALLED, payload.clone())
            }
            Self::ChildDone { seq, child, outcome } => {
                metadata.put_u32_le(*seq);
                metadata.put_slice(child.as_bytes());
                answer(outcome, kind::CHILD_COMPLETED, kind::CHILD_FAILED)
            }
            Self::CancelRequested { cause, inbox } => {
                metadata.put_u8(match cause {
                    Cause::Asked => 0,
                    Cause::Deadline => 1,
                    Cause::Parent => 2,
                });
                metadata.put_u64_le(*inbox);
                (kind::CANCEL_REQUESTED, Bytes::new())
            }
            Self::Patched { id } => {
                metadata.put_slice(id.as_bytes());
                (kind::PATCHED, Bytes::new())
            }
            Self::Completed { output } => (kind::COMPLETED, output.clone()),
            Self::Failed { failure } => (kind::FAILED, failure_bytes(failure)),
        };
        NewEvent::with_given_id(id, event_type(kind), payload).with_metadata(metadata.freeze()).with_time(at)
    }

    /// The record that an event is.
    pub(crate) fn decode(event: &RecordedEvent) -> Result<Self, DecodeError> {
        Self::decode_parts(event.event_type().as_str(), event.metadata(), &event.payload_bytes())
    }

    /// The record that these parts of an event are.
    pub(crate) fn decode_parts(event_type: &str, metadata: &[u8], payload: &Bytes) -> Result<Self, DecodeError> {
        let mut rest = Rest(metadata);
        let format = rest.u8()?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat(format));
        }
        let value = || payload.clone();
        let record = match event_type {
            kind::STARTED | kind::CONTINUED => {
                let (code_version, seed) = (rest.u32()?, rest.u64()?);
                let (owner, inbox) = (Uuid::from_bytes(rest.array()?), rest.u64()?);
                let (since, carried) = (rest.u64()?, rest.u32()?);
                let (start_at, deadline) = (rest.time()?, rest.time()?);
                let (workflow, namespace) = (rest.text()?, rest.text()?);
                let signals = rest.u16()?;
                let taken_signals =
                    (0..signals).map(|_| rest.array().map(u128::from_le_bytes)).collect::<Result<_, _>>()?;
                let parent = if rest.0.is_empty() {
                    None
                } else {
                    let seq = rest.u32()?;
                    Some((rest.text()?, seq))
                };
                let started = Box::new(Started {
                    workflow,
                    code_version,
                    namespace,
                    parent,
                    start_at,
                    deadline,
                    seed,
                    owner,
                    inbox,
                    since,
                    carried,
                    taken_signals,
                    input: value(),
                });
                if event_type == kind::STARTED { Self::Started(started) } else { Self::ContinuedAsNew(started) }
            }
            kind::CLAIMED => Self::Claimed { owner: Uuid::from_bytes(rest.array()?), epoch: rest.u64()? },
            kind::RETRIED => Self::Retried,
            kind::SETTLED => Self::Settled,
            kind::STEP_COMPLETED | kind::STEP_FAILED => Self::StepDone {
                seq: rest.u32()?,
                attempt: rest.u16()?,
                name: Cow::Owned(rest.all_text()?),
                outcome: if event_type == kind::STEP_FAILED { Err(failure_of(payload)?) } else { Ok(value()) },
            },
            kind::ATTEMPT_FAILED => {
                let (seq, attempt) = (rest.u32()?, rest.u16()?);
                let retry_at = Timestamp::from_micros(i64::from_le_bytes(rest.array()?));
                let name = Cow::Owned(rest.all_text()?);
                Self::AttemptFailed { seq, attempt, name, failure: failure_of(payload)?, retry_at }
            }
            kind::TIMER_FIRED => Self::TimerFired { seq: rest.u32()? },
            kind::SIGNALLED => {
                let (id, inbox) = (u128::from_le_bytes(rest.array()?), rest.u64()?);
                Self::Signalled { id, inbox, name: rest.all_text()?, payload: value() }
            }
            kind::CHILD_COMPLETED | kind::CHILD_FAILED => Self::ChildDone {
                seq: rest.u32()?,
                child: rest.all_text()?,
                outcome: if event_type == kind::CHILD_FAILED { Err(failure_of(payload)?) } else { Ok(value()) },
            },
            kind::CANCEL_REQUESTED => Self::CancelRequested {
                cause: match rest.u8()? {
                    0 => Cause::Asked,
                    1 => Cause::Deadline,
                    2 => Cause::Parent,
                    other => return Err(DecodeError::OutOfRange { what: "cause", value: u64::from(other) }),
                },
                inbox: rest.u64()?,
            },
            kind::PATCHED => Self::Patched { id: rest.all_text()? },
            kind::COMPLETED => Self::Completed { output: value() },
            kind::FAILED => Self::Failed { failure: failure_of(payload)? },
            other => return Err(DecodeError::UnknownType(other.to_owned())),
        };
        if rest.0.is_empty() { Ok(record) } else { Err(DecodeError::TooLong) }
    }
}

fn answer(outcome: &Result<Bytes, Failure>, ok: &'static str, failed: &'static str) -> (&'static str, Bytes) {
    match outcome {
        Ok(value) => (ok, value.clone()),
        Err(failure) => (failed, failure_bytes(failure)),
    }
}

fn failure_bytes(failure: &Failure) -> Bytes {
    serde_json::to_vec(failure).expect("a code and a text").into()
}

fn failure_of(payload: &Bytes) -> Result<Failure, DecodeError> {
    serde_json::from_slice(payload).map_err(|error| DecodeError::Failure(error.to_string()))
}

pub(crate) fn event_type(kind: &str) -> EventType {
    EventType::new(kind).expect("a valid name")
}

fn put_time(to: &mut BytesMut, time: Option<Timestamp>) {
    to.put_i64_le(time.map_or(i64::MIN, Timestamp::as_micros));
}

fn put_text(to: &mut BytesMut, text: &str) {
    to.put_u16_le(u16::try_from(text.len()).expect("names are shorter than 64 KiB"));
    to.put_slice(text.as_bytes());
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DecodeError::TooShort)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Result<Option<Timestamp>, DecodeError> {
        let micros = i64::from_le_bytes(self.array()?);
        Ok((micros != i64::MIN).then(|| Timestamp::from_micros(micros)))
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        let len = usize::from(self.u16()?);
        let (text, rest) = self.0.split_at_checked(len).ok_or(DecodeError::TooShort)?;
        self.0 = rest;
        str::from_utf8(text).map(str::to_owned).map_err(|_| DecodeError::NotText)
    }

    fn all_text(&mut self) -> Result<String, DecodeError> {
        let text = str::from_utf8(self.0).map(str::to_owned).map_err(|_| DecodeError::NotText);
        self.0 = &[];
        text
    }
}
