//! Any bytes as criterion's three files: figures are finite numbers or there is a named problem.
#![no_main]

use gate::source::criterion;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |&byte| byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    match criterion::parse(part(), part(), part()) {
        Ok((figures, _)) => {
            for figure in figures {
                assert!(figure.value.is_finite());
                assert!(figure.ci.is_none_or(|ci| ci.lo.is_finite() && ci.hi.is_finite()));
            }
        }
        Err(problem) => assert!(!problem.reason.is_empty()),
    }
});
