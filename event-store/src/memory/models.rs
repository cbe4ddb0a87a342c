//! Loom models of publication: what a reader may see while the writer is at work, in every order that the memory model allows.
//!
//! `RUSTFLAGS="--cfg event_store_loom" cargo test -p event-store --lib --release loom`. Followed are the crate's own atomics and
//! the memory of [`super::log`]; boxcar and the swap of a list of runs (arc-swap) are taken at their word.

use std::ops::ControlFlow;
use std::sync::Arc;

use loom::thread;

use super::MemoryStore;
use super::interner::Interner;
use super::log::Log;
use super::postings::Postings;
use crate::append::{Append, ExpectedVersion};
use crate::batch::Batch;
use crate::event::{EventId, NewEvent, Timestamp};
use crate::name::{EventType, StreamId};
use crate::read::Read;
use crate::sync::{ArcSwap, AtomicU32, Ordering};

/// Explores every schedule with up to three preemptions: more find the same, only slower.
fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn event(number: u8) -> NewEvent {
    let kind = EventType::new("Happened").expect("valid");
    NewEvent::with_given_id(EventId::from_u128(u128::from(number)), kind, vec![number; 2])
        .with_time(Timestamp::from_micros(0))
}

fn batch(number: u8) -> Batch {
    let mut batch = Batch::default();
    batch.extend([event(number)], 0);
    batch
}

#[test]
fn loom_a_reader_sees_written_headers_and_data_alone() {
    explore(|| {
        let (log, mut writer) = Log::new();
        let reader = thread::spawn(move || {
            let view = log.view();
            let mut hint = 0;
            for index in 0..view.len() {
                let entry = view.run(index, &mut hint).event(index);
                assert_eq!(entry.data(), [index as u8; 2]);
            }
        });
        for number in 0..3 {
            let mut batch = batch(number);
            if number == 1 {
                writer.adopt(batch.headers.into_vec(), batch.data.into_vec());
            } else {
                writer.copy(&mut batch.headers, &batch.data);
            }
            writer.publish();
        }
        reader.join().expect("no panic");
    });
}

#[test]
fn loom_a_reader_of_a_log_keeps_what_the_next_one_frees() {
    explore(|| {
        let (log, mut writer) = Log::new();
        let mut first = batch(0);
        first.extend([event(1)], 0);
        writer.adopt(first.headers.into_vec(), first.data.into_vec());
        writer.publish();
        let shared = Arc::new(ArcSwap::new(log));
        let own = Arc::clone(&shared);
        let reader = thread::spawn(move || {
            let log = own.load();
            let view = log.view();
            for index in 0..view.len() {
                if let Ok(run) = view.run_or_hole(index, &mut 0) {
                    assert_eq!(run.event(index).data(), [index as u8; 2]);
                }
            }
        });
        let mut second = batch(2);
        writer.copy(&mut second.headers, &second.data);
        writer.publish();
        writer.count_removed(0);
        let is_removed = |header: &crate::batch::Header| header.event_id() == event(0).id;
        let next = writer.free(is_removed).expect("half of the block is removed");
        assert!(next.view().run_or_hole(0, &mut 0).is_err());
        shared.store(next);
        reader.join().expect("no panic");
        let view = writer.log().view();
        assert_eq!((1..3).map(|index| view.run(index, &mut 0).event(index).data()[0]).collect::<Vec<_>>(), [1, 2]);
    });
}

#[test]
fn loom_postings_below_the_watermark_are_complete_and_nothing_above_is_seen() {
    explore(|| {
        let postings = Arc::new(Postings::new());
        let watermark = Arc::new(AtomicU32::new(0));
        let (own_postings, own_watermark) = (Arc::clone(&postings), Arc::clone(&watermark));
        let reader = thread::spawn(move || {
            let end = own_watermark.load(Ordering::Acquire);
            let view = own_postings.view(end);
            let found: Vec<u32> = (0..view.len()).map(|ordinal| view.stretch(ordinal).0).collect();
            let expected: Vec<u32> = [0, 1, 3, 6].into_iter().filter(|&event| event < end).collect();
            assert_eq!(found, expected);
        });
        // A run that grows, a second one, a third one for which the list of runs is replaced.
        for (event, count, end) in [(0, 1, 1), (1, 1, 2), (3, 1, 4), (6, 1, 7)] {
            postings.push(event, count);
            watermark.store(end, Ordering::Release);
        }
        reader.join().expect("no panic");
    });
}

#[test]
fn loom_names_are_found_while_their_table_grows() {
    explore(|| {
        let (names, mut writer) = Interner::<StreamId>::new();
        let names = Arc::new(names);
        let name = |text: &str| StreamId::new(text).expect("valid");
        let known = names.intern(&name("known"), &mut writer);
        let own = Arc::clone(&names);
        let reader = thread::spawn(move || {
            assert_eq!(own.find("known"), Some(known));
            if let Some(number) = own.find("new-2") {
                assert_eq!(own.entry(number).name.as_str(), "new-2");
            }
        });
        for number in 0..3 {
            names.intern(&name(&format!("new-{number}")), &mut writer);
        }
        reader.join().expect("no panic");
    });
}

#[test]
fn loom_a_scan_sees_whole_appends_of_a_growing_stream() {
    explore(|| {
        let store = Arc::new(MemoryStore::new());
        let stream = StreamId::new("a").expect("valid");
        let append = |numbers: std::ops::Range<u8>| {
            Append::stream(StreamId::new("a").expect("valid"), ExpectedVersion::Any, numbers.map(event))
        };
        store.append_now(append(0..1)).expect("new");
        let own = Arc::clone(&store);
        let reader = thread::spawn(move || {
            let mut seen = Vec::new();
            own.scan(&Read::stream(stream), |event| {
                assert_eq!(event.stream_version().map(|version| version.get()), Some(seen.len() as u64));
                seen.push(event.payload()[0]);
                ControlFlow::<()>::Continue(())
            });
            assert!(seen == [0] || seen == [0, 1, 2], "{seen:?}");
        });
        store.append_now(append(1..3)).expect("nothing is expected");
        reader.join().expect("no panic");
    });
}

#[test]
fn loom_a_scan_beside_a_removal_sees_the_events_or_their_rest() {
    explore(|| {
        let store = Arc::new(MemoryStore::new());
        let stream = StreamId::new("a").expect("valid");
        let append = Append::stream(stream.clone(), ExpectedVersion::Any, (0..3).map(event));
        store.append_now(append).expect("new");
        let own = Arc::clone(&store);
        let reader = thread::spawn(move || {
            for read in [Read::all(), Read::stream(stream)] {
                let mut seen = Vec::new();
                own.scan(&read, |event| {
                    seen.push(event.payload()[0]);
                    ControlFlow::<()>::Continue(())
                });
                assert!(seen.is_sorted() && seen.last() == Some(&2), "what is not removed is there: {seen:?}");
            }
        });
        let removed = store.truncate_stream_now(&StreamId::new("a").expect("valid"), crate::StreamVersion::new(2));
        assert_eq!(removed, Ok(2));
        reader.join().expect("no panic");
    });
}

#[test]
fn loom_of_two_appends_that_expect_one_version_one_wins() {
    explore(|| {
        let store = Arc::new(MemoryStore::new());
        let attempt = |store: &MemoryStore, number| {
            let stream = StreamId::new("a").expect("valid");
            store.append_now(Append::stream(stream, ExpectedVersion::NoStream, [event(number)])).is_ok()
        };
        let own = Arc::clone(&store);
        let other = thread::spawn(move || attempt(&own, 1));
        let won = attempt(&store, 2);
        assert!(won != other.join().expect("no panic"));
        assert_eq!(store.head_now().map(|head| head.get()), Some(1));
    });
}
