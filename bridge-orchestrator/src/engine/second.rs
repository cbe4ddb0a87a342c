//! Each turn of a function, run a second time from the beginning and compared: what makes a replay differ shows at once.

use std::sync::Arc;

use event_store::{EventStore, Timestamp};

use super::builder::EngineBuilder;
use super::execution::{Execution, Parked};
use super::function::{Function, Polled};
use super::record::{Record, Started};
use super::registry::AnyWorkflow;
use super::services::Services;
use super::slots::{Command, Slots};
use crate::workflow::Ctx;

impl<S: EventStore> EngineBuilder<S> {
    /// For tests (feature `testkit`): each turn of an execution is run again from its beginning, against what was delivered so far, and has to
    /// ask its context for the same: steps with their names, policies and limits, timers and their times, signals, children and their inputs,
    /// patches, random numbers, values that are shown, all in the same order, and the same end. So the order of a hash map, the clock of the
    /// machine and its randomness are found where they are used, and not by the first crash. The execution is then parked with
    /// [`Parked::RunsDiffer`].
    ///
    /// What a step's function does with what it has captured is not seen, and a map of one element has no order to be found.
    ///
    /// # Cost
    /// The functions run a number of times that grows with the square of their journals; each record is kept in memory.
    #[must_use]
    pub fn replay_twice(mut self) -> Self {
        self.registry.replays_twice = true;
        self
    }
}

/// What was delivered to a function, and what it has asked for.
#[derive(Debug)]
pub(super) struct Tape {
    began: Timestamp,
    pub(super) delivered: Vec<(Record, Timestamp)>,
    asked: Vec<String>,
    is_stopped: bool,
}

impl Slots {
    fn start_tape(&mut self) {
        let tape = Tape { began: self.now(), delivered: Vec::new(), asked: Vec::new(), is_stopped: false };
        self.tape = Some(Box::new(tape));
    }

    pub(super) fn stop_tape(&mut self) {
        if let Some(tape) = &mut self.tape {
            tape.is_stopped = true;
        }
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(tape) = &mut self.tape
            && !tape.is_stopped
        {
            tape.asked.push(what());
        }
    }

    fn asked(&self) -> Vec<String> {
        self.tape.as_ref().map_or_else(Vec::new, |tape| tape.asked.clone())
    }
}

/// What a function does when it awaits the number for the first time.
pub(super) fn begins(seq: u32, command: Option<&Command>) -> String {
    let what = match command {
        Some(Command::Step { name, retry, timeout, .. }) => {
            let limit = timeout.map_or_else(String::new, |limit| format!(" of at most {limit:?}"));
            format!("step {name}{limit}, {retry:?}")
        }
        Some(Command::Timer { fire_at, .. }) => format!("a timer until {} us", fire_at.as_micros()),
        Some(Command::Child { start, .. }) => {
            let input = String::from_utf8_lossy(&start.input);
            format!("child {} ({} {}) with {input}", start.id, start.workflow, start.version)
        }
        Some(Command::Abandon { .. }) | None => "what others answer".to_owned(),
    };
    format!("awaits number {seq}: {what}")
}

/// How a function is run again.
pub(super) struct Second {
    workflow: Arc<dyn AnyWorkflow>,
    services: Arc<Services>,
    started: Started,
}

impl Second {
    pub(super) fn new(
        (workflow, services): (&Arc<dyn AnyWorkflow>, &Arc<Services>),
        started: &Started,
        execution: &Execution,
    ) -> Self {
        execution.slots().start_tape();
        Self { workflow: Arc::clone(workflow), services: Arc::clone(services), started: started.clone() }
    }

    /// Runs the function again up to where it stands in `execution`, and compares.
    pub(super) fn differs(&self, execution: &Execution, polled: &Polled) -> Option<Parked> {
        // A panic is tried again anyway, and what is awaited from elsewhere is reported already.
        if matches!(polled, Polled::Panicked(_) | Polled::Unsound(_)) {
            return None;
        }
        let (slots, delivered, mut first) = {
            let slots = execution.slots();
            let tape = slots.tape.as_ref()?;
            let mut again = Slots::new(self.started.seed, tape.began);
            again.carry(&slots.carried);
            // Patches are answered as they were, however much was known then.
            again.expect_history(usize::MAX, slots.patches_taken());
            again.start_tape();
            (again, tape.delivered.clone(), tape.asked.clone())
        };
        let again = Arc::new(Execution::new(execution.id().clone(), slots));
        let mut second = self.run(&again, &delivered);
        first.extend(end(polled));
        let place = first.iter().zip(&second).take_while(|(first, second)| first == second).count();
        if place == first.len() && place == second.len() {
            return None;
        }
        let at = |list: &mut Vec<String>| match list.len() > place {
            true => list.swap_remove(place),
            false => "asks for nothing more".to_owned(),
        };
        Some(Parked::RunsDiffer { place, first: at(&mut first), second: at(&mut second) })
    }

    /// What the function asks for.
    fn run(&self, again: &Arc<Execution>, delivered: &[(Record, Timestamp)]) -> Vec<String> {
        let ctx = Ctx::new(Arc::clone(again), Arc::clone(&self.services));
        let future = self.workflow.function(ctx, self.started.input.clone(), self.started.start_at);
        let mut function = Function::new(future, Arc::clone(again));
        let mut polled = function.poll();
        for (record, at) in delivered {
            match function.tell(record, *at) {
                Ok(next) => polled = next,
                Err(error) => {
                    let mut asked = again.slots().asked();
                    asked.push(format!("is at odds with its journal: {error}"));
                    return asked;
                }
            }
        }
        let mut asked = again.slots().asked();
        asked.extend(end(&polled));
        asked
    }
}

fn end(polled: &Polled) -> Option<String> {
    match polled {
        Polled::Waits => None,
        Polled::Returned(Ok(output)) => Some(format!("returns {}", String::from_utf8_lossy(output))),
        Polled::Returned(Err(error)) => Some(format!("fails: {error}")),
        Polled::Panicked(message) => Some(format!("panics: {message}")),
        Polled::Unsound(why) => Some(why.to_string()),
    }
}
