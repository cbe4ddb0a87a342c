//! Any text as a definition: a typed error on a line of the text, or a machine in which every state can be reached, nothing leads out of a
//! terminal state, and names are found again in any case.
#![no_main]

use bridge_orchestrator::fsm::{Definition, DefinitionError, Machine};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for read in [Definition::from_json, Definition::from_toml] {
        match read(text).and_then(|definition| definition.compile()) {
            Ok(machine) => check(&machine),
            Err(error) => check_error(text, &error),
        }
    }
});

fn check_error(text: &str, error: &DefinitionError) {
    let lines = text.matches('\n').count() + 1;
    assert!((1..=lines).contains(&error.line()), "{error} in {lines} lines");
}

fn check(machine: &Machine) {
    let mut reached = vec![false; machine.states().len()];
    let mut waiting = vec![machine.initial()];
    while let Some(state) = waiting.pop() {
        if std::mem::replace(&mut reached[state.index()], true) {
            continue;
        }
        for event in machine.events() {
            if let Some(next) = machine.next(state, event) {
                assert!(!machine.is_terminal(state) && machine.allows(state, next));
                waiting.push(next);
            }
        }
    }
    assert!(reached.iter().all(|reached| *reached));
    for state in machine.states() {
        assert_eq!(machine.state(machine.state_name(state)), Some(state));
        assert_eq!(machine.state(&machine.state_name(state).to_ascii_uppercase()), Some(state));
    }
    for event in machine.events() {
        assert_eq!(machine.event(&machine.event_name(event).to_ascii_lowercase()), Some(event));
    }
}
