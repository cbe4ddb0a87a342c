//! One event as one line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::event::{EventId, NewEvent, Position, StreamVersion, Timestamp};
use crate::name::{EventType, StreamId, Tag};
use crate::recorded::RecordedEvent;

const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";

/// An event as a line has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventLine {
    /// Where it comes from.
    pub source: String,
    /// Its stream.
    pub stream: Option<StreamId>,
    /// Its place in the stream; without it, wherever it comes to stand.
    pub stream_version: Option<StreamVersion>,
    /// Where it stood in the store that it was exported from.
    pub position: Option<Position>,
    /// The event itself; without a time if the line has none.
    pub event: NewEvent,
}

/// Why a line is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineProblem {
    /// It has more bytes than the import allows.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// Most bytes of a line.
        limit: usize,
    },
    /// It is no JSON object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// An attribute that every event has is missing or empty.
    #[error("the attribute `{0}` is missing or empty")]
    Missing(&'static str),
    /// An attribute stands there twice.
    #[error("the attribute `{0}` stands there twice")]
    Twice(String),
    /// An attribute that a store has no place for. Nothing is left out silently.
    #[error("the attribute `{0}` is not known")]
    Unknown(String),
    /// A version of the specification other than 1.0.
    #[error("specversion `{0}` is not 1.0")]
    Version(String),
    /// An attribute's value is not of its type.
    #[error("the attribute `{name}` is not {wanted}")]
    Value {
        /// The attribute.
        name: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// Both `data` and `data_base64`.
    #[error("data stands there twice, as `data` and as `data_base64`")]
    TwoData,
    /// A version in a stream, without the stream.
    #[error("`streamversion` without `subject`")]
    VersionWithoutStream,
}

/// Why an event cannot be written as a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteProblem {
    /// A source has at least one character, and no control characters.
    #[error("a source has at least one character, and no control characters")]
    Source,
    /// Its time is not in the years 0 to 9999, which RFC 3339 can tell.
    #[error("the event at position {position} has a time outside the years 0 to 9999")]
    Time {
        /// Where the event stands.
        position: Position,
    },
}

impl EventLine {
    /// Reads a line, with or without its end. An attribute that is `null` is one that is not there, but for `data`.
    ///
    /// Cost: one pass over the line, and a copy of what is kept of it.
    ///
    /// # Errors
    /// [`LineProblem`], the first one found.
    pub fn parse(line: &[u8]) -> Result<Self, LineProblem> {
        let Attributes(mut attributes) = match serde_json::from_slice::<Object<'_>>(line) {
            Ok(Object::Attributes(attributes)) => attributes,
            Ok(Object::Twice(name)) => return Err(LineProblem::Twice(name)),
            Err(error) => return Err(LineProblem::Json(error.to_string())),
        };
        let data = attributes.remove("data");
        attributes.retain(|_, value| value.get() != "null");
        let mut attributes = Attributes(attributes);

        let version = attributes.required("specversion")?;
        if version != "1.0" {
            return Err(LineProblem::Version(version));
        }
        let id: Uuid = attributes.required("id")?.parse().map_err(|_| wrong("id", "a UUID"))?;
        let source = attributes.required("source")?;
        let event_type = name::<EventType>("type", &attributes.required("type")?)?;
        let stream = attributes.text("subject")?.map(|subject| name::<StreamId>("subject", &subject)).transpose()?;
        let time = attributes.text("time")?.map(|time| read_time(&time)).transpose()?;
        let content_type = attributes.text("datacontenttype")?;
        let schema_version = attributes.number::<u16>("schemaversion", "a number of 16 bits")?.unwrap_or(1);
        let stream_version = attributes.number("streamversion", "a number")?.map(StreamVersion::new);
        let position = match attributes.number("position", "a number above 0")? {
            Some(number) => Some(Position::new(number).ok_or_else(|| wrong("position", "a number above 0"))?),
            None => None,
        };
        let tags = attributes.text("tags")?.map(|tags| read_tags(&tags)).transpose()?.unwrap_or_default();
        let metadata = attributes.bytes("metadata")?.unwrap_or_default();
        let correlation_id = attributes.id("correlationid")?;
        let causation_id = attributes.id("causationid")?;
        let payload = match (data, attributes.bytes("data_base64")?) {
            (Some(_), Some(_)) => return Err(LineProblem::TwoData),
            (None, binary) => binary.unwrap_or_default(),
            (Some(data), None) => read_data(data, content_type.as_deref())?,
        };
        if let Some(unknown) = attributes.0.into_keys().next() {
            return Err(LineProblem::Unknown(unknown));
        }
        if stream_version.is_some() && stream.is_none() {
            return Err(LineProblem::VersionWithoutStream);
        }
        let mut event = NewEvent::with_given_id(EventId::from(id), event_type, payload)
            .with_schema_version(schema_version)
            .with_metadata(metadata);
        event.tags = tags.into_iter().collect();
        (event.time, event.correlation_id, event.causation_id) = (time, correlation_id, causation_id);
        Ok(Self { source, stream, stream_version, position, event })
    }

    /// Writes `event` as a line with its end behind what is in `line`.
    ///
    /// Cost: looks at the payload once to see whether it is JSON, and copies it.
    ///
    /// # Errors
    /// [`WriteProblem`]; `line` is as it was then.
    pub fn write(event: &RecordedEvent, source: &str, line: &mut Vec<u8>) -> Result<(), WriteProblem> {
        if source.is_empty() || source.chars().any(char::is_control) {
            return Err(WriteProblem::Source);
        }
        let time = jiff::Timestamp::from_microsecond(event.time().as_micros()).map(|time| format!("{time:.6}"));
        let time = time.ok().filter(|time| !time.starts_with('-'));
        let time = time.ok_or_else(|| WriteProblem::Time { position: event.position() })?;
        let mut out = Out { line, is_first: true };
        out.text("specversion", "1.0");
        out.text("id", &event.id().to_string());
        out.text("source", source);
        out.text("type", event.event_type().as_str());
        if let Some((stream, version)) = event.stream() {
            out.text("subject", stream.as_str());
            out.text("streamversion", &version.to_string());
        }
        out.text("time", &time);
        out.raw("schemaversion", event.schema_version().to_string().as_bytes());
        out.text("position", &event.position().to_string());
        if !event.tags().is_empty() {
            let tags: Vec<&str> = event.tags().iter().map(Tag::as_str).collect();
            out.text("tags", &as_json(&tags));
        }
        if !event.metadata().is_empty() {
            out.text("metadata", &BASE64.encode(event.metadata()));
        }
        for (name, id) in [("correlationid", event.correlation_id()), ("causationid", event.causation_id())] {
            if let Some(id) = id {
                out.text(name, &id.to_string());
            }
        }
        match event.payload() {
            [] => {}
            json if is_json_line(json) => {
                out.text("datacontenttype", JSON);
                out.raw("data", json);
            }
            bytes => {
                out.text("datacontenttype", BINARY);
                out.text("data_base64", &BASE64.encode(bytes));
            }
        }
        line.extend_from_slice(b"}\n");
        Ok(())
    }
}

/// Whether `payload` can stand in a line as it is and comes back the same: JSON without line ends, and without space around it.
fn is_json_line(payload: &[u8]) -> bool {
    !payload.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
        && serde_json::from_slice::<&RawValue>(payload).is_ok_and(|value| value.get().len() == payload.len())
}

fn as_json<T: serde::Serialize + ?Sized>(texts: &T) -> String {
    serde_json::to_string(texts).expect("texts have a form in JSON")
}

/// Writes an object's attributes.
struct Out<'a> {
    line: &'a mut Vec<u8>,
    is_first: bool,
}

impl Out<'_> {
    /// `name` needs no escapes.
    fn raw(&mut self, name: &str, value: &[u8]) {
        self.line.push(if self.is_first { b'{' } else { b',' });
        self.is_first = false;
        for part in [b"\"", name.as_bytes(), b"\":", value] {
            self.line.extend_from_slice(part);
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.raw(name, as_json(value).as_bytes());
    }
}

/// The attributes of a line, each as it stands there.
struct Attributes<'a>(BTreeMap<String, &'a RawValue>);

/// A line's object. `serde_json` would take the last of two attributes of one name.
enum Object<'a> {
    Attributes(Attributes<'a>),
    Twice(String),
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Line;

        impl<'de> Visitor<'de> for Line {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object<'de>, M::Error> {
                let (mut attributes, mut twice) = (BTreeMap::new(), None);
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    if attributes.insert(name.clone().into_owned(), value).is_some() {
                        twice = twice.or_else(|| Some(name.into_owned()));
                    }
                }
                Ok(twice.map_or(Object::Attributes(Attributes(attributes)), Object::Twice))
            }
        }

        deserializer.deserialize_map(Line)
    }
}

impl Attributes<'_> {
    fn text(&mut self, name: &'static str) -> Result<Option<String>, LineProblem> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        match serde_json::from_str::<String>(value.get()) {
            Ok(text) if text.is_empty() => Err(LineProblem::Missing(name)),
            Ok(text) if text.chars().any(char::is_control) => Err(wrong(name, "a text without control characters")),
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(wrong(name, "a text")),
        }
    }

    fn required(&mut self, name: &'static str) -> Result<String, LineProblem> {
        self.text(name)?.ok_or(LineProblem::Missing(name))
    }

    /// A number, or one as text: numbers of the specification end at 32 bits.
    fn number<N: std::str::FromStr>(
        &mut self,
        name: &'static str,
        wanted: &'static str,
    ) -> Result<Option<N>, LineProblem> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let digits = value.get().trim_matches('"');
        let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| is_plain).map(Some).ok_or_else(|| wrong(name, wanted))
    }

    fn bytes(&mut self, name: &'static str) -> Result<Option<Bytes>, LineProblem> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        let text = serde_json::from_str::<Cow<'_, str>>(value.get()).map_err(|_| wrong(name, "bytes in base64"))?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| wrong(name, "bytes in base64"))?;
        Ok(Some(bytes.into()))
    }

    fn id(&mut self, name: &'static str) -> Result<Option<Uuid>, LineProblem> {
        self.text(name)?.map(|id| id.parse().map_err(|_| wrong(name, "a UUID"))).transpose()
    }
}

fn wrong(name: &'static str, wanted: &'static str) -> LineProblem {
    LineProblem::Value { name, wanted }
}

fn name<N: std::str::FromStr>(attribute: &'static str, text: &str) -> Result<N, LineProblem> {
    text.parse().map_err(|_| wrong(attribute, "a name of 1 to 512 bytes without control characters"))
}

fn read_tags(text: &str) -> Result<Vec<Tag>, LineProblem> {
    let problem = || wrong("tags", "a JSON array of tags, as text");
    let tags: Vec<String> = serde_json::from_str(text).map_err(|_| problem())?;
    tags.iter().map(|tag| Tag::new(tag).map_err(|_| problem())).collect()
}

/// The payload that `data` stands for: its own text, or, where the content is not JSON, the text that it holds.
fn read_data(data: &RawValue, content_type: Option<&str>) -> Result<Bytes, LineProblem> {
    let media = content_type.unwrap_or(JSON).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = media.ends_with("/json") || media.ends_with("+json");
    if is_json || !data.get().starts_with('"') {
        return Ok(Bytes::copy_from_slice(data.get().as_bytes()));
    }
    serde_json::from_str::<String>(data.get()).map(Bytes::from).map_err(|_| wrong("data", "a text"))
}

/// A time by RFC 3339, which is narrower than what the parser takes. What is below a microsecond is not kept.
fn read_time(text: &str) -> Result<Timestamp, LineProblem> {
    let bytes = text.as_bytes();
    let shape = bytes.iter().map(|c| if c.is_ascii_digit() { b'0' } else { c.to_ascii_uppercase() });
    let is_narrow = shape.take(19).eq(*b"0000-00-00T00:00:00") && text.is_ascii() && !text.contains(['[', ' ', ',']);
    let has_offset = |at: usize| bytes.len() >= 25 && bytes[at] == b':' && bytes[at - 3] != b':';
    let problem = || wrong("time", "a time by RFC 3339");
    if !is_narrow || !(text.ends_with(['Z', 'z']) || has_offset(bytes.len() - 3)) {
        return Err(problem());
    }
    let digits = bytes.get(20..).map_or(0, |rest| rest.iter().take_while(|c| c.is_ascii_digit()).count());
    let text = match bytes.get(19) {
        Some(b'.') if digits > 9 => Cow::from(format!("{}{}", &text[..29], &text[20 + digits..])),
        _ => Cow::from(text),
    };
    let time: jiff::Timestamp = text.parse().map_err(|_| problem())?;
    let micros = time.as_nanosecond().div_euclid(1_000);
    let time = i64::try_from(micros).map(Timestamp::from_micros).map_err(|_| problem())?;
    // An offset can lead out of the years that can be written again.
    let is_writable =
        jiff::Timestamp::from_microsecond(time.as_micros()).is_ok_and(|time| !time.to_string().starts_with('-'));
    if is_writable { Ok(time) } else { Err(problem()) }
}
