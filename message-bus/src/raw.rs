//! Messages of bytes, published to subjects.

use bytes::Bytes;

use crate::message::{Key, Message};
use crate::subject::Subject;

/// Why an attribute was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// A name has one or more visible ASCII characters, none of them a colon.
    #[error("`{0}` is no name of an attribute")]
    Name(String),
    /// A value holds no control characters.
    #[error("the value of attribute `{0}` holds a control character")]
    Value(String),
}

/// Names and values beside a payload, as headers are: in the order they were added, names as they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<(Box<str>, Box<str>)>);

impl Attributes {
    /// The value of a name, by its exact spelling. Cost: linear in the number of attributes.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// Sets a value; returns the one that was there.
    ///
    /// # Errors
    /// [`AttributeError`].
    pub fn insert(&mut self, name: &str, value: &str) -> Result<Option<Box<str>>, AttributeError> {
        if name.is_empty() || !name.bytes().all(|c| c.is_ascii_graphic() && c != b':') {
            return Err(AttributeError::Name(name.to_owned()));
        }
        if value.chars().any(char::is_control) {
            return Err(AttributeError::Value(name.to_owned()));
        }
        if let Some((_, before)) = self.0.iter_mut().find(|(other, _)| **other == *name) {
            return Ok(Some(std::mem::replace(before, value.into())));
        }
        self.0.push((name.into(), value.into()));
        Ok(None)
    }

    /// Takes a value out.
    pub fn remove(&mut self, name: &str) -> Option<Box<str>> {
        let place = self.0.iter().position(|(other, _)| **other == *name)?;
        Some(self.0.remove(place).1)
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The attribute that messages whose order is kept share: the extension `partitionkey` of CloudEvents. Without it their subject is the key.
pub(crate) const PARTITION_KEY: &str = "partitionkey";

/// Bytes that are published to a subject, for subscriptions by pattern. A clone copies the attributes and shares the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawMessage {
    /// Where it is published to.
    pub subject: Subject,
    /// Names and values beside the payload.
    pub attributes: Attributes,
    /// What it carries; the bus does not look into it.
    pub payload: Bytes,
    /// Where an answer is waited for.
    pub reply_to: Option<Subject>,
}

impl RawMessage {
    /// A message without attributes.
    pub fn new(subject: Subject, payload: impl Into<Bytes>) -> Self {
        Self { subject, attributes: Attributes::default(), payload: payload.into(), reply_to: None }
    }
}

/// Its key is the attribute `partitionkey`, or the subject.
impl Message for RawMessage {
    const TYPE: &'static str = "raw";

    fn key(&self) -> Option<Key<'_>> {
        Some(Key::from(self.attributes.get(PARTITION_KEY).unwrap_or(&self.subject)))
    }
}
