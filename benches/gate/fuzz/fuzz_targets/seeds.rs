//! Any text as a file of seed rows: rows or an error, and every row's limit can be asked for.
#![no_main]

use gate::seeds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // Most texts have another header: every second one gets the right one.
    let header = "seed,system,original_test,crate,benchmark,metric,limit,remark\n";
    for text in [text.to_owned(), format!("{header}{text}")] {
        if let Ok(rows) = seeds::parse(&text) {
            for row in rows {
                assert!(row.bound().is_none_or(|bound| bound.value.is_finite()));
            }
        }
    }
});
