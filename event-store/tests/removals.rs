//! Memory of removed events, and who still reads them.

mod support;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use event_store::{Append, ExpectedVersion, MemoryStore, NewEvent, Read, StreamId};
use support::{event, position, stream};

fn flow(number: u64) -> StreamId {
    stream(&format!("flow-{number}"))
}

/// 1 KiB that tells its event.
fn told(number: u64) -> NewEvent {
    let content: Vec<u8> = number.to_le_bytes().repeat(128);
    event(number).with_metadata(content)
}

/// Ten events, in appends that are copied or in one that is adopted.
fn write(store: &MemoryStore, number: u64) {
    let all = number * 100..number * 100 + 10;
    if number.is_multiple_of(3) {
        let padded = all.clone().map(|number| told(number).with_metadata(number.to_le_bytes().repeat(512)));
        store.append_now(Append::stream(flow(number), ExpectedVersion::NoStream, padded)).expect("it is new");
    } else {
        for each in all {
            store.append_now(Append::stream(flow(number), ExpectedVersion::Any, [told(each)])).expect("it is new");
        }
    }
}

#[test]
fn memory_of_removed_streams_is_freed() {
    let store = MemoryStore::new();
    let mut removed = 0;
    for number in 0..3_000 {
        write(&store, number);
        if number % 100 == 0 {
            let kept = Append::stream(stream("kept"), ExpectedVersion::Any, [told(1_000_000 + number)]);
            store.append_now(kept).expect("it is new");
        }
        if let Some(old) = number.checked_sub(20) {
            removed += store.delete_stream_now(&flow(old)).expect("not poisoned");
        }
        let held = store.removed_now().bytes_held;
        // Two blocks that are not full yet, and less than half of the others.
        assert!(held <= 9 << 20, "{held} bytes of removed events after {number} streams");
    }
    assert_eq!(store.removed_now().events, removed);
    let kept = store.read_now(&Read::stream(stream("kept")));
    assert_eq!(kept.len(), 30);
    assert!(
        kept.iter()
            .zip(0..)
            .all(|(event, number)| event.payload() == (1_000_000 + number * 100).to_string().as_bytes())
    );
    assert_eq!(store.read_now(&Read::all()).len(), 30 + 20 * 10);
    assert_eq!(store.head_now(), Some(position(30_030)));
}

#[test]
fn what_a_reader_holds_outlives_its_removal() {
    let store = MemoryStore::new();
    for number in 0..600 {
        write(&store, number);
    }
    let list = store.events_now(&Read::all());
    let single = store.read_now(&Read::stream(flow(7)));
    for number in 0..600 {
        store.delete_stream_now(&flow(number)).expect("not poisoned");
    }
    assert!(store.read_now(&Read::all()).is_empty());
    drop(store);
    assert_eq!(list.len(), 6_000);
    assert!(list.iter().all(|event| event.metadata()[..8] == event.payload_number().to_le_bytes()));
    assert!(single.iter().zip(700..).all(|(event, number)| event.metadata() == u64::to_le_bytes(number).repeat(128)));
}

trait PayloadNumber {
    fn payload_number(&self) -> u64;
}

impl PayloadNumber for event_store::EventRef<'_> {
    fn payload_number(&self) -> u64 {
        std::str::from_utf8(self.payload()).expect("text").parse().expect("a number")
    }
}

/// Readers go on while streams come and go: whatever they see is whole and in order, and what is never removed is always there.
#[test]
fn readers_beside_removals_see_whole_events_in_order() {
    let store = MemoryStore::new();
    let done = AtomicBool::new(false);
    for number in 0..30 {
        write(&store, number);
    }
    store.append_now(Append::stream(stream("kept"), ExpectedVersion::Any, [told(9_999_999)])).expect("it is new");
    thread::scope(|scope| {
        for reader in 0..3 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let read = if reader == 1 { Read::all().backwards() } else { Read::all() };
                    let (mut last, mut kept) = (None, 0);
                    store.scan(&read, |event| {
                        let position = event.position();
                        assert!(
                            last.is_none_or(|last| (last < position) != read.is_backwards()),
                            "{last:?} {position}"
                        );
                        last = Some(position);
                        let number = event.payload_number();
                        assert_eq!(event.metadata()[..8], number.to_le_bytes());
                        kept += u32::from(number == 9_999_999);
                        ControlFlow::<()>::Continue(())
                    });
                    assert_eq!(kept, 1);
                }
            });
        }
        for number in 30..1_500 {
            write(&store, number);
            store.delete_stream_now(&flow(number - 30)).expect("not poisoned");
        }
        done.store(true, Ordering::Relaxed);
    });
}
