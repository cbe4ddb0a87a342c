//! What can go wrong in a handler.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A handler's own error. Any [`Error`] becomes one by `?`; it is taken as transient, so that a retry may help.
///
/// It does not implement [`Error`] itself, so that the conversion can exist; [`source`](Self::source) is the error it was made of.
pub struct HandlerError {
    source: BoxError,
    permanent: bool,
}

impl HandlerError {
    /// An error that may pass: the subscription's retry policy is asked.
    pub fn transient(error: impl Into<BoxError>) -> Self {
        Self { source: error.into(), permanent: false }
    }

    /// An error that will not pass, whatever the retry policy: the message goes to the dead letters at once.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self { source: error.into(), permanent: true }
    }

    /// True if trying again cannot help.
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// The error that the handler returned.
    pub fn source(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::transient(error)
    }
}

/// As an error among others, for layers that box them; it comes out of the box as what it was.
impl From<HandlerError> for BoxError {
    fn from(error: HandlerError) -> Self {
        Box::new(Boxed(error))
    }
}

/// A [`HandlerError`] where an [`Error`] is asked for.
#[derive(Debug)]
struct Boxed(HandlerError);

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Boxed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.0.source())
    }
}

impl HandlerError {
    pub(crate) fn from_boxed(error: BoxError) -> Self {
        match error.downcast::<Boxed>() {
            Ok(boxed) => boxed.0,
            Err(error) => Self::transient(error),
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError").field("permanent", &self.permanent).field("source", &self.source).finish()
    }
}

/// Why a handler did not do its work.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// It returned an error.
    Error(HandlerError),
    /// It panicked, with this text.
    Panicked(String),
    /// It took longer than its subscription allows, and was dropped.
    TimedOut,
    /// It was dropped before it had finished, because another handler failed first and the policy is `FailFast`.
    Cancelled,
}

impl Cause {
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Self::Panicked(
            text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned()),
        )
    }

    /// True if trying again cannot help. A panic is taken for a fault of the code, which comes again.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Error(error) => error.is_permanent(),
            Self::Panicked(_) => true,
            Self::TimedOut | Self::Cancelled => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::TimedOut => f.write_str("took longer than its subscription allows"),
            Self::Cancelled => f.write_str("was cancelled when another handler failed"),
        }
    }
}

/// A handler that did not do its work, and why.
#[derive(Debug)]
pub struct Failure {
    /// The name of the handler's subscription.
    pub handler: Arc<str>,
    /// Why.
    pub cause: Cause,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handler `{}`: {}", self.handler, self.cause)
    }
}

impl Error for Failure {}
