//! What a stamping workflow is started with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::workflow::Failure;

/// The namespace of a request that names none.
pub const DEFAULT_NAMESPACE: &str = "omninode.bridge";
/// Bytes that content may have as JSON, in which a quote or a line's end takes two and a control character six.
pub const MAX_CONTENT_BYTES: usize = 1 << 20;
/// Steps of a request, at most.
pub const MAX_STEPS: usize = 64;
/// Bytes of a namespace, an id and the like, at most.
const MAX_TEXT_BYTES: usize = 512;

/// What a stamping workflow is started with. The execution's id is the original's `correlation_id`.
///
/// Everything in it that may be missing is optional here, so that what is missing is told by the workflow, as a failure that is journalled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Request {
    /// What is to be stamped. Without it the workflow fails with [`ErrorCode::ValidationError`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_data: Option<InputData>,
    /// Whose it is: the beginning of the topics of its events. [`DEFAULT_NAMESPACE`] unless set, 1 to 512 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Which session of a user it belongs to, of at most 512 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The steps in their order; validation, hash and stamp unless set. A stamp needs a hash before it, and a list needs a stamp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepSpec>>,
}

/// What is to be stamped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InputData {
    /// The content, of at most [`MAX_CONTENT_BYTES`]. Without it the workflow fails with [`ErrorCode::ValidationError`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Where it is from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file_path: String,
    /// What it is, such as `application/pdf`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    /// What the intelligence service is to look at it for; `general_content_analysis` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// What else is to stand in the stamp's metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A step, as a request asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSpec {
    /// Its name in events and tables.
    pub step_id: String,
    /// What it does: `validation`, `hash_generation`, `onextree_intelligence` or `stamp_creation`.
    pub step_type: String,
}

impl StepSpec {
    /// A step.
    pub fn new(step_id: impl Into<String>, step_type: impl Into<String>) -> Self {
        Self { step_id: step_id.into(), step_type: step_type.into() }
    }
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum StepKind {
    Validation,
    Hash,
    Intelligence,
    Stamp,
}

impl StepKind {
    fn parse(step_type: &str) -> Option<Self> {
        match step_type {
            "validation" => Some(Self::Validation),
            "hash_generation" => Some(Self::Hash),
            "onextree_intelligence" => Some(Self::Intelligence),
            "stamp_creation" => Some(Self::Stamp),
            _ => None,
        }
    }
}

/// A step that can be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) id: String,
    pub(super) kind: StepKind,
}

impl Request {
    /// A request to stamp `content`, by the three steps.
    pub fn of(content: impl Into<String>) -> Self {
        let input = InputData { content: Some(content.into()), ..InputData::default() };
        Self { input_data: Some(input), ..Self::default() }
    }

    /// The same, of `namespace`.
    #[must_use]
    pub fn in_namespace(self, namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..self }
    }

    /// The same, of a session.
    #[must_use]
    pub fn in_session(self, session: impl Into<String>) -> Self {
        Self { session_id: Some(session.into()), ..self }
    }

    /// The same with the intelligence service asked between hash and stamp.
    #[must_use]
    pub fn with_intelligence(self) -> Self {
        let [validation, hash, stamp] = Self::default_steps();
        let intelligence = StepSpec::new("onextree_intelligence", "onextree_intelligence");
        Self { steps: Some(vec![validation, hash, intelligence, stamp]), ..self }
    }

    /// The steps of a request that names none.
    #[must_use]
    pub fn default_steps() -> [StepSpec; 3] {
        [
            StepSpec::new("validate_input", "validation"),
            StepSpec::new("hash_generation", "hash_generation"),
            StepSpec::new("stamp_creation", "stamp_creation"),
        ]
    }

    pub(super) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
    }

    /// The steps, if everything that they need is there.
    pub(super) fn plan(&self) -> Result<Vec<Planned>, Failure> {
        let invalid = |message: String| Failure::new(ErrorCode::ValidationError, message);
        let input = self.input_data.as_ref().ok_or_else(|| invalid("input_data is missing".to_owned()))?;
        let content = input.content.as_ref().ok_or_else(|| invalid("content is missing in input_data".to_owned()))?;
        let bytes = json_bytes(content);
        if bytes > MAX_CONTENT_BYTES {
            return Err(invalid(format!("{bytes} bytes of content are more than {MAX_CONTENT_BYTES}")));
        }
        let names = [("namespace", Some(self.namespace())), ("session_id", self.session_id.as_deref())];
        for (what, text) in names {
            if let Some(text) = text
                && (text.is_empty() || text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control))
            {
                return Err(invalid(format!(
                    "{what} has to have 1 to {MAX_TEXT_BYTES} bytes, none a control character"
                )));
            }
        }
        let defaults;
        let steps = match &self.steps {
            Some(steps) => &steps[..],
            None => {
                defaults = Self::default_steps();
                &defaults[..]
            }
        };
        if steps.len() > MAX_STEPS {
            return Err(invalid(format!("{} steps are more than {MAX_STEPS}", steps.len())));
        }
        let mut planned: Vec<Planned> = Vec::with_capacity(steps.len());
        for step in steps {
            let kind = StepKind::parse(&step.step_type).ok_or_else(|| {
                invalid(format!("step {} has the unknown step_type {}", step.step_id, step.step_type))
            })?;
            if kind == StepKind::Stamp && !planned.iter().any(|step| step.kind == StepKind::Hash) {
                return Err(invalid(format!("step {} needs a hash_generation before it", step.step_id)));
            }
            planned.push(Planned { id: step.step_id.clone(), kind });
        }
        match planned.iter().any(|step| step.kind == StepKind::Stamp) {
            true => Ok(planned),
            false => Err(invalid("there is no stamp_creation among the steps".to_owned())),
        }
    }
}

/// Bytes of `text` as JSON, without its quotes.
fn json_bytes(text: &str) -> usize {
    let bytes = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
        0..=31 => 6,
        _ => 1,
    };
    text.bytes().map(bytes).sum()
}
