//! A read model of orders, kept up to date by events; then a second version of it, built beside the first and swapped in.
//!
//! `cargo run -p event-store --example order_projection`

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use event_store::{
    Append, ApplyError, EventType, ExpectedVersion, MemoryReadModel, MemoryStore, MemoryTx, NewEvent, Projection,
    ProjectionId, ProjectionOptions, ProjectionRunner, Query, QueryItem, ReadModel, RecordedEvent, StreamId,
};

/// Cents by order.
type Orders = BTreeMap<String, i64>;

/// What each order is worth. The first version forgot that things are sent back.
struct OrderValue {
    version: u32,
}

impl Projection for OrderValue {
    type Tx = MemoryTx<Orders>;

    fn name(&self) -> &str {
        "order-value"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn query(&self) -> Query {
        let types = ["ItemAdded", "ItemReturned"].map(|name| EventType::new(name).expect("a valid name"));
        Query::item(QueryItem::types(types).expect("two types"))
    }

    async fn apply(&self, tx: &mut MemoryTx<Orders>, event: &RecordedEvent) -> Result<(), ApplyError> {
        let (order, _) = event.stream().ok_or_else(|| ApplyError::event("an item without an order"))?;
        let cents: i64 = std::str::from_utf8(event.payload())?.parse()?;
        let value = tx.state_mut().entry(order.to_string()).or_default();
        match event.event_type().as_str() {
            "ItemReturned" if self.version > 1 => *value -= cents,
            "ItemReturned" => {}
            _ => *value += cents,
        }
        Ok(())
    }
}

fn record(store: &MemoryStore, order: &str, name: &str, payload: &str) -> Result<(), Box<dyn Error>> {
    let event = NewEvent::new(EventType::new(name)?, payload.to_owned());
    store.append_now(Append::stream(StreamId::new(order)?, ExpectedVersion::Any, [event]))?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = Arc::new(MemoryStore::new());
    let model = Arc::new(MemoryReadModel::<Orders>::new());
    let runner = |version, options| {
        let projection = OrderValue { version };
        ProjectionRunner::new(Arc::clone(&store), Arc::clone(&model), projection, tokio::time::sleep).options(options)
    };
    let value = |order: &str| model.read("order-value", |orders| orders.get(order).copied()).flatten();

    record(&store, "order-1", "ItemAdded", "1000")?;
    record(&store, "order-1", "ItemAdded", "500")?;
    record(&store, "order-1", "ItemReturned", "500")?;
    record(&store, "order-2", "ItemAdded", "ten euros")?;
    record(&store, "order-2", "ItemAdded", "250")?;

    // The live version, in a task of its own for as long as the process lives. One event cannot be read: it is parked.
    let live = Arc::new(runner(1, ProjectionOptions::default().attempts(1)));
    let running = tokio::spawn({
        let live = Arc::clone(&live);
        async move { live.run().await }
    });
    while live.stats().await?.lag > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((value("order-1"), value("order-2")), (Some(1500), Some(250)));
    for parked in live.parked().await? {
        eprintln!("parked: {} at position {}: {}", parked.event_type, parked.position, parked.error);
    }

    // The version that gets it right, from the first event on. Readers see the first one until it has caught up.
    let rebuilt = runner(2, ProjectionOptions::default().attempts(1));
    rebuilt.catch_up().await?;
    assert_eq!(value("order-1"), Some(1500));
    rebuilt.activate().await?;
    assert_eq!(value("order-1"), Some(1000));

    live.stop();
    running.await??;
    model.remove(&ProjectionId { name: "order-value".to_owned(), version: 1 }).await?;
    eprintln!("version {:?}: {:?}", model.active_version("order-value"), model.read("order-value", Clone::clone));
    Ok(())
}
