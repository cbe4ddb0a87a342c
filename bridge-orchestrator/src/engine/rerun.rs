//! A journal held against the function of today: no store, no clock, no step.

use std::sync::Arc;

use bytes::Bytes;

use super::execution::Execution;
use super::function::{Polled, outcome};
use super::history::Entry;
use super::record::Record;
use super::registry::Registry;
use super::slots::Slots;
use crate::error::ErrorCode;
use crate::replay::{Difference, Verdict};
use crate::workflow::{ExecutionId, Failure};

/// Records that are shown before the one that does not fit.
const SHOWN: usize = 3;
/// Bytes of a value that are shown.
const SHOWN_BYTES: usize = 200;

/// Runs the last run that is in the journal.
pub(crate) fn rerun(registry: &Registry, id: &ExecutionId, journal: &[Entry]) -> Verdict {
    let is_begin = |entry: &Entry| matches!(entry.record, Record::Started(_) | Record::ContinuedAsNew(_));
    let Some(begin) = journal.iter().rposition(is_begin) else {
        return Verdict::Malformed("it does not begin with a start".to_owned());
    };
    let (Record::Started(started) | Record::ContinuedAsNew(started)) = &journal[begin].record else { unreachable!() };
    let mut records: Vec<&Entry> = journal[begin + 1..].iter().filter(|entry| entry.record.is_told()).collect();
    let is_end = |entry: &&&Entry| matches!(entry.record, Record::Completed { .. } | Record::Failed { .. });
    let end = records.last().copied().filter(|last| is_end(&last));
    records.truncate(records.len() - usize::from(end.is_some()));
    if records.iter().any(|entry| is_end(&entry)) {
        return Verdict::Malformed("there is something behind its end".to_owned());
    }

    let mut slots = Slots::new(started.seed, journal[begin].shown.time);
    let carried: Vec<&Entry> = records.drain(..records.len().min(started.carried as usize)).collect();
    slots.carry(&carried.iter().map(|entry| entry.record.clone()).collect::<Vec<_>>());
    let patches = records.iter().filter_map(|entry| match &entry.record {
        Record::Patched { id } => Some(id.clone()),
        _ => None,
    });
    // Where the end is known nothing is new.
    slots.expect_history(records.len() + usize::from(end.is_some()), patches.collect());
    let execution = Arc::new(Execution::new(id.clone(), slots));
    let Some(mut function) = registry.function(&execution, started) else {
        return Verdict::Unregistered { has_ended: end.is_some() };
    };
    let differs = |at: usize, number: Option<u32>, journal: String, function: String| {
        let before = records[at.saturating_sub(SHOWN)..at].iter().map(|entry| entry.shown.clone()).collect();
        let record = records.get(at).copied().or(end).map(|entry| entry.shown.clone());
        Verdict::Differs(Difference { number, before, record, journal, function })
    };
    let mut polled = function.poll();
    for (at, entry) in records.iter().enumerate() {
        let _ = execution.slots().take_commands();
        if !matches!(polled, Polled::Waits) {
            // A patch stands behind the record at which it was asked for: between it and the end.
            if matches!((&polled, &entry.record), (Polled::Returned(_), Record::Patched { .. })) {
                continue;
            }
            return differs(at, entry.shown.number, in_words(entry), what(&polled));
        }
        polled = match function.tell(&entry.record, entry.shown.time) {
            Ok(polled) => polled,
            Err(error) => return differs(at, Some(error.seq), error.journal, error.function),
        };
    }
    let at = records.len();
    let cause = execution.slots().cause();
    let found = match polled {
        Polled::Waits => None,
        Polled::Returned(returned) => match outcome(returned, cause) {
            Ok(outcome) => Some(outcome),
            Err(_) if end.is_none() => return Verdict::Fits,
            Err(_) => return differs(at, None, end.map_or_else(String::new, in_words), "goes on as new".to_owned()),
        },
        unsound => return differs(at, None, end.map_or_else(|| "no end".to_owned(), in_words), what(&unsound)),
    };
    let expected = match end.map(|entry| &entry.record) {
        // What the function has come to since then is its next record.
        None => return Verdict::Fits,
        Some(Record::Completed { output }) => Ok(output.clone()),
        Some(Record::Failed { failure }) => Err(failure.clone()),
        Some(_) => unreachable!("it was looked at above"),
    };
    match found {
        Some(found) if found == expected => Verdict::Fits,
        None if expected == Err(Failure::terminated()) => Verdict::Fits,
        Some(found) => differs(at, None, ended(&expected), ended(&found)),
        None => {
            let awaited: Vec<String> = execution.slots().awaited().into_iter().map(ToString::to_string).collect();
            differs(at, None, ended(&expected), format!("still awaits {}", awaited.join(" and ")))
        }
    }
}

impl Record {
    /// Whether it is anything to a function.
    fn is_told(&self) -> bool {
        !matches!(self, Self::Claimed { .. } | Self::Retried | Self::Settled)
    }
}

impl Failure {
    /// What an execution fails with that was terminated.
    pub(crate) fn terminated() -> Self {
        Self::new(ErrorCode::Cancelled, "terminated")
    }
}

fn in_words(entry: &Entry) -> String {
    match &entry.record {
        Record::Completed { output } => ended(&Ok(output.clone())),
        Record::Failed { failure } => ended(&Err(failure.clone())),
        _ if entry.shown.name.is_empty() => entry.shown.kind.clone(),
        _ => format!("{} {}", entry.shown.kind, entry.shown.name),
    }
}

fn what(polled: &Polled) -> String {
    match polled {
        Polled::Waits => "waits".to_owned(),
        Polled::Returned(Ok(output)) => format!("has returned {}", shortened(output)),
        Polled::Returned(Err(error)) => format!("has returned: {error}"),
        Polled::Panicked(message) => format!("panics: {message}"),
        Polled::Unsound(why) => why.to_string(),
    }
}

fn ended(outcome: &Result<Bytes, Failure>) -> String {
    match outcome {
        Ok(output) => format!("completes with {}", shortened(output)),
        Err(failure) => format!("fails with {failure}"),
    }
}

fn shortened(json: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&json[..json.len().min(SHOWN_BYTES)]).into_owned();
    if json.len() > SHOWN_BYTES {
        text.push('…');
    }
    text
}
