//! What other processes leave for the owner of an execution: a stream of its own, so that nobody disturbs the owner's versions.

use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use event_store::{
    Append, AppendError, EventId, EventStore, ExpectedVersion, NewEvent, Read, ReadError, RecordedEvent, StreamId,
    StreamVersion,
};
use futures_util::StreamExt as _;

use super::execution::Mail;
use super::record::event_type;
use crate::error::Error;
use crate::workflow::ExecutionId;

/// The type of the events in it.
pub(super) const MESSAGE: &str = "workflow.message";
const PREFIX: &str = "wf-inbox-";
const FORMAT: u8 = 1;

/// The stream that is the inbox of an execution.
pub(super) fn stream(id: &ExecutionId) -> StreamId {
    StreamId::new(&format!("{PREFIX}{id}")).expect("an id is shorter than a name by more than the prefix")
}

/// Whose inbox a stream is.
pub(super) fn execution(stream: &StreamId) -> Option<ExecutionId> {
    ExecutionId::new(stream.as_str().strip_prefix(PREFIX)?).ok()
}

/// Something for the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Signal { name: String, id: u128, payload: Bytes },
    Cancel,
    Terminate,
}

impl Message {
    /// What `mail` says; `None` if it is nothing for another process.
    pub(super) fn of(mail: &Mail) -> Option<Self> {
        Some(match mail {
            Mail::Signal { name, id, payload, .. } => {
                Self::Signal { name: name.clone(), id: *id, payload: payload.clone() }
            }
            Mail::Cancel { .. } => Self::Cancel,
            Mail::Terminate { .. } => Self::Terminate,
            Mail::ChildDone { .. } | Mail::Messages(_) | Mail::Look => return None,
        })
    }

    fn encode(&self, id: EventId) -> NewEvent {
        let mut metadata = BytesMut::with_capacity(32);
        metadata.put_u8(FORMAT);
        let payload = match self {
            Self::Signal { name, id, payload } => {
                metadata.put_u8(0);
                metadata.put_u128_le(*id);
                metadata.put_slice(name.as_bytes());
                payload.clone()
            }
            Self::Cancel => {
                metadata.put_u8(1);
                Bytes::new()
            }
            Self::Terminate => {
                metadata.put_u8(2);
                Bytes::new()
            }
        };
        NewEvent::with_given_id(id, event_type(MESSAGE), payload).with_metadata(metadata.freeze())
    }

    fn decode(event: &RecordedEvent) -> Option<Self> {
        let [FORMAT, kind, rest @ ..] = event.metadata() else { return None };
        match (kind, rest) {
            (0, rest) => {
                let (id, name) = rest.split_first_chunk()?;
                let name = str::from_utf8(name).ok()?.to_owned();
                Some(Self::Signal { name, id: u128::from_le_bytes(*id), payload: event.payload_bytes() })
            }
            (1, []) => Some(Self::Cancel),
            (2, []) => Some(Self::Terminate),
            _ => None,
        }
    }
}

/// Leaves `message` for the owner of the execution that began at `since` in the store; its place, or 0 if it is not known. A signal's event has an id
/// that is made of its own, so that it is left once.
pub(super) async fn leave<S: EventStore>(
    store: &S,
    id: &ExecutionId,
    since: u64,
    message: &Message,
) -> Result<u64, Error> {
    let event_id = match message {
        Message::Signal { id: signal, .. } => {
            let name = format!("{id}\u{1f}{since}\u{1f}{signal}");
            EventId::from_u128(uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()).as_u128())
        }
        Message::Cancel | Message::Terminate => EventId::from_u128(uuid::Uuid::now_v7().as_u128()),
    };
    let append = Append::stream(stream(id), ExpectedVersion::Any, [message.encode(event_id)]);
    match store.append(append).await {
        Ok(appended) => Ok(appended.versions().first().map_or(0, |(_, version)| version.get() + 1)),
        // Taken by the same signal with another content: what was said first counts.
        Err(AppendError::DuplicateEventId { .. }) => Ok(0),
        Err(error) => Err(Error::Append(error)),
    }
}

/// What is in the inbox of an execution behind its first `taken` messages, each with its place, counted from 1. What is no message is skipped, and what
/// was left before the execution began, at `since` in the store: it was meant for another one.
pub(super) async fn read<S: EventStore>(
    store: &S,
    id: &ExecutionId,
    taken: u64,
    since: u64,
) -> Result<Vec<(u64, Message)>, ReadError> {
    let mut events = pin!(store.read(Read::stream_from(stream(id), StreamVersion::new(taken))));
    let mut messages = Vec::new();
    while let Some(event) = events.next().await {
        let event = event?;
        if event.position().get() < since {
            continue;
        }
        messages.extend(event.stream_version().map(|version| version.get() + 1).zip(Message::decode(&event)));
    }
    Ok(messages)
}
