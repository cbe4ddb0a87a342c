//! Any bytes as kept comparisons with rivals: what is accepted reads back as it was.
#![no_main]

use gate::rivals::Kept;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Most bytes are no JSON: every second input gets the frame of a file around its rows.
    let framed = [br#"{"schema":1,"component":"c","rivals":["#, bytes, b"]}"].concat();
    for text in [bytes, &framed] {
        let Ok(kept) = Kept::parse(text) else { continue };
        let again = serde_json::to_vec(&kept).expect("comparisons are JSON");
        assert_eq!(Kept::parse(&again).as_ref(), Ok(&kept));
    }
});
