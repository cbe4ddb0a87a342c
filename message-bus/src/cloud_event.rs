//! Messages as CloudEvents 1.0 in their JSON format
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>): what leaves the process, or comes from another.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::delivery::Delivery;
use crate::message::{Key, Message};
use crate::metadata::{MessageId, Metadata};
use crate::raw::PARTITION_KEY;
use crate::trace::TraceContext;

const SPEC_VERSION: &str = "1.0";
const CORRELATION_ID: &str = "correlationid";
const CAUSATION_ID: &str = "causationid";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// Names that no extension may have.
const TAKEN: [&str; 10] =
    ["id", "source", "specversion", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"];

/// Why a text is no CloudEvent, or a CloudEvent cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudEventError {
    /// It is no JSON object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// An attribute that every event has is missing or empty.
    #[error("the attribute `{0}` is missing or empty")]
    Missing(&'static str),
    /// A version of the specification other than 1.0.
    #[error("specversion `{0}` is not 1.0")]
    Version(String),
    /// An attribute's value is not of its type.
    #[error("the attribute `{name}` is not {wanted}")]
    Value {
        /// The attribute.
        name: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A name of an extension that is not made of lower-case letters and digits, or is taken.
    #[error(
        "`{0}` is no name of an extension: lower-case letters and digits alone, and not one of the specification's own"
    )]
    Name(String),
    /// Both `data` and `data_base64`.
    #[error("data stands there twice, as `data` and as `data_base64`")]
    TwoData,
}

/// What an event carries.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Data {
    /// A JSON value; or text of another content type, as a JSON string.
    Json(Value),
    /// Bytes.
    Binary(Bytes),
}

/// The value of an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExtensionValue {
    /// A truth value.
    Boolean(bool),
    /// A number of 32 bits with a sign.
    Integer(i32),
    /// A text; also an address, a time or bytes, each in its form as text.
    Text(String),
}

/// An event with the attributes of CloudEvents 1.0.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CloudEvent {
    /// Unique among the events of its source; not empty.
    pub id: String,
    /// Where it happened: a URI reference, not empty. Nothing checks more than that.
    pub source: String,
    /// What kind of event it is; not empty.
    pub event_type: String,
    /// What it is about within its source.
    pub subject: Option<String>,
    /// When it happened.
    pub time: Option<SystemTime>,
    /// What `data` is; without it JSON.
    pub datacontenttype: Option<String>,
    /// The URI of the schema that `data` keeps to. Nothing checks that it is one.
    pub dataschema: Option<String>,
    /// Further attributes: names of lower-case letters and digits.
    pub extensions: BTreeMap<String, ExtensionValue>,
    /// What it carries.
    pub data: Option<Data>,
}

impl CloudEvent {
    /// An event without data.
    pub fn new(id: &str, source: &str, event_type: &str) -> Self {
        Self {
            id: id.to_owned(),
            source: source.to_owned(),
            event_type: event_type.to_owned(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: BTreeMap::new(),
            data: None,
        }
    }

    /// The envelope of a message, without data: its type's name, its id and time; as extensions what it follows from, its trace and
    /// its key (`correlationid`, `causationid`, `traceparent`, `tracestate`, `partitionkey`). A key of bytes that are no text is left out.
    pub fn of<M: Message>(source: &str, delivery: &Delivery<M>) -> Self {
        let metadata = delivery.metadata();
        let mut event = Self::new(&metadata.id.to_string(), source, M::TYPE);
        event.time = Some(metadata.time);
        let mut extend = |name: &str, value: String| {
            event.extensions.insert(name.to_owned(), ExtensionValue::Text(value));
        };
        extend(CORRELATION_ID, metadata.correlation.to_string());
        if let Some(causation) = metadata.causation {
            extend(CAUSATION_ID, causation.to_string());
        }
        if let Some(trace) = &metadata.trace {
            extend(TRACEPARENT, trace.to_string());
            if let Some(state) = trace.tracestate() {
                extend(TRACESTATE, state.to_owned());
            }
        }
        match delivery.key() {
            Some(Key::Number(number)) => extend(PARTITION_KEY, number.to_string()),
            Some(Key::Bytes(bytes)) => {
                if let Ok(text) = std::str::from_utf8(bytes) {
                    extend(PARTITION_KEY, text.to_owned());
                }
            }
            None => {}
        }
        event
    }

    /// The event with data of JSON.
    ///
    /// # Errors
    /// [`CloudEventError::Json`] where `data` has no form in JSON.
    pub fn with_json(mut self, data: &impl Serialize) -> Result<Self, CloudEventError> {
        let value = serde_json::to_value(data).map_err(|error| CloudEventError::Json(error.to_string()))?;
        self.data = Some(Data::Json(value));
        self.datacontenttype = Some("application/json".to_owned());
        Ok(self)
    }

    /// Who the message is that this event is the envelope of: to go on with what it belongs to. An id, or correlation or causation, that
    /// is no UUID becomes one by its name (version 5), the same for the same text, so that they still name each other; events of several
    /// sources that share such an id share this one too. An event without a time has that of now.
    pub fn metadata(&self) -> Metadata {
        let own = named(&self.id);
        let text = |name: &str| match self.extensions.get(name) {
            Some(ExtensionValue::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let mut metadata = Metadata::root();
        metadata.id = own;
        metadata.correlation = text(CORRELATION_ID).map_or(own, named);
        metadata.causation = text(CAUSATION_ID).map(named);
        metadata.trace = text(TRACEPARENT).and_then(|parent| TraceContext::parse(parent, text(TRACESTATE)).ok());
        metadata.time = self.time.unwrap_or(metadata.time);
        metadata
    }

    /// The event in the JSON format (`application/cloudevents+json`).
    ///
    /// # Errors
    /// [`CloudEventError`] where a field breaks the rules.
    pub fn to_json(&self) -> Result<Vec<u8>, CloudEventError> {
        let mut object = Map::new();
        object.insert("specversion".into(), SPEC_VERSION.into());
        for (name, value) in [("id", &self.id), ("source", &self.source), ("type", &self.event_type)] {
            object.insert(name.into(), checked(name, value)?.into());
        }
        let optional =
            [("subject", &self.subject), ("datacontenttype", &self.datacontenttype), ("dataschema", &self.dataschema)];
        for (name, value) in optional {
            if let Some(value) = value {
                object.insert(name.into(), checked(name, value)?.into());
            }
        }
        if let Some(time) = self.time {
            let time = Timestamp::try_from(time).ok().map(|time| time.to_string());
            let time =
                time.filter(|time| !time.starts_with('-')).ok_or_else(|| wrong("time", "in the years 0 to 9999"))?;
            object.insert("time".into(), time.into());
        }
        for (name, value) in &self.extensions {
            check_name(name)?;
            let value = match value {
                ExtensionValue::Boolean(value) => Value::from(*value),
                ExtensionValue::Integer(value) => Value::from(*value),
                ExtensionValue::Text(value) => sound(name, value)?.into(),
            };
            object.insert(name.clone(), value);
        }
        match &self.data {
            Some(Data::Json(value)) => {
                object.insert("data".into(), value.clone());
            }
            Some(Data::Binary(bytes)) => {
                object.insert("data_base64".into(), BASE64.encode(bytes).into());
            }
            None => {}
        }
        serde_json::to_vec(&object).map_err(|error| CloudEventError::Json(error.to_string()))
    }

    /// Reads an event in the JSON format. An attribute that is `null` is one that is not there.
    ///
    /// # Errors
    /// [`CloudEventError`].
    pub fn from_json(json: &[u8]) -> Result<Self, CloudEventError> {
        let mut object: Map<String, Value> =
            serde_json::from_slice(json).map_err(|error| CloudEventError::Json(error.to_string()))?;
        let (data, binary) = (object.remove("data"), object.remove("data_base64"));
        object.retain(|_, value| !value.is_null());
        let version = take(&mut object, "specversion")?.ok_or(CloudEventError::Missing("specversion"))?;
        if version != SPEC_VERSION {
            return Err(CloudEventError::Version(version));
        }
        let mut required = |name: &'static str| take(&mut object, name)?.ok_or(CloudEventError::Missing(name));
        let mut event = Self::new(&required("id")?, &required("source")?, &required("type")?);
        event.subject = take(&mut object, "subject")?;
        event.datacontenttype = take(&mut object, "datacontenttype")?;
        event.dataschema = take(&mut object, "dataschema")?;
        event.time = take(&mut object, "time")?.map(|time| read_time(&time)).transpose()?;
        event.data = match (data, binary) {
            (Some(_), Some(binary)) if !binary.is_null() => return Err(CloudEventError::TwoData),
            (None, Some(Value::String(text))) => {
                let bytes = BASE64.decode(text).map_err(|_| wrong("data_base64", "bytes in base64"))?;
                Some(Data::Binary(bytes.into()))
            }
            (None, Some(binary)) if !binary.is_null() => return Err(wrong("data_base64", "bytes in base64")),
            (data, _) => data.map(Data::Json),
        };
        for (name, value) in object {
            check_name(&name)?;
            let number = |value: Option<i64>| value.and_then(|value| i32::try_from(value).ok());
            let value = match value {
                Value::Bool(value) => ExtensionValue::Boolean(value),
                Value::String(value) => ExtensionValue::Text(sound(&name, &value)?.to_owned()),
                Value::Number(value) => ExtensionValue::Integer(
                    number(value.as_i64()).ok_or_else(|| wrong(&name, "an integer of 32 bits"))?,
                ),
                _ => return Err(wrong(&name, "a truth value, an integer or a text")),
            };
            event.extensions.insert(name, value);
        }
        Ok(event)
    }
}

fn wrong(name: &str, wanted: &'static str) -> CloudEventError {
    CloudEventError::Value { name: name.to_owned(), wanted }
}

fn check_name(name: &str) -> Result<(), CloudEventError> {
    let is_lower_case = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() || !name.bytes().all(is_lower_case) || TAKEN.contains(&name) {
        return Err(CloudEventError::Name(name.to_owned()));
    }
    Ok(())
}

/// A text as the specification's type has it.
fn sound<'a>(name: &str, text: &'a str) -> Result<&'a str, CloudEventError> {
    if text.chars().any(char::is_control) { Err(wrong(name, "a text without control characters")) } else { Ok(text) }
}

/// A text that is not empty either.
fn checked<'a>(name: &'static str, text: &'a str) -> Result<&'a str, CloudEventError> {
    if text.is_empty() { Err(CloudEventError::Missing(name)) } else { sound(name, text) }
}

fn take(object: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, CloudEventError> {
    match object.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(checked(name, &text)?.to_owned())),
        Some(_) => Err(wrong(name, "a text")),
    }
}

/// A time by RFC 3339, which is narrower than what the parser takes.
fn read_time(text: &str) -> Result<SystemTime, CloudEventError> {
    let shape = text.bytes().map(|c| if c.is_ascii_digit() { b'0' } else { c.to_ascii_uppercase() });
    let is_narrow = shape.take(19).eq(*b"0000-00-00T00:00:00") && !text.contains(['[', ' ', ',']);
    let ends_well = text.ends_with(['Z', 'z'])
        || text.len() >= 25 && text.as_bytes()[text.len() - 3] == b':' && text.as_bytes()[text.len() - 6] != b':';
    // Digits of a second beyond the ninth are not kept.
    let digits = text.get(20..).map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let text = match text.as_bytes().get(19) {
        Some(b'.') if digits > 9 => Cow::from(format!("{}{}", &text[..29], &text[20 + digits..])),
        _ => Cow::from(text),
    };
    let time = text.parse::<Timestamp>().ok().filter(|_| is_narrow && ends_well);
    time.map(SystemTime::from).ok_or_else(|| wrong("time", "a time by RFC 3339"))
}

/// The id that is this UUID, or the one that such a name has.
fn named(name: &str) -> MessageId {
    MessageId::from_uuid(name.parse().unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())))
}
