//! What is reduced.

use event_store::Timestamp;

/// One stamped file, as a step of a workflow reports it. The texts are borrowed from wherever they were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// Identity of the stamp.
    pub stamp_id: &'a str,
    /// Hash of the file's content.
    pub file_hash: &'a str,
    /// Where the file is.
    pub file_path: &'a str,
    /// Bytes of the file.
    pub file_size: u64,
    /// Whose file it is.
    pub namespace: &'a str,
    /// Type of the file, such as `application/pdf`.
    pub content_type: &'a str,
    /// The workflow that stamped it.
    pub workflow_id: &'a str,
    /// The state of that workflow, in any case of letters.
    pub workflow_state: &'a str,
    /// When the stamp was made: the item's event time.
    pub created_at: Timestamp,
}
