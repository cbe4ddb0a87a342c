//! Any bytes as the header `Retry-After`, at any time: nothing, or a wait that reads back as it was, by its number and by its date.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use swarm_batcher::telemetry::retry_after;

/// The last second that a date of HTTP can name, 9999-12-31 23:59:59.
const LAST: u64 = 253_402_300_799;

fuzz_target!(|header: (u32, &[u8])| {
    let (seconds, value) = header;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into());
    let Some(wait) = retry_after(value, now) else { return };
    assert_eq!(retry_after(wait.as_secs().to_string().as_bytes(), now), Some(wait));
    if wait.as_secs() <= LAST - u64::from(seconds) {
        let date = httpdate::fmt_http_date(now + wait);
        assert_eq!(retry_after(date.as_bytes(), now), Some(wait));
    }
});
