//! Any bytes as a line of an import: an event or a typed problem, and an event that is written as a line reads back as it was.
#![no_main]

use event_store::cloudevents::EventLine;
use event_store::{Position, RecordedEvent, StreamVersion, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut read) = EventLine::parse(bytes) else { return };
    read.position = Some(read.position.unwrap_or(Position::FIRST));
    read.event.time = Some(read.event.time.unwrap_or(Timestamp::from_micros(0)));
    // A store numbers fewer than 2^32 events.
    let version = read.stream_version.map_or(0, StreamVersion::get) & u64::from(u32::MAX);
    let place = read.stream.clone().map(|stream| (stream, StreamVersion::new(version)));
    read.stream_version = place.as_ref().map(|(_, version)| *version);

    let position = read.position.expect("it was given one");
    let recorded = RecordedEvent::of_event(position, place, Timestamp::from_micros(0), &read.event);
    let mut line = Vec::new();
    EventLine::write(&recorded, &read.source, &mut line).expect("what was read can be written");
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
    assert_eq!(EventLine::parse(&line).expect("what was written can be read"), read);
});
