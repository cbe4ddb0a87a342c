//! The words given, when, then: what they accept, and what they say where they do not.

#[path = "support/account.rs"]
mod account;

use std::panic::{AssertUnwindSafe, catch_unwind};

use account::AccountEvent::{Deposited, Withdrawn};
use account::{Account, Command, Overdrawn};
use event_store::testkit::given;
use event_store::{Aggregate, BoxError, DomainEvent, EventType, NewEvent, RecordedEvent};

#[test]
fn what_follows_is_what_was_expected() {
    given::<Account>([Deposited(10), Withdrawn(3)])
        .when(Command::Withdraw(7))
        .then([Withdrawn(7)])
        .when(Command::Withdraw(1))
        .then_error(&Overdrawn { wanted: 1, balance: 0 })
        .when(Command::Look)
        .then([])
        .then_state(&Account { balance: 0, changes: 3 });
}

/// What a failed test says.
fn message<T>(test: impl FnOnce() -> T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).err().expect("it fails");
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .expect("text")
}

#[test]
fn other_events_are_shown_beside_those_expected() {
    let said = message(|| {
        given::<Account>([]).when(Command::DepositOnes(3)).then([Deposited(1), Deposited(2), Deposited(1)]);
    });
    let expected = "the command led to other events
    Deposited(1)
  - Deposited(2)
  + Deposited(1)
    Deposited(1)
";
    assert_eq!(said, expected);
    let said = message(|| given::<Account>([]).when(Command::Look).then([Deposited(1)]));
    assert!(said.contains("- Deposited"), "{said}");
}

#[test]
fn a_refusal_that_was_not_expected_is_shown_and_so_is_one_that_does_not_come() {
    let said = message(|| given::<Account>([]).when(Command::Withdraw(1)).then([Withdrawn(1)]));
    assert!(said.starts_with("the command was refused: 1 wanted, 0 there\n  - Withdrawn"), "{said}");
    let refusal = Overdrawn { wanted: 2, balance: 0 };
    let said = message(|| given::<Account>([]).when(Command::Withdraw(1)).then_error(&refusal));
    assert!(said.starts_with("refused with another error"), "{said}");
    let said = message(|| given::<Account>([Deposited(9)]).when(Command::Withdraw(1)).then_error(&refusal));
    assert!(said.starts_with("the command was not refused") && said.contains("+ Withdrawn"), "{said}");
}

#[test]
fn another_state_and_panics_are_told() {
    let said = message(|| given::<Account>([Deposited(1)]).then_state(&Account { balance: 2, changes: 1 }));
    assert!(said.starts_with("another state\n  - Account {") && said.contains("+ Account {"), "{said}");
    let said = message(|| given::<Account>([Deposited(i64::MAX)]));
    assert!(said.ends_with("panicked: too rich"), "{said}");
    let said = message(|| given::<Account>([]).when(Command::PanicNow));
    assert_eq!(said, "deciding the command panicked: decided to panic");
}

/// An aggregate whose events forget their sign.
#[derive(Debug, Default, PartialEq)]
struct Forgetful;

#[derive(Debug, PartialEq)]
struct Moved(i64);

impl DomainEvent for Moved {
    fn encode(&self) -> Result<NewEvent, BoxError> {
        Ok(NewEvent::new(EventType::new("Moved")?, self.0.abs().to_string()))
    }

    fn decode(event: &RecordedEvent) -> Result<Self, BoxError> {
        Ok(Self(std::str::from_utf8(event.payload())?.parse()?))
    }
}

impl Aggregate for Forgetful {
    const TYPE: &'static str = "Forgetful";
    type Event = Moved;
    type Command = i64;
    type Error = Overdrawn;

    fn decide(&self, by: &i64) -> Result<Vec<Moved>, Overdrawn> {
        Ok(vec![Moved(*by)])
    }

    fn apply(&mut self, _: &Moved) {}
}

#[test]
fn an_encoding_that_loses_something_is_found() {
    given::<Forgetful>([Moved(1)]).when(2).then([Moved(2)]).then_state(&Forgetful);
    let said = message(|| given::<Forgetful>([]).when(-2).then([Moved(-2)]));
    assert!(said.starts_with("an event changes by its encoding"), "{said}");
}
