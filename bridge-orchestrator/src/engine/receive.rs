//! What comes to an execution from outside of its function: signals, cancellations, ends of children, messages of its inbox.

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
            Mail::Signal { id, done, .. }
                if self.unread_signals() >= MAX_UNREAD_SIGNALS && !self.known_signals.contains(&id) =>
            {
                let _ = done.send(Err(Error::Busy("too many signals are unread")));
            }
            Mail::Signal { name, id, payload, done } => self.signal(name, id, payload, (0, Some(done))),
            Mail::Cancel { cause, told, done } => self.cancel(cause, &told, (0, done)),
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
            self.waiting.extend(done);
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

    fn cancel(&mut self, cause: Cause, told: &[ExecutionId], (inbox, done): (u64, Option<Done>)) {
        let (is_cancelled, mut children) = {
            let slots = self.execution.slots();
            (slots.is_cancelled(), slots.children_to_cancel())
        };
        children.retain(|child| !told.contains(child));
        if is_cancelled {
            self.waiting.extend(done);
        } else if children.is_empty() {
            let record = Record::CancelRequested { cause, inbox };
            self.arrivals.push_back(Arrival { record, at: self.core.clock.now(), done });
        } else {
            Core::cancel_children(&self.core, &self.execution, children, (cause, told.to_vec(), done));
        }
    }

    fn terminate(&mut self, done: Option<Done>) {
        let failure = Failure::terminated();
        self.outbox.push((Record::Failed { failure: failure.clone() }, self.core.clock.now()));
        self.waiting.extend(done);
        self.end = Some(End::Ended(Err(failure)));
    }

    /// Signals that were taken and not read by the function.
    fn unread_signals(&self) -> usize {
        self.execution.slots().unread_signals() + self.arrivals.len()
    }

    /// Has signals taken out of the inbox that were left there, when the function has read half of those that it had.
    pub(super) fn make_room(&mut self) {
        if self.is_crowded && self.reading == Reading::Not && self.unread_signals() <= MAX_UNREAD_SIGNALS / 2 {
            self.is_crowded = false;
            self.look();
        }
    }

    /// Takes a message out of the inbox. Signals for which there is no room stay there, and so does all that is behind them; a cancellation counts at
    /// once all the same.
    fn take(&mut self, place: u64, message: Message) {
        if self.end.is_some() || place <= self.inbox {
            return;
        }
        if let Message::Signal { id, .. } = &message {
            self.is_crowded |= self.unread_signals() >= MAX_UNREAD_SIGNALS && !self.known_signals.contains(id);
        }
        if self.is_crowded {
            return match message {
                Message::Signal { .. } => {}
                Message::Cancel => self.cancel(Cause::Asked, &[], (0, None)),
                Message::Terminate => self.terminate(None),
            };
        }
        self.inbox = place;
        match message {
            Message::Signal { name, id, payload } => self.signal(name, id, payload, (place, None)),
            Message::Cancel => self.cancel(Cause::Asked, &[], (place, None)),
            Message::Terminate => self.terminate(None),
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
