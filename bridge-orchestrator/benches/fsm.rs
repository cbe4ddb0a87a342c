//! What a transition of a machine costs that was loaded at run time.

use std::hint::{black_box, select_unpredictable};
use std::process::ExitCode;
use std::time::Instant;

use bridge_orchestrator::fsm::{Definition, EventId, Machine, StateId};
use harness::record::{Figure, Source};
use harness::{Bench, BenchError, Suite, metric::Metric};

/// Events of a round: more than any predictor of branches remembers.
const EVENTS: usize = 1 << 16;
/// Instances that are held at once: 2 MiB of states.
const INSTANCES: usize = 1 << 20;
/// Transitions that are timed one by one.
const ALONE: usize = 1 << 16;

fn main() -> ExitCode {
    Suite::new()
        .bench("bridge-orchestrator/fsm/transition", transition)
        .bench("bridge-orchestrator/fsm/instances", instances)
        .run()
}

/// The text goes through a black box: nothing of the machine is known when this is compiled.
fn machine() -> Machine {
    let text = r#"{
        "initial": "PENDING",
        "states": ["PENDING", "PROCESSING", "COMPLETED", "FAILED"],
        "terminal": ["COMPLETED", "FAILED"],
        "transitions": [
            {"from": "PENDING", "event": "start", "to": "PROCESSING"},
            {"from": "PENDING", "event": "fail", "to": "FAILED"},
            {"from": "PROCESSING", "event": "complete", "to": "COMPLETED"},
            {"from": "PROCESSING", "event": "fail", "to": "FAILED"}
        ]
    }"#;
    Definition::from_json(black_box(text)).and_then(|definition| definition.compile()).expect("a machine")
}

/// Numbers from a generator of splitmix's kind.
fn random(count: usize) -> impl Iterator<Item = u64> {
    (1..=count as u64).map(|n| {
        let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// A refused event makes a new instance, so that most events are transitions. Which ones cannot be predicted, so there is no branch.
fn follow(machine: &Machine, state: StateId, event: EventId) -> StateId {
    let next = machine.next(state, event);
    select_unpredictable(next.is_some(), next, Some(machine.initial())).expect("one of two states")
}

/// The same states by a table written here, for the proof: 0 pending, 1 processing, 2 completed, 3 failed.
fn expected(state: usize, event: &str) -> usize {
    match (state, event) {
        (0, "start") => 1,
        (0 | 1, "fail") => 3,
        (1, "complete") => 2,
        _ => 0,
    }
}

fn events(machine: &Machine) -> Vec<EventId> {
    let all: Vec<EventId> = machine.events().collect();
    random(EVENTS).map(|number| all[number as usize % all.len()]).collect()
}

/// One instance, each of whose transitions waits for the one before.
fn transition(bench: &mut Bench) -> Result<(), BenchError> {
    let machine = machine();
    let events = events(&machine);
    let mut sum = 0;
    let rounds = bench.rounds(|| {
        let mut state = machine.initial();
        let mut visited = 0;
        let start = Instant::now();
        for &event in &events {
            state = follow(&machine, state, event);
            visited += state.index() as u64;
        }
        let elapsed = start.elapsed();
        sum += visited;
        (elapsed, EVENTS as u64)
    })?;

    let mut alone = Vec::with_capacity(ALONE);
    let (mut state, mut visited) = (machine.initial(), 0);
    for &event in events.iter().cycle().take(ALONE) {
        let start = Instant::now();
        state = black_box(follow(&machine, state, black_box(event)));
        alone.push(start.elapsed().as_nanos() as f64);
        visited += state.index() as u64;
    }
    sum += visited;
    alone.sort_unstable_by(f64::total_cmp);
    let p95 = alone[ALONE * 95 / 100];
    bench.figure(Source::Op, Figure::exact(Metric::LatencyP95, p95), ALONE as u64);
    bench.figure(Source::Op, Figure::exact(Metric::LatencyMax, alone[ALONE - 1]), ALONE as u64);
    bench.note("percentile and maximum are of single transitions and include a reading of the clock");

    let (mut state, mut once) = (0, 0);
    for &event in &events {
        state = expected(state, machine.event_name(event));
        once += state as u64;
    }
    bench.proof((rounds + 1) * once, sum);
    Ok(())
}

/// A million instances of 2 bytes, each of which makes a transition in a round.
fn instances(bench: &mut Bench) -> Result<(), BenchError> {
    let machine = machine();
    let events = events(&machine);
    let mut states = vec![machine.initial(); INSTANCES];
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        for (states, events) in states.chunks_exact_mut(EVENTS).zip(std::iter::repeat(&events)) {
            for (state, &event) in states.iter_mut().zip(events) {
                *state = follow(&machine, *state, event);
            }
        }
        (start.elapsed(), INSTANCES as u64)
    })?;
    bench.figure(
        Source::Mem,
        Figure::exact(Metric::MemoryPerItem, size_of_val(&states[..]) as f64 / INSTANCES as f64),
        1,
    );

    let mut model = vec![0; EVENTS];
    for _ in 0..rounds {
        for (state, &event) in model.iter_mut().zip(&events) {
            *state = expected(*state, machine.event_name(event));
        }
    }
    let wanted = model.iter().sum::<usize>() * (INSTANCES / EVENTS);
    bench.proof(wanted, states.iter().map(|state| state.index()).sum::<usize>());
    Ok(())
}
