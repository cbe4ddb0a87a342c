//! What comes to an execution from outside of its function: signals, cancellations, ends of children, messages of its inbox.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event_store::EventStore;

use super::core::Core;
use super::driver::{Arrival, Driver, End};
use super::execution::{Done, Mail};
use super::inbox::{self, Message};
use super::record::{Cause, Record};
use super::slots::MAX_UNREAD_SIGNALS;
use crate::error::Error;
use crate::workflow::{ExecutionId, Failure};

/// Ids of signals that are remembered, at most: the latest.
pub(super) const MAX_SIGNAL_IDS: usize = 1_024;
/// The pause after the first answer that a store does not give; each next one is twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Bytes of signals that the function has not read, at most, but for the last one's: a continue-as-new carries them over in one append.
const MAX_UNREAD_BYTES: usize = 16 << 20;

/// What came and is not delivered yet.
#[derive(Default)]
pub(super) struct Arrivals {
    queue: VecDeque<Arrival>,
    /// Of their values.
    bytes: usize,
}

impl Arrivals {
    pub(super) fn push_back(&mut self, arrival: Arrival) {
        self.bytes += arrival.record.value_bytes();
        self.queue.push_back(arrival);
    }

    pub(super) fn pop_front(&mut self) -> Option<Arrival> {
        let arrival = self.queue.pop_front()?;
        self.bytes -= arrival.record.value_bytes();
        Some(arrival)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn take(&mut self) -> VecDeque<Arrival> {
        mem::take(self).queue
    }
}

/// What stays in the inbox for the time being, and so does all that is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldBack {
    Nothing,
    /// Signals, until the function has read half of those that it has.
    Signals,
    /// What is behind a cancellation of which children are being told.
    BehindCancellation,
}

/// Whether the inbox is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Not,
    Once,
    /// Something has come since it began.
    AndAgain,
}

impl<S: EventStore> Driver<S> {
    pub(super) fn receive(&mut self, mail: Mail) {
        match mail {
            Mail::Signal { id, done, .. } if self.is_full() && !self.known_signals.contains(&id) => {
                let _ = done.send(Err(Error::Busy("too many signals are unread")));
            }
            Mail::Signal { name, id, payload, done } => self.signal(name, id, payload, (0, Some(done))),
            Mail::Cancel { cause, told, done } => {
                let _ = self.cancel(cause, &told, (0, done));
            }
            Mail::Terminate { done } => self.terminate(Some(done)),
            Mail::Messages(messages) => {
                let again = mem::replace(&mut self.reading, Reading::Not) == Reading::AndAgain;
                for (place, message) in messages {
                    self.take(place, message);
                }
                if again {
                    self.look();
                }
            }
            Mail::Look => self.look(),
            Mail::ChildDone { seq, child, outcome, run } => {
                // One of an earlier run has no number in this one.
                if run == self.started.seed && self.execution.slots().is_awaited(seq) {
                    let record = Record::ChildDone { seq, child: child.as_str().to_owned(), outcome };
                    self.arrivals.push_back(Arrival { record, at: self.core.clock.now(), done: None });
                }
            }
        }
    }

    fn signal(&mut self, name: String, id: u128, payload: Bytes, (inbox, done): (u64, Option<Done>)) {
        if self.known_signals.contains(&id) {
            // It is in the journal, or on its way there with what else has arrived.
            self.waiting_for_all.extend(done);
            return;
        }
        self.known_signals.insert(id);
        self.signals.push_back(id);
        while self.signals.len() > MAX_SIGNAL_IDS {
            self.signals.pop_front().map(|oldest| self.known_signals.remove(&oldest));
        }
        let record = Record::Signalled { name, id, payload, inbox };
        self.arrivals.push_back(Arrival { record, at: self.core.clock.now(), done });
    }

    /// Cancels the execution, its children first. Whether that is done: it is not while there are children to be told.
    fn cancel(&mut self, cause: Cause, told: &[ExecutionId], (inbox, done): (u64, Option<Done>)) -> bool {
        let (is_cancelled, mut children) = {
            let slots = self.execution.slots();
            (slots.is_cancelled(), slots.children_to_cancel())
        };
        children.retain(|child| !told.contains(child));
        if is_cancelled {
            self.waiting_for_all.extend(done);
        } else if children.is_empty() {
            let record = Record::CancelRequested { cause, inbox };
            self.arrivals.push_back(Arrival { record, at: self.core.clock.now(), done });
        } else {
            Core::cancel_children(&self.core, &self.execution, children, (cause, told.to_vec(), done));
            return false;
        }
        true
    }

    fn terminate(&mut self, done: Option<Done>) {
        let failure = Failure::terminated();
        self.outbox.push((Record::Failed { failure: failure.clone() }, self.core.clock.now()));
        self.waiting.extend(done);
        self.end = Some(End::Ended(Err(failure)));
    }

    /// Whether there are as many signals, or as many bytes of them, as may be that the function has not read.
    fn is_full(&self) -> bool {
        let (unread, bytes) = self.execution.slots().unread_signals();
        unread + self.arrivals.len() >= MAX_UNREAD_SIGNALS || bytes + self.arrivals.bytes >= MAX_UNREAD_BYTES
    }

    /// Has what was held back in the inbox taken, when there is no reason any more.
    pub(super) fn make_room(&mut self) {
        let is_over = match self.held_back {
            HeldBack::Nothing => false,
            HeldBack::Signals => {
                let (unread, bytes) = self.execution.slots().unread_signals();
                unread <= MAX_UNREAD_SIGNALS / 2 && bytes <= MAX_UNREAD_BYTES / 2
            }
            HeldBack::BehindCancellation => self.execution.slots().is_cancelled(),
        };
        if is_over {
            self.held_back = HeldBack::Nothing;
            self.look();
        }
    }

    /// Takes a message out of the inbox, or leaves it there with all that is behind it: a cancellation then counts at once all the same.
    fn take(&mut self, place: u64, message: Message) {
        if self.end.is_some() || place <= self.inbox {
            return;
        }
        match message {
            Message::Terminate => self.terminate(None),
            Message::Cancel => {
                let is_in_turn = self.held_back == HeldBack::Nothing;
                if self.held_back == HeldBack::BehindCancellation {
                    return;
                }
                // What is behind it may not be in the journal before it is.
                if !self.cancel(Cause::Asked, &[], (if is_in_turn { place } else { 0 }, None)) {
                    self.held_back = HeldBack::BehindCancellation;
                } else if is_in_turn {
                    self.inbox = place;
                }
            }
            Message::Signal { name, id, payload } => {
                if self.held_back == HeldBack::Nothing && self.is_full() && !self.known_signals.contains(&id) {
                    self.held_back = HeldBack::Signals;
                }
                if self.held_back == HeldBack::Nothing {
                    self.inbox = place;
                    self.signal(name, id, payload, (place, None));
                }
            }
        }
    }

    /// Has the inbox read, if others can leave something there.
    fn look(&mut self) {
        if self.core.shared.is_none() {
            return;
        }
        if self.reading != Reading::Not {
            self.reading = Reading::AndAgain;
            return;
        }
        self.reading = Reading::Once;
        let (core, execution) = (Arc::clone(&self.core), Arc::clone(&self.execution));
        let (taken, since) = (self.inbox, self.since);
        let runtime = core.runtime.clone();
        runtime.spawn(async move {
            let mut pause = FIRST_PAUSE;
            while !core.is_stopping() {
                if let Ok(messages) = inbox::read(&core.store, execution.id(), taken, since).await {
                    // One that has ended takes no more.
                    let _ = execution.send(Mail::Messages(messages));
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }
}
