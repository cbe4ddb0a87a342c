//! Tests of aggregates in the words of their users: given what happened, when a command comes, then this follows.

use std::fmt::{Debug, Write as _};

use crate::aggregate::{Aggregate, DomainEvent as _};
use crate::event::{Position, StreamVersion, Timestamp};
use crate::name::StreamId;
use crate::panics::caught;
use crate::recorded::RecordedEvent;

/// Longest item that a difference shows on one line, in bytes.
const LINE: usize = 100;

/// An aggregate to which `events` have happened.
///
/// Every event goes through its own encoding and back on the way, so a test also finds a codec that loses something.
///
/// ```
/// # use event_store::{Aggregate, BoxError, DomainEvent, EventType, NewEvent, RecordedEvent};
/// # #[derive(Debug, Default, PartialEq)] struct Seats(u64);
/// # #[derive(Debug, Clone, PartialEq)] struct Taken(u64);
/// # #[derive(Debug, PartialEq, thiserror::Error)] #[error("sold out")] struct SoldOut;
/// # impl DomainEvent for Taken {
/// #     fn encode(&self) -> Result<NewEvent, BoxError> { Ok(NewEvent::new(EventType::new("Taken")?, self.0.to_string())) }
/// #     fn decode(event: &RecordedEvent) -> Result<Self, BoxError> { Ok(Self(std::str::from_utf8(event.payload())?.parse()?)) }
/// # }
/// # impl Aggregate for Seats {
/// #     const TYPE: &'static str = "Seats";
/// #     type Event = Taken; type Command = u64; type Error = SoldOut;
/// #     fn decide(&self, seats: &u64) -> Result<Vec<Taken>, SoldOut> {
/// #         if self.0 + seats > 3 { Err(SoldOut) } else { Ok(vec![Taken(*seats)]) }
/// #     }
/// #     fn apply(&mut self, taken: &Taken) { self.0 += taken.0; }
/// # }
/// use event_store::testkit::given;
///
/// given::<Seats>([Taken(1)]).when(2).then([Taken(2)]).then_state(&Seats(3));
/// given::<Seats>([Taken(2)]).when(2).then_error(&SoldOut);
/// ```
///
/// # Panics
/// If an event cannot be encoded, decoded or applied; the message says which.
#[must_use = "nothing is tested before `then`"]
#[track_caller]
pub fn given<A>(events: impl IntoIterator<Item = A::Event>) -> Given<A>
where
    A: Aggregate<Event: Debug + PartialEq>,
{
    let mut given = Given { state: A::default(), events: 0 };
    given.take_in(&events.into_iter().collect::<Vec<_>>());
    given
}

/// An aggregate with a past: see [`given`].
#[derive(Debug)]
pub struct Given<A> {
    state: A,
    events: u64,
}

/// What a command led to: see [`given`].
#[derive(Debug)]
#[must_use = "nothing is tested before `then`"]
pub struct When<A: Aggregate> {
    given: Given<A>,
    outcome: Result<Vec<A::Event>, A::Error>,
}

impl<A> Given<A>
where
    A: Aggregate<Event: Debug + PartialEq>,
{
    /// Decides `command`.
    ///
    /// # Panics
    /// If deciding does.
    #[track_caller]
    pub fn when(self, command: A::Command) -> When<A> {
        let outcome = match caught(|| self.state.decide(&command)) {
            Ok(outcome) => outcome,
            Err(message) => panic!("deciding the command panicked: {message}"),
        };
        drop(command);
        When { given: self, outcome }
    }

    /// Compares the state.
    ///
    /// # Panics
    /// If it is another one.
    #[track_caller]
    pub fn then_state(&self, expected: &A)
    where
        A: Debug + PartialEq,
    {
        assert!(self.state == *expected, "another state\n{}", difference(&[expected], &[&self.state]));
    }

    #[track_caller]
    fn take_in(&mut self, events: &[A::Event]) {
        for event in events {
            let decoded = match through_codec::<A>(event, self.events) {
                Ok(decoded) => decoded,
                Err(why) => panic!("{event:?} {why}"),
            };
            assert!(decoded == *event, "an event changes by its encoding\n{}", difference(&[event], &[&decoded]));
            if let Err(message) = caught(|| self.state.apply(&decoded)) {
                panic!("applying {event:?} panicked: {message}");
            }
            self.events += 1;
        }
    }
}

impl<A> When<A>
where
    A: Aggregate<Event: Debug + PartialEq>,
{
    /// The command leads to `expected`, in this order; no events stand for a command that changes nothing. Goes on with the aggregate to
    /// which these events have happened as well.
    ///
    /// # Panics
    /// If it leads to others, or is refused; the message shows the difference.
    #[track_caller]
    pub fn then(mut self, expected: impl IntoIterator<Item = A::Event>) -> Given<A> {
        let expected: Vec<A::Event> = expected.into_iter().collect();
        match self.outcome {
            Err(error) => panic!("the command was refused: {error}\n{}", difference(&refs(&expected), &[])),
            Ok(events) => {
                assert!(
                    events == expected,
                    "the command led to other events\n{}",
                    difference(&refs(&expected), &refs(&events))
                );
                self.given.take_in(&events);
            }
        }
        self.given
    }

    /// The command is refused with `expected`. Goes on with the aggregate as it was.
    ///
    /// # Panics
    /// If it is refused with another error, or leads to events; the message shows the difference.
    #[track_caller]
    pub fn then_error(self, expected: &A::Error) -> Given<A>
    where
        A::Error: Debug + PartialEq,
    {
        match &self.outcome {
            Err(error) => {
                assert!(error == expected, "refused with another error\n{}", difference(&[expected], &[error]));
            }
            Ok(events) => {
                panic!("the command was not refused\n  - {expected:?}\n{}", difference::<A::Event>(&[], &refs(events)))
            }
        }
        self.given
    }
}

/// `event` encoded, recorded and decoded; or what is wrong with it.
fn through_codec<A: Aggregate>(event: &A::Event, number: u64) -> Result<A::Event, String> {
    let encoded = caught(|| event.encode()).map_err(|message| format!("panics when it is encoded: {message}"))?;
    let encoded = encoded.map_err(|error| format!("cannot be encoded: {error}"))?;
    let stream = StreamId::new("given").expect("a valid name");
    let position = Position::new(number + 1).expect("not zero");
    let place = Some((stream, StreamVersion::new(number)));
    let recorded = RecordedEvent::of_event(position, place, Timestamp::from_micros(0), &encoded);
    let decoded =
        caught(|| A::Event::decode(&recorded)).map_err(|message| format!("panics when it is decoded: {message}"))?;
    decoded.map_err(|error| format!("cannot be decoded from what it was encoded to: {error}"))
}

fn refs<T>(list: &[T]) -> Vec<&T> {
    list.iter().collect()
}

/// Both lists, one item below the other: `-` is expected and missing, `+` came instead, and what is the same in both stands without a mark.
fn difference<T: Debug + PartialEq>(expected: &[&T], found: &[&T]) -> String {
    let same_from_start = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let rest = expected.len().min(found.len()) - same_from_start;
    let same_at_end = expected.iter().rev().zip(found.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    let mut list = |mark: char, items: &[&T]| {
        for item in items {
            let short = format!("{item:?}");
            let shown = if short.len() <= LINE { short } else { format!("{item:#?}") };
            for (number, line) in shown.lines().enumerate() {
                let mark = if number == 0 { mark } else { ' ' };
                let _ = writeln!(text, "  {mark} {line}");
            }
        }
    };
    list(' ', &expected[..same_from_start]);
    list('-', &expected[same_from_start..expected.len() - same_at_end]);
    list('+', &found[same_from_start..found.len() - same_at_end]);
    list(' ', &found[found.len() - same_at_end..]);
    if text.is_empty() {
        text.push_str("  (no events)\n");
    }
    text
}
