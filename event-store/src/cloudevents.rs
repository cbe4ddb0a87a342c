//! Events as CloudEvents 1.0 in JSON lines (feature `cloudevents`): to leave a store, or to come into one.
//!
//! One event is one line in the
//! [JSON format](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md):
//!
//! | attribute | what |
//! |---|---|
//! | `id`, `type`, `time` | those of the event; the time by RFC 3339, to the microsecond |
//! | `source` | where the events come from: whoever exports says so |
//! | `subject` | the stream; absent for events without one |
//! | `datacontenttype`, `data` | `application/json`, and the payload where it is JSON on one line: the same bytes, not another form of the same value |
//! | `datacontenttype`, `data_base64` | `application/octet-stream`, and any other payload that is not empty |
//! | `schemaversion` | version of the payload's schema; 1 if absent |
//! | `streamversion`, `position` | places in the stream and in the exporting store, as text |
//! | `tags` | a JSON array of texts, as text: extensions have no lists |
//! | `metadata` | bytes in base64 |
//! | `correlationid`, `causationid` | UUIDs |
//!
//! What is written reads back as the same event, byte by byte: payload, metadata, tags, ids and time. Positions are given anew by the store that
//! events come into, and the source is not kept.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use event_store::cloudevents::{ImportOptions, export, import};
//! use event_store::{Append, EventType, ExpectedVersion, MemoryStore, NewEvent, Read, StreamId};
//!
//! let store = MemoryStore::new();
//! let placed = NewEvent::new(EventType::new("OrderPlaced")?, r#"{"total": 42.0}"#);
//! store.append_now(Append::stream(StreamId::new("order-1")?, ExpectedVersion::NoStream, [placed]))?;
//!
//! let mut lines = Vec::new();
//! export(&store, Read::all(), "/shop/berlin", &mut lines).await?;
//!
//! let copy = MemoryStore::new();
//! let report = import(&copy, &lines[..], &ImportOptions::default()).await?;
//! assert_eq!(report.imported, 1);
//! assert_eq!(copy.read_now(&Read::all()), store.read_now(&Read::all()));
//!
//! // The same lines again are recognised by their ids.
//! let report = import(&copy, &lines[..], &ImportOptions::default()).await?;
//! assert_eq!((report.imported, report.deduplicated), (0, 1));
//! # Ok(()) }
//! ```

mod export;
mod import;
mod line;

pub use self::export::{ExportError, ExportProblem, ExportReport, export};
pub use self::import::{ImportError, ImportOptions, ImportProblem, ImportReport, import};
pub use self::line::{EventLine, LineProblem, WriteProblem};
