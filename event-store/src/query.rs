//! Which events a reader or an append condition means: by type and tag.

use crate::name::{EventType, Tag, Tags};

/// Events of a store: all of them, or those that match at least one item.
///
/// A query without items cannot be built: as a guard it would be no guard.
///
/// ```
/// use event_store::{EventType, Query, QueryItem, Tag};
///
/// let item = QueryItem::tags([Tag::new("course:rust")?])?.of_types([EventType::new("Subscribed")?]);
/// let query = Query::item(item);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// Every event.
    All,
    /// Events that match at least one of the items.
    Items(QueryItems),
}

/// One or more items, any of which an event may match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryItems(Vec<QueryItem>);

/// Events of any of the types that carry all of the tags. No types stand for any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryItem {
    types: Vec<EventType>,
    tags: Tags,
}

/// A query or an item would select by nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A query of items has at least one.
    #[error("a query without items selects nothing; `Query::All` selects every event")]
    NoItems,
    /// An item names at least one type or tag.
    #[error("an item without types and tags selects every event; `Query::All` says so")]
    EmptyItem,
}

impl Query {
    /// Events that match at least one of `items`.
    ///
    /// # Errors
    /// [`QueryError::NoItems`] if there are none.
    pub fn items(items: impl IntoIterator<Item = QueryItem>) -> Result<Self, QueryError> {
        let items: Vec<QueryItem> = items.into_iter().collect();
        if items.is_empty() { Err(QueryError::NoItems) } else { Ok(Self::Items(QueryItems(items))) }
    }

    /// Whether an event of `event_type` with `tags` matches.
    #[must_use]
    pub fn matches(&self, event_type: &EventType, tags: &Tags) -> bool {
        match self {
            Self::All => true,
            Self::Items(items) => items.as_slice().iter().any(|item| item.matches(event_type, tags)),
        }
    }

    /// Events that match `item`.
    #[must_use]
    pub fn item(item: QueryItem) -> Self {
        Self::Items(QueryItems(vec![item]))
    }
}

impl QueryItems {
    /// The items, at least one.
    #[must_use]
    pub fn as_slice(&self) -> &[QueryItem] {
        &self.0
    }
}

impl QueryItem {
    /// Events that carry all of `tags`, of any type.
    ///
    /// # Errors
    /// [`QueryError::EmptyItem`] if there are none.
    pub fn tags(tags: impl IntoIterator<Item = Tag>) -> Result<Self, QueryError> {
        let tags: Tags = tags.into_iter().collect();
        if tags.is_empty() { Err(QueryError::EmptyItem) } else { Ok(Self { types: Vec::new(), tags }) }
    }

    /// Events of any of `types`, whatever their tags.
    ///
    /// # Errors
    /// [`QueryError::EmptyItem`] if there are none.
    pub fn types(types: impl IntoIterator<Item = EventType>) -> Result<Self, QueryError> {
        let types: Vec<EventType> = types.into_iter().collect();
        if types.is_empty() { Err(QueryError::EmptyItem) } else { Ok(Self { types, tags: Tags::default() }) }
    }

    /// The same item for these types as well; a type named twice counts once.
    #[must_use]
    pub fn of_types(mut self, types: impl IntoIterator<Item = EventType>) -> Self {
        self.types.extend(types);
        self.types.sort_unstable();
        self.types.dedup();
        self
    }

    /// The types, any of which an event may have; none stand for any.
    #[must_use]
    pub fn event_types(&self) -> &[EventType] {
        &self.types
    }

    /// The tags, all of which an event must carry.
    #[must_use]
    pub fn event_tags(&self) -> &Tags {
        &self.tags
    }

    /// Whether an event of `event_type` with `tags` matches.
    #[must_use]
    pub fn matches(&self, event_type: &EventType, tags: &Tags) -> bool {
        (self.types.is_empty() || self.types.contains(event_type))
            && self.tags.iter().all(|tag| tags.contains(tag.as_str()))
    }
}
