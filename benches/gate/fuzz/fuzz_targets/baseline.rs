//! Any bytes as a baseline, any text as rules: a baseline reads back as it was, and every change of it has a verdict where a rule binds.
#![no_main]

use gate::baseline::{Baseline, Build, compare, parse_rules};
use gate::verdict::Verdict;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (text, rules) = (part(), part());
    let rules = std::str::from_utf8(rules).ok().and_then(|rules| parse_rules(rules).ok()).unwrap_or_default();
    // Most bytes are no JSON: every second input gets the frame of a baseline around its figures.
    let env = r#"{"cpu":"c","cores":1,"kernel":"k","rustc":"r","profile":"release"}"#;
    let head = r#"{"schema":1,"run":"r","started_unix_ms":0,"profile":"full","commit":null,"dirty":null,"env":"#;
    let framed = [head.as_bytes(), env.as_bytes(), br#","figures":["#, text, b"]}"].concat();
    for text in [text, &framed] {
        let Ok(baseline) = Baseline::parse(text) else { continue };
        let again = serde_json::to_vec(&baseline).expect("a baseline is JSON");
        assert_eq!(Baseline::parse(&again).as_ref(), Ok(&baseline));
        for change in compare(&baseline.figures, &baseline.figures, &rules, Build::Same) {
            let bound = rules.iter().any(|rule| rule.metric == change.metric);
            assert!(!bound || change.verdict.is_some_and(|verdict| verdict != Verdict::Missing));
        }
    }
});
