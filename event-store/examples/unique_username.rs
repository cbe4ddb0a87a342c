//! A rule over many streams without a lock or a table: a user name may be claimed once, and again when it was released.
//!
//! `cargo run -p event-store --example unique_username`

use std::error::Error;

use event_store::{
    Append, AppendCondition, AppendError, EventType, MemoryStore, NewEvent, Position, Query, QueryItem, Read, Tag,
};

/// Claims `name`: decides on the events of that name, and appends under the condition that none has come since.
fn claim(store: &MemoryStore, name: &str) -> Result<bool, Box<dyn Error>> {
    let tag = Tag::new(&format!("username:{name}"))?;
    let of_name = Query::item(QueryItem::tags([tag.clone()])?);
    loop {
        let last = store.read_now(&Read::query(of_name.clone()).backwards().limit(1));
        if last.first().is_some_and(|event| event.event_type().as_str() == "UsernameClaimed") {
            return Ok(false);
        }
        let mut condition = AppendCondition::fail_if_events_match(of_name.clone());
        if let Some(last) = last.first() {
            condition = condition.after(last.position());
        }
        let claimed = NewEvent::new(EventType::new("UsernameClaimed")?, "").with_tag(tag.clone());
        match store.append_now(Append::events([claimed]).condition(condition)) {
            Ok(_) => return Ok(true),
            // Somebody was faster: look again.
            Err(AppendError::ConditionFailed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn release(store: &MemoryStore, name: &str) -> Result<Option<Position>, Box<dyn Error>> {
    let released =
        NewEvent::new(EventType::new("UsernameReleased")?, "").with_tag(Tag::new(&format!("username:{name}"))?);
    Ok(store.append_now(Append::events([released]))?.positions.map(|(first, _)| first))
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    assert!(claim(&store, "ada")?);
    assert!(!claim(&store, "ada")?, "it is taken");
    assert!(claim(&store, "grace")?, "another name is another boundary");
    release(&store, "ada")?;
    assert!(claim(&store, "ada")?, "it is free again");

    // Ten threads want one name; one gets it.
    let claimed = std::thread::scope(|scope| {
        let wanting: Vec<_> = (0..10).map(|_| scope.spawn(|| claim(&store, "linus").is_ok_and(|got| got))).collect();
        wanting.into_iter().map(|thread| thread.join().unwrap_or(false)).filter(|got| *got).count()
    });
    assert_eq!(claimed, 1);
    eprintln!("{:?} events, one claim of each name", store.head_now());
    Ok(())
}
