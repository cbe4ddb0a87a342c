//! The crate statig: a machine made by its macro when this is compiled.
#![expect(missing_docs, reason = "the macro writes public types without documentation")]

use std::process::ExitCode;

use bridge_orchestrator_contest::{Contest, Event, Steps};
use statig::blocking::IntoStateMachineExt as _;
use statig::prelude::*;

fn main() -> ExitCode {
    Contest::of("statig").steps::<Compiled>().run()
}

#[derive(Debug, Default)]
struct Workflow;

#[state_machine(initial = "State::pending()", state(derive(Debug)))]
impl Workflow {
    #[state]
    fn pending(event: &Event) -> Outcome<State> {
        match event {
            Event::Start => Transition(State::processing()),
            Event::Fail => Transition(State::failed()),
            Event::Complete => Transition(State::pending()),
        }
    }

    #[state]
    fn processing(event: &Event) -> Outcome<State> {
        match event {
            Event::Complete => Transition(State::completed()),
            Event::Fail => Transition(State::failed()),
            Event::Start => Transition(State::pending()),
        }
    }

    #[state]
    fn completed() -> Outcome<State> {
        Transition(State::pending())
    }

    #[state]
    fn failed() -> Outcome<State> {
        Transition(State::pending())
    }
}

struct Compiled(StateMachine<Workflow>);

impl Steps for Compiled {
    const NOTE: &'static str = "a machine that is known when the program is compiled; it begins anew by transitions of its own, since it does not say what it refuses";
    type Input = Event;

    fn new() -> Self {
        Self(Workflow.state_machine())
    }

    fn input(&self, event: Event) -> Event {
        event
    }

    fn step(&mut self, event: Event) {
        self.0.handle(&event);
    }

    fn state(&self) -> u64 {
        match self.0.state() {
            State::Pending {} => 0,
            State::Processing {} => 1,
            State::Completed {} => 2,
            State::Failed {} => 3,
        }
    }
}
