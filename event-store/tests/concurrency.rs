//! Many threads at once: one winner a version, and readers who only ever see whole appends in one order.

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use event_store::{Append, EventId, ExpectedVersion, MemoryStore, NewEvent, Read, StreamVersion};
use support::{exact, head, kind, stream, tag};

#[test]
fn of_64_threads_that_expect_one_version_one_wins() {
    const THREADS: u64 = 64;
    const VERSIONS: u64 = 20;
    let store = MemoryStore::new();
    let won: u64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let attempt = |version: u64| {
                        let expected = version.checked_sub(1).map_or(ExpectedVersion::NoStream, exact);
                        let event = NewEvent::new(kind("Won"), version.to_string());
                        store.append_now(Append::stream(stream("race"), expected, [event])).is_ok()
                    };
                    (0..VERSIONS).filter(|&version| attempt(version)).count() as u64
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    // A thread that comes late meets a later version; whoever wins, each version is written once.
    assert_eq!(won, head(&store));
    let versions: Vec<u64> =
        store.read_now(&Read::stream(stream("race"))).iter().filter_map(|e| Some(e.stream_version()?.get())).collect();
    assert_eq!(versions, (0..won).collect::<Vec<_>>());
}

#[test]
fn readers_see_a_dense_prefix_of_whole_appends_while_writers_go_on() {
    const WRITERS: u64 = 2;
    const APPENDS: u64 = 400;
    let store = Arc::new(MemoryStore::new());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        check_prefix(&store);
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = Arc::clone(&store);
                scope.spawn(move || {
                    for append in 0..APPENDS {
                        // Small appends are copied, large ones adopted.
                        let size = if append % 7 == 0 { 100 } else { 1 + append % 3 };
                        let events = (0..size).map(|i| {
                            let id = u128::from(writer) << 96 | u128::from(append) << 32 | u128::from(i);
                            let content = format!("{size}:{i}");
                            NewEvent::with_given_id(EventId::from_u128(id), kind("Written"), content)
                                .with_tag(tag("all"))
                        });
                        let stream = stream(&format!("writer-{}", (writer + append) % 3));
                        store
                            .append_now(Append::stream(stream, ExpectedVersion::Any, events))
                            .expect("nothing is expected");
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
    });
    check_prefix(&store);
    assert_eq!(head(&store), WRITERS * (0..APPENDS).map(|a| if a % 7 == 0 { 100 } else { 1 + a % 3 }).sum::<u64>());
}

/// Positions are dense, every append is there as a whole, and each stream is dense by version.
fn check_prefix(store: &MemoryStore) {
    let (mut next, mut left, mut size) = (1, 0, 0);
    store.scan(&Read::all(), |event| {
        assert_eq!(event.position().get(), next);
        next += 1;
        let text = std::str::from_utf8(event.payload()).expect("text");
        let (of, i) = text.split_once(':').expect("as written");
        let (of, i): (u64, u64) = (of.parse().expect("a number"), i.parse().expect("a number"));
        if left == 0 {
            (left, size) = (of, of);
        }
        assert_eq!((of, i), (size, size - left), "an append lies side by side");
        left -= 1;
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(left, 0, "half an append was seen");
    let tagged = event_store::Query::item(event_store::QueryItem::tags([tag("all")]).expect("one tag"));
    let mut last = 0;
    store.scan(&Read::query(tagged), |event| {
        assert_eq!(event.position().get(), last + 1);
        last += 1;
        ControlFlow::<()>::Continue(())
    });
    for number in 0..3 {
        let mut version = 0;
        store.scan(&Read::stream(stream(&format!("writer-{number}"))), |event| {
            assert_eq!(event.stream_version(), Some(StreamVersion::new(version)));
            version += 1;
            ControlFlow::<()>::Continue(())
        });
    }
}
