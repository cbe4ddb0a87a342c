//! The crate rust-fsm: a machine made by its macro when this is compiled.

use std::process::ExitCode;

use bridge_orchestrator_contest::{Contest, Event, Steps};
use rust_fsm::state_machine;

state_machine! {
    /// The workflow's machine.
    workflow(Pending)

    Pending => { Start => Processing, Fail => Failed },
    Processing => { Complete => Completed, Fail => Failed },
}

fn main() -> ExitCode {
    Contest::of("rust-fsm").steps::<Compiled>().run()
}

struct Compiled(workflow::StateMachine);

impl Steps for Compiled {
    const NOTE: &'static str = "a machine that is known when the program is compiled";
    type Input = Event;

    fn new() -> Self {
        Self(workflow::StateMachine::new())
    }

    fn input(&self, event: Event) -> Event {
        event
    }

    fn step(&mut self, event: Event) {
        let input = match event {
            Event::Start => workflow::Input::Start,
            Event::Complete => workflow::Input::Complete,
            Event::Fail => workflow::Input::Fail,
        };
        if self.0.consume(&input).is_err() {
            *self = Self::new();
        }
    }

    fn state(&self) -> u64 {
        match self.0.state() {
            workflow::State::Pending => 0,
            workflow::State::Processing => 1,
            workflow::State::Completed => 2,
            workflow::State::Failed => 3,
        }
    }
}
