//! Names that users choose: of streams, event types and tags.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// Longest name in bytes.
pub const MAX_NAME_BYTES: usize = 512;

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A name has at least one character.
    #[error("a name cannot be empty")]
    Empty,
    /// A name has at most [`MAX_NAME_BYTES`] bytes.
    #[error("a name of {bytes} bytes is longer than {MAX_NAME_BYTES}")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// A name holds no control characters, so that logs and text formats can carry it.
    #[error("a name cannot hold the control character {character:?}")]
    Control {
        /// The first such character.
        character: char,
    },
}

/// Whether `text` can be a name.
pub(crate) fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { bytes: text.len() });
    }
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(NameError::Control { character }),
        None => Ok(()),
    }
}

/// A name of any kind.
pub(crate) trait Name: AsRef<str> + Clone {
    /// Where its text lies: two names at one place are clones of each other.
    fn place(&self) -> usize;
}

macro_rules! name {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        ///
        /// 1 to [`MAX_NAME_BYTES`] bytes without control characters; made by `parse`. A clone is a reference count.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Makes a name of `text`.
            ///
            /// # Errors
            /// [`NameError`] if the text is empty, too long or holds a control character.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check(text).map(|()| Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Name for $name {
            fn place(&self) -> usize {
                self.0.as_ptr().addr()
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of a stream: the events of one aggregate, one workflow, one conversation.
    StreamId
}
name! {
    /// The type of an event: what happened.
    EventType
}
name! {
    /// What an event is about, beside its stream: append conditions and queries look for tags.
    Tag
}

/// The tags of an event: sorted, each once. A clone is a reference count at most; only two tags and more take memory of their own.
#[derive(Clone, Default)]
pub struct Tags(Set);

#[derive(Clone, Default)]
enum Set {
    #[default]
    Empty,
    One(Tag),
    Many(Arc<[Tag]>),
}

impl Tags {
    /// The tags in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Tag] {
        match &self.0 {
            Set::Empty => &[],
            Set::One(tag) => std::slice::from_ref(tag),
            Set::Many(tags) => tags,
        }
    }

    /// The tags in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Tag> {
        self.as_slice().iter()
    }

    /// How many tags there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Whether `tag` is among them. Binary search.
    #[must_use]
    pub fn contains(&self, tag: &str) -> bool {
        self.as_slice().binary_search_by(|own| own.as_str().cmp(tag)).is_ok()
    }

    /// These tags and `tag`.
    pub(crate) fn with(&self, tag: Tag) -> Self {
        if self.is_empty() {
            return Self(Set::One(tag));
        }
        self.iter().cloned().chain([tag]).collect()
    }

    /// Whether both are surely equal, by where they lie alone.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Set::Empty, Set::Empty) => true,
            (Set::One(own), Set::One(other)) => own.place() == other.place(),
            (Set::Many(own), Set::Many(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
    }
}

impl FromIterator<Tag> for Tags {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        let mut tags: Vec<Tag> = tags.into_iter().collect();
        tags.sort_unstable();
        tags.dedup();
        Self(match tags.len() {
            0 => Set::Empty,
            1 => tags.pop().map_or(Set::Empty, Set::One),
            _ => Set::Many(tags.into()),
        })
    }
}

impl PartialEq for Tags {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_place(other) || self.as_slice() == other.as_slice()
    }
}

impl Eq for Tags {}

impl PartialOrd for Tags {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Tags {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Hash for Tags {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl<'a> IntoIterator for &'a Tags {
    type Item = &'a Tag;
    type IntoIter = std::slice::Iter<'a, Tag>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}
