//! Any text as a file of limits: limits, or errors that name a place inside the text.
#![no_main]

use std::path::Path;

use gate::thresholds::Thresholds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Thresholds::parse(text, Path::new("t.toml"), "2026-06-15") {
        Ok(thresholds) => {
            for id in ["a/b/c", "", "event-store/save/1"] {
                let _ = thresholds.limits_for(id);
            }
            let _ = thresholds.check_against(["a/b/c"].into_iter());
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            let lines = text.matches('\n').count() + 1;
            assert!(errors.iter().all(|error| (1..=lines).contains(&error.place.line)));
        }
    }
});
