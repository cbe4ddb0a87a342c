//! What a call was given, as it is written down.

use std::borrow::Cow;

use event_store::Timestamp;
use serde::{Deserialize, Serialize};

use super::item::Item;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Input<'a> {
    Items(#[serde(borrow)] Vec<Row<'a>>),
    Watermark(i64),
    Finish,
    Recover(#[serde(borrow)] Vec<(Cow<'a, str>, Cow<'a, str>)>),
}

/// An [`Item`]. A caller's function for keys may look at all of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row<'a> {
    #[serde(borrow)]
    stamp_id: Cow<'a, str>,
    #[serde(borrow)]
    file_hash: Cow<'a, str>,
    #[serde(borrow)]
    file_path: Cow<'a, str>,
    file_size: u64,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    content_type: Cow<'a, str>,
    #[serde(borrow)]
    workflow_id: Cow<'a, str>,
    #[serde(borrow)]
    workflow_state: Cow<'a, str>,
    /// Microseconds since 1970.
    created_at: i64,
}

impl<'a> From<Item<'a>> for Row<'a> {
    fn from(item: Item<'a>) -> Self {
        Self {
            stamp_id: item.stamp_id.into(),
            file_hash: item.file_hash.into(),
            file_path: item.file_path.into(),
            file_size: item.file_size,
            namespace: item.namespace.into(),
            content_type: item.content_type.into(),
            workflow_id: item.workflow_id.into(),
            workflow_state: item.workflow_state.into(),
            created_at: item.created_at.as_micros(),
        }
    }
}

impl<'a> From<&'a Row<'_>> for Item<'a> {
    fn from(row: &'a Row<'_>) -> Self {
        Self {
            stamp_id: &row.stamp_id,
            file_hash: &row.file_hash,
            file_path: &row.file_path,
            file_size: row.file_size,
            namespace: &row.namespace,
            content_type: &row.content_type,
            workflow_id: &row.workflow_id,
            workflow_state: &row.workflow_state,
            created_at: Timestamp::from_micros(row.created_at),
        }
    }
}
