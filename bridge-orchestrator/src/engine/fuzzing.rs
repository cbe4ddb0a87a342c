//! What the fuzz target calls: the decoder of records, on bytes that anybody may have written.

use bytes::Bytes;
use event_store::{EventId, Timestamp};
use uuid::Uuid;

use super::record::{Cause, Record, Started, kind};
use crate::error::ErrorCode;
use crate::workflow::Failure;

/// The types of events, and one that is none of ours. Seeds name them by their place: new ones come behind the others.
const TYPES: [&str; 17] = [
    kind::STARTED,
    kind::CLAIMED,
    kind::STEP_COMPLETED,
    kind::STEP_FAILED,
    kind::ATTEMPT_FAILED,
    kind::TIMER_FIRED,
    kind::SIGNALLED,
    kind::CHILD_COMPLETED,
    kind::CHILD_FAILED,
    kind::CANCEL_REQUESTED,
    kind::PATCHED,
    kind::CONTINUED,
    kind::COMPLETED,
    kind::FAILED,
    kind::RETRIED,
    kind::SETTLED,
    "workflow.unheard.of",
];

/// The first byte tells the type, the next two the length of the metadata; the rest is the payload. What is decoded is no larger than what it
/// was decoded from, and is written as it was read; of a failure, which is JSON, as what reads the same.
pub fn record(input: &[u8]) {
    let Some((&[of_type, low, high], rest)) = input.split_first_chunk() else { return };
    let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (metadata, payload) = rest.split_at(length);
    let event_type = TYPES[usize::from(of_type) % TYPES.len()];
    let Ok(record) = Record::decode_parts(event_type, metadata, &Bytes::copy_from_slice(payload)) else { return };
    // A vector that grows is at most twice as large as what is in it, and never of less than four.
    assert!(held(&record) <= 2 * input.len() + 4 * size_of::<u128>(), "{} bytes hold {record:?}", held(&record));
    let event = record.encode(EventId::from_u128(1), Timestamp::from_micros(0));
    assert_eq!(event.event_type.as_str(), event_type);
    assert_eq!(event.metadata, metadata);
    let failed = [kind::STEP_FAILED, kind::ATTEMPT_FAILED, kind::CHILD_FAILED, kind::FAILED];
    if has_value(&record) && !failed.contains(&event_type) {
        assert_eq!(event.payload, payload);
    }
    let again = Record::decode_parts(event_type, &event.metadata, &event.payload);
    assert_eq!(again.as_ref(), Ok(&record));
}

fn has_value(record: &Record) -> bool {
    matches!(
        record,
        Record::Started(_)
            | Record::ContinuedAsNew(_)
            | Record::StepDone { .. }
            | Record::Signalled { .. }
            | Record::ChildDone { .. }
            | Record::Completed { .. }
    )
}

/// Bytes that a record keeps outside of itself and of the payload.
fn held(record: &Record) -> usize {
    let of_failure = |outcome: &Result<Bytes, Failure>| outcome.as_ref().err().map_or(0, |f| f.message.capacity());
    match record {
        Record::Started(started) | Record::ContinuedAsNew(started) => {
            let Started { workflow, namespace, parent, taken_signals, .. } = &**started;
            workflow.capacity()
                + namespace.capacity()
                + parent.as_ref().map_or(0, |(parent, _)| parent.capacity())
                + taken_signals.capacity() * size_of::<u128>()
        }
        Record::StepDone { name, outcome, .. } => name.len() + of_failure(outcome),
        Record::AttemptFailed { name, failure, .. } => name.len() + failure.message.capacity(),
        Record::Signalled { name, .. } => name.capacity(),
        Record::ChildDone { child, outcome, .. } => child.capacity() + of_failure(outcome),
        Record::Patched { id } => id.capacity(),
        Record::Failed { failure } => failure.message.capacity(),
        Record::Claimed { .. }
        | Record::Retried
        | Record::Settled
        | Record::TimerFired { .. }
        | Record::CancelRequested { .. }
        | Record::Completed { .. } => 0,
    }
}

/// One input of each kind, by name.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let failure = Failure::new(ErrorCode::Timeout, "no result in 5s");
    let value = Bytes::from_static(b"{\"n\":1}");
    let started = Started {
        workflow: "order".to_owned(),
        code_version: 3,
        namespace: "berlin".to_owned(),
        parent: Some(("parent-1".to_owned(), 7)),
        start_at: Some(Timestamp::from_micros(5)),
        deadline: None,
        seed: 9,
        owner: Uuid::from_u128(6),
        inbox: 2,
        since: 8,
        carried: 3,
        taken_signals: vec![1, 2],
        input: value.clone(),
    };
    let done = |outcome| Record::StepDone { seq: 1, attempt: 2, name: "charge".into(), outcome };
    let child = |outcome| Record::ChildDone { seq: 4, child: "child-1".to_owned(), outcome };
    let records = [
        Record::Started(Box::new(Started { parent: None, taken_signals: Vec::new(), ..started.clone() })),
        Record::Claimed { owner: Uuid::from_u128(5), epoch: 2 },
        done(Ok(value.clone())),
        done(Err(failure.clone())),
        Record::AttemptFailed {
            seq: 1,
            attempt: 1,
            name: "charge".into(),
            failure: failure.clone(),
            retry_at: Timestamp::from_micros(8),
        },
        Record::TimerFired { seq: 2 },
        Record::Signalled { name: "approved".to_owned(), id: 3, payload: value.clone(), inbox: 4 },
        child(Ok(value.clone())),
        child(Err(failure.clone())),
        Record::CancelRequested { cause: Cause::Deadline, inbox: 0 },
        Record::Patched { id: "faster".to_owned() },
        Record::ContinuedAsNew(Box::new(started)),
        Record::Completed { output: value },
        Record::Failed { failure },
        Record::Retried,
        Record::Settled,
    ];
    let input = |record: &Record| {
        let event = record.encode(EventId::from_u128(1), Timestamp::from_micros(0));
        let name = event.event_type.as_str().to_owned();
        let of_type = TYPES.iter().position(|known| *known == name).expect("all are listed");
        let mut bytes = vec![of_type as u8];
        bytes.extend(u16::try_from(event.metadata.len()).expect("short").to_le_bytes());
        bytes.extend(&event.metadata);
        bytes.extend(&event.payload);
        (name.replace("workflow.", ""), bytes)
    };
    records.iter().map(input).collect()
}
