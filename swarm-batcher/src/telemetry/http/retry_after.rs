//! The header `Retry-After` (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

/// How long the server wants to be left alone: seconds, or a date that is compared with `now`; a date that has passed means not at all.
///
/// It takes any bytes. What is neither form is `None`; a number that no counter holds is as long as can be said.
pub(crate) fn parse_retry_after(value: &[u8], now: SystemTime) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 1994-11-06 08:49:37 GMT, the example of RFC 9110.
    const THEN: Duration = Duration::from_secs(784_111_777);

    fn parsed(value: &str) -> Option<Duration> {
        parse_retry_after(value.as_bytes(), SystemTime::UNIX_EPOCH + THEN)
    }

    #[test]
    fn seconds_are_read_with_blanks_around_them() {
        assert_eq!(parsed("0"), Some(Duration::ZERO));
        assert_eq!(parsed(" 120\t"), Some(Duration::from_secs(120)));
    }

    #[test]
    fn a_number_beyond_every_counter_is_the_longest_time() {
        assert_eq!(parsed(&"9".repeat(1000)), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn a_date_counts_from_now_and_one_that_has_passed_is_now() {
        assert_eq!(parsed("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(parsed("Sun, 06 Nov 1994 08:49:36 GMT"), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_neither_is_ignored() {
        for value in
            ["", " ", "-1", "+1", "1.5", "1 s", "soon", "Sun, 06 Nov 1994", "Sun, 99 Nov 1994 08:49:37 GMT", "１"]
        {
            assert_eq!(parsed(value), None, "{value:?}");
        }
        assert_eq!(parse_retry_after(b"\xff1", SystemTime::UNIX_EPOCH), None);
    }

    proptest! {
        /// Any bytes give an answer, whatever the clock says.
        #[test]
        fn any_bytes_are_taken(value: Vec<u8>, seconds in 0_u64..1 << 40) {
            parse_retry_after(&value, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        }

        /// So do texts that look like dates.
        #[test]
        fn texts_like_dates_are_taken(value in "(Sun|Sunday)?,? ?[0-9]{1,3}[ -](Nov|Feb|Foo)[ -][0-9]{2,4} [0-9]{2}:[0-9]{2}:[0-9]{2} (GMT|UTC)?") {
            parse_retry_after(value.as_bytes(), SystemTime::UNIX_EPOCH);
        }

        /// A number is itself.
        #[test]
        fn every_number_of_seconds_is_read(seconds: u64) {
            let read = parse_retry_after(seconds.to_string().as_bytes(), SystemTime::UNIX_EPOCH);
            prop_assert_eq!(read, Some(Duration::from_secs(seconds)));
        }

        /// A date as servers write it is the distance to it.
        #[test]
        fn every_date_is_read(now in 0_u64..1 << 36, ahead in 0_u64..1 << 32) {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
            let ahead = Duration::from_secs(ahead);
            let read = parse_retry_after(httpdate::fmt_http_date(now + ahead).as_bytes(), now);
            prop_assert_eq!(read, Some(ahead));
        }
    }
}
