//! Routing, failure detection, state machines, the reducer and durable workflows of this repository.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bridge_orchestrator::fsm::{Definition, EventId, Machine, StateId};
use bridge_orchestrator::heartbeat::PhiDetector;
use bridge_orchestrator::reduce::{self, GroupBy, Reducer, Timestamp};
use bridge_orchestrator::route::{Balancer, CircuitBreaker};
use bridge_orchestrator_contest::{Balances, Breaks, Contest, Detects, Event, Group, Item, Reduces, Steps};

use crate::workflows::Durable;

mod workflows;

fn main() -> ExitCode {
    Contest::of("ours")
        .balances::<Endpoints>()
        .breaks::<Breaker>()
        .detects::<Detector>()
        .orchestrates::<Durable>()
        .reduces::<Groups>()
        .steps::<Loaded>()
        .run()
}

struct Endpoints(Balancer<u64>);

impl Balances for Endpoints {
    const NOTE: &'static str = "Balancer, the clock read at both ends of a call";

    fn over(endpoints: u64) -> Self {
        Self(Balancer::new(0..endpoints).expect("endpoints"))
    }

    fn call(&mut self, calls: u64, answered: &mut [u64]) {
        for _ in 0..calls {
            let endpoint = self.0.pick(Instant::now());
            answered[*endpoint as usize] += 1;
            endpoint.succeeded(Instant::now());
        }
    }
}

struct Breaker(CircuitBreaker);

impl Breaks for Breaker {
    const NOTE: &'static str = "CircuitBreaker: 5 failures among the last 48 outcomes";

    fn closed() -> Self {
        Self(CircuitBreaker::builder().build().expect("valid"))
    }

    fn call(&self, call: impl FnOnce() -> Result<u64, u64>) -> Option<Result<u64, u64>> {
        let permit = self.0.permit_by(Instant::now).ok()?;
        let result = call();
        match result {
            Ok(_) => permit.succeeded(),
            Err(_) => permit.failed(Instant::now()),
        }
        Some(result)
    }
}

struct Detector(PhiDetector<u64>);

impl Detects for Detector {
    const NOTE: &'static str = "PhiDetector: exponentially weighted mean and variance a node";

    fn new(now: Instant) -> Self {
        let builder = PhiDetector::builder().expected_interval(Duration::from_secs(1));
        Self(builder.build(now).expect("valid"))
    }

    fn heartbeat(&mut self, node: u64, at: Instant) {
        self.0.heartbeat(&node, at).expect("room");
    }

    fn phi(&self, node: u64, now: Instant) -> f64 {
        self.0.phi(&node, now).expect("known")
    }
}

struct Groups;

impl Reduces for Groups {
    const NOTE: &'static str =
        "Reducer by namespace, which also follows each workflow's states and says what is to be stored";
    type Row<'a> = reduce::Item<'a>;

    fn row(item: Item<'_>) -> reduce::Item<'_> {
        reduce::Item {
            stamp_id: item.stamp_id,
            file_hash: item.file_hash,
            file_path: item.file_path,
            file_size: item.file_size,
            namespace: item.namespace,
            content_type: item.content_type,
            workflow_id: item.workflow_id,
            workflow_state: item.workflow_state,
            created_at: Timestamp::from_micros(item.created_at),
        }
    }

    fn reduce(rows: &[reduce::Item<'_>]) -> Vec<Group> {
        let mut reducer = Reducer::builder(GroupBy::Namespace).build().expect("valid");
        let _ = reducer.push(rows).expect("taken");
        let groups = reducer.open();
        let groups = groups.iter().flat_map(|pane| pane.groups());
        groups
            .map(|group| Group {
                namespace: group.key().to_owned(),
                count: group.count(),
                bytes: u64::try_from(group.bytes()).expect("sizes are not negative"),
                content_types: group.file_types().len() as u64,
                workflows: group.workflows().len() as u64,
            })
            .collect()
    }
}

struct Loaded {
    machine: Machine,
    state: StateId,
}

impl Steps for Loaded {
    const NOTE: &'static str = "a definition loaded at run time";
    type Input = EventId;

    fn new() -> Self {
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
        let definition = Definition::from_json(std::hint::black_box(text)).expect("well formed");
        let machine = definition.compile().expect("a machine");
        Self { state: machine.initial(), machine }
    }

    fn input(&self, event: Event) -> EventId {
        let name = match event {
            Event::Start => "start",
            Event::Complete => "complete",
            Event::Fail => "fail",
        };
        self.machine.event(name).expect("defined")
    }

    fn step(&mut self, event: EventId) {
        self.state = self.machine.next(self.state, event).unwrap_or(self.machine.initial());
    }

    fn state(&self) -> u64 {
        self.state.index() as u64
    }
}
