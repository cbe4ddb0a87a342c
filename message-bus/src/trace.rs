//! The context of a distributed trace, after the W3C recommendation Trace Context (<https://www.w3.org/TR/trace-context/>).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a `traceparent` was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceContextError {
    /// It is not `version-trace id-parent id-flags` in lower-case hexadecimal of 2, 32, 16 and 2 digits.
    #[error("not a traceparent: two, 32, 16 and two lower-case hexadecimal digits with `-` between them")]
    Form,
    /// Version `ff` is forbidden.
    #[error("version ff of traceparent is forbidden")]
    Version,
    /// A trace id or parent id of nothing but zeros.
    #[error("a trace id or parent id of zeros")]
    Zero,
}

/// Which trace a message belongs to. The bus reads it from the publisher and hands it on to what handlers publish; it starts no traces
/// and makes no spans of its own.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: u64,
    flags: u8,
    state: Option<Arc<str>>,
}

const LENGTH: usize = 55;
const SAMPLED: u8 = 1;
/// Members of a `tracestate`.
const MOST_MEMBERS: usize = 32;
/// Characters of a member's key, and of its value.
const LONGEST: usize = 256;

impl TraceContext {
    /// A context of ids that the caller has.
    ///
    /// # Errors
    /// [`TraceContextError::Zero`].
    pub fn new(trace_id: u128, parent_id: u64, sampled: bool) -> Result<Self, TraceContextError> {
        if trace_id == 0 || parent_id == 0 {
            return Err(TraceContextError::Zero);
        }
        Ok(Self { trace_id, parent_id, flags: if sampled { SAMPLED } else { 0 }, state: None })
    }

    /// Reads a `traceparent` and the `tracestate` beside it. A `tracestate` that breaks its rules is left out, as the recommendation
    /// asks; of a version above 00 what version 00 knows is read.
    ///
    /// # Errors
    /// [`TraceContextError`].
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Result<Self, TraceContextError> {
        let text = traceparent.as_bytes();
        let form = |holds: bool| if holds { Ok(()) } else { Err(TraceContextError::Form) };
        form(text.len() >= LENGTH && [2, 35, 52].into_iter().all(|dash| text[dash] == b'-'))?;
        let version = hexadecimal(&text[..2])?;
        let trace_id = hexadecimal(&text[3..35])?;
        let parent_id = hexadecimal(&text[36..52])?;
        let flags = hexadecimal(&text[53..55])?;
        if version == 0xff {
            return Err(TraceContextError::Version);
        }
        // Later versions may go on after another dash.
        form(text.len() == LENGTH || version > 0 && text[LENGTH] == b'-')?;
        if trace_id == 0 || parent_id == 0 {
            return Err(TraceContextError::Zero);
        }
        let state = tracestate.map(str::trim_ascii).filter(|state| is_tracestate(state)).map(Arc::from);
        // The digits are as many as the types hold. Of a later version only the flag that this one knows is handed on.
        let flags = if version == 0 { flags as u8 } else { flags as u8 & SAMPLED };
        Ok(Self { trace_id, parent_id: parent_id as u64, flags, state })
    }

    /// The id of the whole trace.
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The id of the span that the message was published in.
    pub fn parent_id(&self) -> u64 {
        self.parent_id
    }

    /// True if the caller may have recorded the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What tracing systems have added, as it came.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The same trace with another span as parent: for a handler that makes spans.
    ///
    /// # Errors
    /// [`TraceContextError::Zero`].
    pub fn with_parent(self, parent_id: u64) -> Result<Self, TraceContextError> {
        if parent_id == 0 { Err(TraceContextError::Zero) } else { Ok(Self { parent_id, ..self }) }
    }
}

/// As `traceparent` of version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceContext")
            .field("traceparent", &format_args!("{self}"))
            .field("tracestate", &self.state)
            .finish()
    }
}

/// Of a `traceparent` alone.
impl FromStr for TraceContext {
    type Err = TraceContextError;

    fn from_str(traceparent: &str) -> Result<Self, TraceContextError> {
        Self::parse(traceparent, None)
    }
}

fn hexadecimal(digits: &[u8]) -> Result<u128, TraceContextError> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(TraceContextError::Form),
        };
        Ok(number << 4 | u128::from(value))
    })
}

fn is_tracestate(state: &str) -> bool {
    let members =
        || state.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|member| !member.is_empty());
    let keys: Vec<&str> = members().filter_map(|member| member.split_once('=')).map(|(key, _)| key).collect();
    let distinct = keys.iter().enumerate().all(|(index, key)| !keys[..index].contains(key));
    !keys.is_empty() && keys.len() <= MOST_MEMBERS && distinct && members().all(is_member)
}

fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let (tenant, system) = key.split_once('@').map_or((key, None), |(tenant, system)| (tenant, Some(system)));
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    key.len() <= LONGEST
        && is_name(tenant)
        && system.is_none_or(is_name)
        && !value.is_empty()
        && value.len() <= LONGEST
        && !value.ends_with(' ')
        && value.bytes().all(|c| matches!(c, b' '..=b'~') && c != b',' && c != b'=')
}

#[cfg(test)]
mod tests {
    use super::{TraceContext, TraceContextError};

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_reads_back_as_it_was() {
        let context: TraceContext = VALID.parse().expect("valid");
        assert_eq!(context.to_string(), VALID);
        assert_eq!(context.trace_id(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(context.parent_id(), 0x00f0_67aa_0ba9_02b7);
        assert!(context.is_sampled());
    }

    #[test]
    fn what_breaks_the_form_is_refused() {
        let cases = [
            ("", TraceContextError::Form),
            (&VALID[..54], TraceContextError::Form),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", TraceContextError::Form),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", TraceContextError::Form),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01", TraceContextError::Form),
            ("0\u{e9}-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", TraceContextError::Form),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceContextError::Version),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", TraceContextError::Zero),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", TraceContextError::Zero),
            ("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more", TraceContextError::Form),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<TraceContext>(), Err(error), "{text}");
        }
    }

    #[test]
    fn of_a_later_version_the_known_part_is_read() {
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-what-will-be";
        assert_eq!(later.parse::<TraceContext>().expect("valid").to_string(), VALID);
    }

    #[test]
    fn a_tracestate_that_breaks_its_rules_is_left_out_and_the_traceparent_stays() {
        let read =
            |state: &str| TraceContext::parse(VALID, Some(state)).expect("valid").tracestate().map(str::to_owned);
        for state in ["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "a=1 , b=2", "0@system=x", "a=1,,b=2"] {
            assert_eq!(read(state).as_deref(), Some(state));
        }
        let many = (0..33).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        let long = format!("a={}", "v".repeat(257));
        for state in ["", ",", "novalue", "A=1", "a=", "a=\u{e9}", "a=1,a=2", "a=b=c", "@x=1", &many, &long] {
            assert_eq!(read(state), None, "{state}");
        }
    }
}
