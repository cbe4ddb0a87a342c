//! Any bytes as a section file: a typed error, or sections within it. The last byte says whether checksums are made right first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memory_store::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    if let Some((reseal, bytes)) = bytes.split_last() {
        fuzzing::sections(bytes, reseal % 2 == 1);
    }
});
