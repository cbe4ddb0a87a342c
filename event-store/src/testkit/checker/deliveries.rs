//! Holds what subscriptions yielded against the order: everything behind the cursor, once, in its place.

use std::collections::HashMap;

use super::{Anomaly, Call, Checker, Operation};
use crate::event::Position;
use crate::read::Source;
use crate::subscription::{Delivery, Start, Subscribe, SubscribeError};

/// How far a subscription has come.
struct Progress {
    subscribe: Subscribe,
    /// When it was made.
    began: u64,
    /// The next event, by its place among the matching ones; unknown for a tail that has not yielded yet.
    next: Option<usize>,
    /// The last position that it has vouched for.
    vouched: u64,
    /// Whether its cursor was found beyond the head.
    is_refused: bool,
}

impl Checker {
    pub(super) fn deliveries(&mut self, operations: &[Operation]) {
        let mut subscriptions: HashMap<u32, Progress> = HashMap::new();
        for (number, operation) in operations.iter().enumerate() {
            match &operation.call {
                Call::Subscribe { subscription, subscribe } => {
                    let cursor = match subscribe.start() {
                        Start::After(cursor) => Some(cursor.map_or(0, Position::get)),
                        Start::Tail => None,
                    };
                    let next = cursor.map(|cursor| self.place_behind(subscribe, cursor));
                    let subscribe = subscribe.clone();
                    let progress = Progress {
                        subscribe,
                        began: operation.began,
                        next,
                        vouched: cursor.unwrap_or(0),
                        is_refused: false,
                    };
                    subscriptions.insert(*subscription, progress);
                }
                Call::Delivery { subscription, asked, delivery } => {
                    let Some(progress) = subscriptions.get_mut(subscription) else { continue };
                    let outcome = match delivery {
                        Some(Ok(delivery)) => {
                            let own = self.moments.own(operation.client, *asked);
                            self.delivery(progress, delivery, own, operation.began)
                        }
                        Some(Err(SubscribeError::BeyondHead { cursor, head })) => {
                            progress.is_refused = true;
                            self.refusal(progress, *cursor, head.map_or(0, Position::get), operation)
                        }
                        Some(Err(SubscribeError::Read(_))) => Ok(()),
                        None if progress.is_refused => Ok(()),
                        None => Err("it ended, and the store is there".to_owned()),
                    };
                    self.note(number, *subscription, outcome);
                }
                Call::Stalled { subscription } => {
                    let Some(progress) = subscriptions.get(subscription) else { continue };
                    let own = self.moments.own(operation.client, operation.began);
                    let latest = self.moments.latest(operation.began);
                    let outcome = match progress.vouched {
                        vouched if vouched < own => {
                            Err(format!("nothing came behind position {vouched}, and {own} was acknowledged"))
                        }
                        cursor if cursor > latest => Err(format!("{cursor} was not refused, and the head is {latest}")),
                        _ => Ok(()),
                    };
                    self.note(number, *subscription, outcome);
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, operation: usize, subscription: u32, outcome: Result<(), String>) {
        if let Err(why) = outcome {
            self.anomalies.push(Anomaly::Delivery { operation, subscription, why });
        }
    }

    /// How many matching events there are up to `cursor`.
    fn place_behind(&mut self, subscribe: &Subscribe, cursor: u64) -> usize {
        let source = Source::Store { query: subscribe.events().clone(), from: None };
        self.matches_of(&source).partition_point(|position| *position <= cursor)
    }

    /// `own` is what the client had been told of when it asked: an arrival lies not before it.
    fn delivery(&mut self, progress: &mut Progress, delivery: &Delivery, own: u64, time: u64) -> Result<(), String> {
        let latest = self.moments.latest(time);
        match delivery {
            Delivery::Event(event) => {
                self.summary.delivered += 1;
                let position = event.position().get();
                if self.order.get(position) != Some(event) || position > latest {
                    return Err(format!("the event at position {position} is not there"));
                }
                let place = self.place_behind(&progress.subscribe, position - 1);
                let next = match progress.next {
                    Some(next) => next,
                    None => self.first_of_tail(progress, place, time),
                };
                progress.next = Some(place + 1);
                progress.vouched = position;
                if place != next {
                    return Err(format!("position {position} is matching event {place}, and {next} was to come"));
                }
            }
            Delivery::CaughtUp(position) => {
                let position = position.map_or(0, Position::get);
                let place = self.place_behind(&progress.subscribe, position);
                let next = match progress.next {
                    Some(next) => next,
                    None => self.first_of_tail(progress, place, time),
                };
                if position > latest || position < progress.vouched {
                    return Err(format!("caught up with position {position} after {}", progress.vouched));
                }
                progress.next = Some(place);
                progress.vouched = position;
                if position < own {
                    return Err(format!("caught up with position {position}, and {own} had been acknowledged"));
                }
                if place != next {
                    return Err(format!("caught up with position {position} after {next} of {place} events"));
                }
            }
        }
        Ok(())
    }

    /// A tail begins behind what was acknowledged before it was made, and not behind what had not begun when its first delivery was noted;
    /// where between is the store's choice.
    fn first_of_tail(&mut self, progress: &Progress, place: usize, time: u64) -> usize {
        let acknowledged = self.moments.acknowledged(progress.began);
        let first = self.place_behind(&progress.subscribe, acknowledged);
        let last = self.place_behind(&progress.subscribe, self.moments.latest(time).max(acknowledged));
        place.clamp(first, last)
    }

    fn refusal(&self, progress: &Progress, cursor: Position, head: u64, operation: &Operation) -> Result<(), String> {
        let asked = match progress.subscribe.start() {
            Start::After(asked) => asked,
            Start::Tail => None,
        };
        let (from, to) = (self.moments.own(operation.client, progress.began), self.moments.latest(operation.began));
        if asked != Some(cursor) || cursor.get() <= head || !(from..=to).contains(&head) {
            return Err(format!("{cursor} beyond {head} is no reason, for the head was between {from} and {to}"));
        }
        Ok(())
    }
}
