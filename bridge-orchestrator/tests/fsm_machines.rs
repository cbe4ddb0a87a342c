//! Compiled machines: transitions, guards, actions, and the workflow's table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bridge_orchestrator::fsm::{Bindings, Definition, Machine, Refused, StateId, workflow};

/// The definition is data, so it is tested against the table of what a workflow may do, in full.
#[test]
fn workflow_has_four_states_and_four_edges() {
    let machine = workflow();
    let states = ["PENDING", "PROCESSING", "COMPLETED", "FAILED"];
    let edges = [
        ("PENDING", "start", "PROCESSING"),
        ("PENDING", "fail", "FAILED"),
        ("PROCESSING", "complete", "COMPLETED"),
        ("PROCESSING", "fail", "FAILED"),
    ];
    assert_eq!(machine.states().map(|state| machine.state_name(state)).collect::<Vec<_>>(), states);
    assert_eq!(machine.state_name(machine.initial()), "PENDING");
    for from in machine.states() {
        let name = machine.state_name(from);
        assert_eq!(machine.is_terminal(from), ["COMPLETED", "FAILED"].contains(&name), "{name}");
        for event in machine.events() {
            let edge = edges.iter().find(|edge| edge.0 == name && edge.1 == machine.event_name(event));
            let next = machine.next(from, event).map(|next| machine.state_name(next));
            assert_eq!(next, edge.map(|edge| edge.2), "{name} at {}", machine.event_name(event));
        }
        for to in machine.states() {
            let edge = edges.iter().any(|edge| edge.0 == name && edge.2 == machine.state_name(to));
            assert_eq!(machine.allows(from, to), edge, "{name} to {}", machine.state_name(to));
        }
    }
    assert_eq!(machine.events().len(), 3);
}

/// The original compared `COMPLETED` with `completed`, and took an unchanged state for a transition.
#[test]
fn names_in_any_case_are_the_same_state_and_event() {
    let machine = workflow();
    for name in ["COMPLETED", "completed", "Completed"] {
        let state = machine.state(name).expect("defined");
        assert_eq!(machine.state_name(state), "COMPLETED");
    }
    assert_eq!(machine.event("COMPLETE"), machine.event("complete"));
    assert_eq!(machine.state("COMPLETE"), None, "a part of a name is another name");
    assert_eq!(machine.state("COMPLETED "), None);
}

#[test]
fn an_instance_is_two_bytes() {
    assert_eq!(size_of::<StateId>(), 2);
    assert_eq!(size_of::<Option<StateId>>(), 2);
}

#[test]
fn a_state_or_event_of_a_larger_machine_leads_nowhere() {
    let small =
        Definition::from_json(r#"{"states":["a"],"initial":"a","transitions":[{"from":"a","event":"e","to":"a"}]}"#)
            .expect("well formed")
            .compile()
            .expect("a machine");
    let failed = workflow().state("FAILED").expect("defined");
    let fail = workflow().event("fail").expect("defined");
    assert_eq!(small.next(failed, small.event("e").expect("defined")), None);
    assert_eq!(small.next(small.initial(), fail), None);
    assert!(!small.allows(failed, failed));
    assert!(!small.is_terminal(failed));
    let mut state = small.initial();
    assert_eq!(small.fire(&mut state, fail, &mut ()), Err(Refused::NoTransition));
}

#[derive(Debug, Default, PartialEq)]
struct Order {
    paid: bool,
    shipped: u32,
}

fn order() -> Machine<Order> {
    let text = r#"
        initial = "OPEN"
        states = ["OPEN", "SHIPPED", "LOST"]
        terminal = ["LOST"]
        transitions = [
            { from = "OPEN", event = "ship", to = "SHIPPED", guard = "is_paid", action = "count" },
            { from = "SHIPPED", event = "return", to = "OPEN" },
            { from = "SHIPPED", event = "lose", to = "LOST", action = "trip" },
            { from = "OPEN", event = "lose", to = "LOST", guard = "trip" },
        ]
    "#;
    let bindings = Bindings::new()
        .guard("is_paid", |order: &Order| order.paid)
        .guard("trip", |_| panic!("a guard that panics"))
        .action("count", |order| order.shipped += 1)
        .action("trip", |_| panic!("an action that panics"));
    Definition::from_toml(text).expect("well formed").compile_with(bindings).expect("bound")
}

#[test]
fn a_guard_decides_and_an_action_is_called_once() {
    let machine = order();
    let (ship, back) = (machine.event("ship").expect("defined"), machine.event("return").expect("defined"));
    let (mut state, mut order) = (machine.initial(), Order::default());
    assert_eq!(machine.fire(&mut state, ship, &mut order), Err(Refused::Guard));
    assert_eq!((state, &order), (machine.initial(), &Order::default()));
    order.paid = true;
    let shipped = machine.fire(&mut state, ship, &mut order).expect("paid");
    assert_eq!((machine.state_name(shipped), state, order.shipped), ("SHIPPED", shipped, 1));
    assert_eq!(machine.fire(&mut state, ship, &mut order), Err(Refused::NoTransition));
    machine.fire(&mut state, back, &mut order).expect("no guard");
    assert_eq!((state, order.shipped), (machine.initial(), 1));
}

#[test]
fn a_panic_in_a_guard_or_an_action_is_an_error_and_the_state_stays() {
    let machine = order();
    let lose = machine.event("lose").expect("defined");
    let mut order = Order { paid: true, shipped: 0 };
    let mut state = machine.initial();
    assert_eq!(machine.fire(&mut state, lose, &mut order), Err(Refused::GuardPanicked));
    assert_eq!(state, machine.initial());
    machine.fire(&mut state, machine.event("ship").expect("defined"), &mut order).expect("paid");
    let shipped = state;
    assert_eq!(machine.fire(&mut state, lose, &mut order), Err(Refused::ActionPanicked));
    assert_eq!(state, shipped);
}

#[test]
fn one_machine_serves_instances_on_many_threads() {
    let fired = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&fired);
    let text = r#"{"states":["a"],"initial":"a","transitions":[{"from":"a","event":"e","to":"a","action":"count"}]}"#;
    let bindings = Bindings::new().action("count", move |(): &mut ()| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let machine = Definition::from_json(text).expect("well formed").compile_with(bindings).expect("bound");
    let event = machine.event("e").expect("defined");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut state = machine.initial();
                (0..100).for_each(|_| assert!(machine.fire(&mut state, event, &mut ()).is_ok()));
            });
        }
    });
    assert_eq!(fired.load(Ordering::Relaxed), 400);
}
