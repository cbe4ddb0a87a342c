//! Any bytes as a record of a store: a typed error, or a change. The first byte is its kind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memory_store::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    if let Some((&kind, body)) = bytes.split_first() {
        fuzzing::record(kind, body);
    }
});
