//! What the library wants to know of a domain: an aggregate without state, whose events carry the contest's.

use std::convert::Infallible;

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use event_store_contest::Event;
use serde::{Deserialize, Serialize};

/// An aggregate that remembers nothing, so that applying events costs nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Order;

/// The contest's event in the library's terms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OrderEvent(pub(crate) Event);

impl DomainEvent for OrderEvent {
    fn event_type(&self) -> String {
        self.0.event_type.as_ref().to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Order {
    const TYPE: &'static str = "order";
    type Command = ();
    type Event = OrderEvent;
    type Error = Infallible;
    type Services = ();

    async fn handle(&mut self, (): (), (): &(), _sink: &EventSink<Self>) -> Result<(), Infallible> {
        Ok(())
    }

    fn apply(&mut self, _event: OrderEvent) {}
}
