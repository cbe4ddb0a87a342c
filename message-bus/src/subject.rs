//! Subjects and patterns of subjects, by the rules of NATS (<https://docs.nats.io/nats-concepts/subjects>).

pub(crate) mod publish;
pub(crate) mod routes;
mod trie;

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// Bytes of the longest subject or pattern.
pub(crate) const LONGEST: usize = 1024;

/// Why a text is no subject, or no pattern of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// A token is empty: the text itself is, or a dot stands at its start, at its end or beside another.
    #[error("the token at byte {0} is empty")]
    EmptyToken(usize),
    /// White space or a control character.
    #[error("a space or control character at byte {0}")]
    Character(usize),
    /// A wildcard in a subject that is published to.
    #[error("the wildcard at byte {0} is for patterns alone")]
    Wildcard(usize),
    /// `>` before the last token of a pattern.
    #[error("the `>` at byte {0} is not the last token")]
    RestNotLast(usize),
    /// More than 1,024 bytes.
    #[error("{0} bytes are more than a subject may have, which is 1,024")]
    TooLong(usize),
}

/// What a message is published to: tokens with dots between them, such as `orders.eu.placed`.
///
/// A token is not empty and holds neither white space nor control characters. A token that is `*` or `>` alone is a wildcard, which
/// only [patterns](SubjectPattern) have; inside of a token they are characters like others. At most 1,024 bytes. A clone costs a count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject(Arc<str>);

/// What a subscription matches subjects with: a token `*` is any one token, `>` as the last is one or more.
///
/// `orders.*` matches `orders.eu` and neither `orders` nor `orders.eu.placed`; `orders.>` matches both of the latter but `orders`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectPattern(Arc<str>);

impl Subject {
    /// Reads a subject.
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        for (at, token) in tokens(text)? {
            if token == "*" || token == ">" {
                return Err(SubjectError::Wildcard(at));
            }
        }
        Ok(Self(text.into()))
    }
}

impl SubjectPattern {
    /// Reads a pattern; every subject is one.
    ///
    /// # Errors
    /// [`SubjectError`].
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        let mut rest = None;
        for (at, token) in tokens(text)? {
            if let Some(rest) = rest {
                return Err(SubjectError::RestNotLast(rest));
            }
            rest = (token == ">").then_some(at);
        }
        Ok(Self(text.into()))
    }

    /// True if the pattern matches the subject. Cost: linear in the subject's length.
    pub fn matches(&self, subject: &Subject) -> bool {
        let mut tokens = subject.split('.');
        for wanted in self.split('.') {
            let Some(token) = tokens.next() else { return false };
            match wanted {
                ">" => return true,
                "*" => {}
                _ if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

/// The tokens, each with where it begins, once all are known to be sound.
fn tokens(text: &str) -> Result<impl Iterator<Item = (usize, &str)>, SubjectError> {
    if text.len() > LONGEST {
        return Err(SubjectError::TooLong(text.len()));
    }
    if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_whitespace() || c.is_control()) {
        return Err(SubjectError::Character(at));
    }
    let mut next = 0;
    let with_places = move |token: &str| {
        let at = next;
        next += token.len() + 1;
        at
    };
    let mut places = with_places;
    if let Some(at) = text.split('.').map(|token| (places(token), token)).find(|(_, token)| token.is_empty()) {
        return Err(SubjectError::EmptyToken(at.0));
    }
    let mut places = with_places;
    Ok(text.split('.').map(move |token| (places(token), token)))
}

macro_rules! text {
    ($type:ident) => {
        impl Deref for $type {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&**self, f)
            }
        }

        impl FromStr for $type {
            type Err = SubjectError;

            fn from_str(text: &str) -> Result<Self, SubjectError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $type {
            type Error = SubjectError;

            fn try_from(text: &str) -> Result<Self, SubjectError> {
                Self::new(text)
            }
        }
    };
}

text!(Subject);
text!(SubjectPattern);

impl From<Subject> for SubjectPattern {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}
