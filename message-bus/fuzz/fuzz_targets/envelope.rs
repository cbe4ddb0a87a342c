//! Any bytes as a CloudEvent in JSON: an event or a typed error, and an event reads back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use message_bus::CloudEvent;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(event) = CloudEvent::from_json(bytes) {
        let text = event.to_json().expect("what was read can be written");
        assert_eq!(CloudEvent::from_json(&text).expect("what was written can be read"), event);
        assert_eq!(event.metadata().id, event.metadata().id);
    }
});
