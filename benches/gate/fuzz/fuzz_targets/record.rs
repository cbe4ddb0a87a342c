//! Any bytes as a measurement file: a record or a typed error, and a record reads back as it was.
#![no_main]

use std::path::Path;

use harness::record::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("any.json");
    if let Ok(record) = Record::parse(path, bytes) {
        let text = serde_json::to_vec(&record).expect("a record is JSON");
        let again = Record::parse(path, &text).expect("what was written can be read");
        assert_eq!(again, record);
    }
});
