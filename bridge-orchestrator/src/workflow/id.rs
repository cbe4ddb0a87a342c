//! Names of executions.

use std::fmt;
use std::sync::Arc;

use event_store::{MAX_NAME_BYTES, StreamId};

use crate::error::Error;

/// What the journal of an execution is called in the store, before its id.
pub(crate) const STREAM_PREFIX: &str = "workflow-";

/// The name of one execution of a workflow, given by whoever starts it: the same name again is the same execution.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExecutionId(Arc<str>);

impl ExecutionId {
    /// Makes an id of `text`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the text is empty, has more than 500 bytes or holds a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, Error> {
        let text = text.as_ref();
        let most = MAX_NAME_BYTES - 12;
        if text.is_empty() || text.len() > most || text.chars().any(char::is_control) {
            return Err(Error::Invalid(format!(
                "{text:?} is no id of an execution: it needs 1 to {most} bytes without control characters"
            )));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stream that is its journal.
    pub(crate) fn stream(&self) -> StreamId {
        let mut name = String::with_capacity(STREAM_PREFIX.len() + self.0.len());
        name.push_str(STREAM_PREFIX);
        name.push_str(&self.0);
        StreamId::new(&name).expect("an id is shorter than a name by more than the prefix")
    }
}

impl AsRef<str> for ExecutionId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
