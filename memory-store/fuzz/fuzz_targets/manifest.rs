//! Any bytes as a manifest: a typed error, or one that is stored as the same bytes. The last byte says whether checksums are made right first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memory_store::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    if let Some((reseal, bytes)) = bytes.split_last() {
        fuzzing::manifest(bytes, reseal % 2 == 1);
    }
});
