//! What a sink that cannot be built or a request that was not taken say.

use crate::error::Outcome;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

type BoxError = Box<dyn Error + Send + Sync>;

/// Why an [`HttpSink`](super::HttpSink) cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// The endpoint is no absolute URL with a host.
    #[error("`{endpoint}` is no endpoint: {reason}")]
    Invalid {
        /// The endpoint as it was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The endpoint's scheme is neither `http` nor `https`.
    #[error("`{endpoint}` is no endpoint: the scheme `{scheme}` is not supported")]
    UnsupportedScheme {
        /// The endpoint as it was given.
        endpoint: String,
        /// Its scheme.
        scheme: String,
    },
    /// The endpoint holds a user's name or password, which would not be sent. An `Authorization` header is.
    #[error("the endpoint holds credentials: give them by a header")]
    Credentials,
    /// The endpoint wants `https`, and the crate's feature `tls` is off.
    #[error("`{endpoint}` needs the feature `tls` of `swarm-batcher`")]
    TlsNotCompiledIn {
        /// The endpoint as it was given.
        endpoint: String,
    },
    /// The system has no usable list of root certificates.
    #[cfg(feature = "tls")]
    #[error("no root certificates: {0}")]
    Roots(#[source] std::io::Error),
    /// TLS cannot be set up, because a root certificate that was given is none.
    #[cfg(feature = "tls")]
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] BoxError),
    /// A header that cannot be sent, or that the sink sets itself.
    #[error("header `{name}`: {reason}")]
    Header {
        /// The header's name as it was given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A setting outside of its range.
    #[error("setting out of range: {0}")]
    Setting(&'static str),
}

/// Why one attempt failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttemptError {
    /// There was no connection: the name is unknown, the server refused it, its certificate is not trusted.
    Connect(BoxError),
    /// There was no answer in time.
    TimedOut {
        /// The time that an attempt may take.
        limit: Duration,
        /// Whether the request's body had been handed to a connection.
        sent: bool,
    },
    /// The connection broke before there was an answer, or what came was no HTTP.
    Lost {
        /// What the connection died of.
        cause: BoxError,
        /// Whether the request's body had been handed to the connection.
        sent: bool,
    },
    /// The server answered, but not with success.
    Status {
        /// The answer's status, 300 to 599 in practice.
        status: u16,
        /// Up to the first 200 bytes of its text; what is no UTF-8 is replaced.
        text: String,
    },
}

impl AttemptError {
    /// Whether trying again cannot help: any status but 408 (the request did not arrive in time), 429 and 5xx.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Status { status, .. } if ![408, 429].contains(status) && !is_server_error(*status))
    }

    /// Whether the server may have taken the request. An answer of 5xx leaves it open; redirections (which are not followed) and 4xx
    /// deny it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let unknown = match self {
            Self::Connect(_) => false,
            Self::TimedOut { sent, .. } | Self::Lost { sent, .. } => *sent,
            Self::Status { status, .. } => is_server_error(*status),
        };
        if unknown { Outcome::Unknown } else { Outcome::NotApplied }
    }
}

fn is_server_error(status: u16) -> bool {
    (500..600).contains(&status)
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(cause) => {
                f.write_str("no connection")?;
                chain(f, &**cause)
            }
            Self::TimedOut { limit, sent } => {
                write!(f, "no {} within {limit:?}", if *sent { "answer" } else { "connection" })
            }
            Self::Lost { cause, .. } => {
                f.write_str("connection lost")?;
                chain(f, &**cause)
            }
            Self::Status { status, text } => write!(f, "answered with status {status}: {text:?}"),
        }
    }
}

/// The client's own text says little; the reason is at the end of its sources.
fn chain(f: &mut fmt::Formatter<'_>, error: &(dyn Error + 'static)) -> fmt::Result {
    let mut next = Some(error);
    while let Some(error) = next {
        write!(f, ": {error}")?;
        next = error.source();
    }
    Ok(())
}

impl Error for AttemptError {}

/// A request that was given up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("given up after {attempts} attempts: {last}")]
pub struct PostError {
    pub(super) attempts: u32,
    pub(super) outcome: Outcome,
    pub(super) last: Arc<AttemptError>,
    pub(super) retry_after: Option<Duration>,
}

impl PostError {
    /// How many attempts were made, 1 and up.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What the last attempt died of.
    #[must_use]
    pub fn last(&self) -> &AttemptError {
        &self.last
    }

    /// How long the server wants to be left alone, if its answer to the last attempt said so, from when that came. At most
    /// [`max_retry_after`](super::HttpSinkBuilder::max_retry_after).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the server may have taken the request: unknown if it is for any of the attempts.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }
}
