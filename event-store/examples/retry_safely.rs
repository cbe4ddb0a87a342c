//! An append whose answer was lost is sent again: the same ids make it happen once.
//!
//! `cargo run -p event-store --example retry_safely`

use std::error::Error;

use event_store::{Append, AppendError, EventType, ExpectedVersion, MemoryStore, NewEvent, Position, StreamId};

fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let order = StreamId::new("order-7")?;
    let paid = NewEvent::new(EventType::new("OrderPaid")?, r#"{"cents":4200}"#);
    let append = Append::stream(order.clone(), ExpectedVersion::NoStream, [paid.clone()]);

    // The first answer does not arrive. Whoever asks again sends the same ids and the same content.
    let _lost = store.append_now(append.clone())?;
    let answer = store.append_now(append)?;
    assert!(answer.deduplicated);
    assert_eq!(store.head_now(), Some(Position::FIRST), "the order was paid once");

    // The same id with other content is a mistake, and is told.
    let changed = paid.with_metadata("another request");
    let error = store.append_now(Append::stream(order, ExpectedVersion::Any, [changed])).unwrap_err();
    assert!(matches!(error, AppendError::DuplicateEventId { .. }));
    eprintln!("repeated append: {:?}; changed append: {error}", answer.positions);
    Ok(())
}
