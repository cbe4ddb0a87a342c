//! Transitions of one instance of the workflow's machine on random events, each of which waits for the one before.

use std::hint::black_box;
use std::time::Instant;

use harness::{Bench, BenchError};

use crate::random::mix;

/// More events than any predictor of branches remembers.
const EVENTS: u64 = 1 << 16;

/// What happens to a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// From pending to processing.
    Start,
    /// From processing to completed.
    Complete,
    /// From pending or processing to failed.
    Fail,
}

/// A state machine with the states pending (0), processing (1), completed (2) and failed (3), of which the last two are terminal.
pub trait Steps {
    /// What is to be known about it.
    const NOTE: &'static str;
    /// An event as it takes it: made before the clock starts.
    type Input: Copy;

    /// A pending instance.
    fn new() -> Self;

    /// The event as the machine takes it.
    fn input(&self, event: Event) -> Self::Input;

    /// Takes an event. Where there is no transition, a pending instance takes its place.
    fn step(&mut self, event: Self::Input);

    /// The number of its state.
    fn state(&self) -> u64;
}

pub(crate) fn measure<S: Steps>(bench: &mut Bench) -> Result<(), BenchError> {
    bench.note(S::NOTE);
    let all = [Event::Start, Event::Complete, Event::Fail];
    let events: Vec<Event> = (0..EVENTS).map(|n| all[(mix(n) % 3) as usize]).collect();
    let mut machine = S::new();
    let inputs: Vec<S::Input> = events.iter().map(|event| machine.input(*event)).collect();
    let mut sum = 0;
    let rounds = bench.rounds(|| {
        machine = S::new();
        let mut visited = 0;
        let start = Instant::now();
        for &input in black_box(&inputs) {
            machine.step(input);
            visited += machine.state();
        }
        let elapsed = start.elapsed();
        sum += visited;
        (elapsed, EVENTS)
    })?;
    let mut state = 0;
    let once: u64 = events
        .iter()
        .map(|event| {
            state = match (state, event) {
                (0, Event::Start) => 1,
                (0 | 1, Event::Fail) => 3,
                (1, Event::Complete) => 2,
                _ => 0,
            };
            state
        })
        .sum();
    bench.proof(rounds * once, sum);
    Ok(())
}
