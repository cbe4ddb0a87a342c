//! Events whose form has changed over the years, read as if they had always been recorded in today's.
//!
//! `cargo run -p event-store --example evolving_events`

use std::error::Error;

use event_store::{
    Append, BoxError, EventStore, EventType, ExpectedVersion, MemoryStore, NewEvent, Piece, Query, QueryItem, Read,
    StreamId, Upcasters, UpcastersError, Upcasting,
};
use futures::TryStreamExt as _;

/// First `name;city`; then the two were told apart.
fn told_apart(payload: &[u8]) -> Result<Vec<Piece>, BoxError> {
    let (name, city) = std::str::from_utf8(payload)?.split_once(';').ok_or("a name and a city are wanted")?;
    Ok(vec![Piece::new(0, name.to_owned()), Piece::new(1, city.to_owned())])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (registered, named, moved) =
        (EventType::new("CustomerRegistered")?, EventType::new("CustomerNamed")?, EventType::new("CustomerMoved")?);
    let ping = EventType::new("Ping")?;

    // What three releases have recorded.
    let store = MemoryStore::new();
    let customer = StreamId::new("customer-1")?;
    let history = [
        NewEvent::new(registered.clone(), "Ada;London"),
        NewEvent::new(ping.clone(), ""),
        NewEvent::new(moved.clone(), "Paris"),
        NewEvent::new(moved.clone(), r#"{"city":"Turin"}"#).with_schema_version(2),
    ];
    store.append_now(Append::stream(customer.clone(), ExpectedVersion::NoStream, history))?;

    let as_object = |city: &[u8]| Ok(format!(r#"{{"city":"{}"}}"#, std::str::from_utf8(city)?));
    let upcasters = Upcasters::builder()
        .current(named.clone(), 1)
        .current(moved.clone(), 2)
        .step(moved.clone(), 1, 2, as_object)
        .split((registered, 1), [(named, 1), (moved.clone(), 1)], told_apart)
        .drop(ping, 1)
        .build()?;
    let store = Upcasting::new(store, upcasters);

    // A query for today's type finds what was recorded under another name.
    let moves = Query::item(QueryItem::types([moved.clone()])?);
    let moves: Vec<_> = store.read(Read::query(moves)).try_collect().await?;
    let cities: Vec<_> = moves.iter().map(|event| String::from_utf8_lossy(event.payload())).collect();
    assert_eq!(cities, [r#"{"city":"London"}"#, r#"{"city":"Paris"}"#, r#"{"city":"Turin"}"#]);

    let all: Vec<_> = store.read(Read::stream(customer)).try_collect().await?;
    for event in &all {
        eprintln!(
            "{} {} v{}: {}",
            event.position(),
            event.event_type(),
            event.schema_version(),
            String::from_utf8_lossy(event.payload())
        );
    }
    assert_eq!(all.len(), 4);

    // Version 1 leads nowhere: said when the upcasters are built, not when the first old event is read.
    let hole = Upcasters::builder().current(moved.clone(), 2).build();
    assert_eq!(hole.unwrap_err(), UpcastersError::Hole { event_type: moved, version: 1 });
    Ok(())
}
