//! What a machine is, as text: read from JSON or TOML, each part with the line that it stands on.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use toml::Spanned;

use super::error::{DefinitionError, Problem};

/// A state machine as it is written down. See the [module](super) for its keys.
///
/// Reading checks the form alone; whether the states and transitions make a machine is checked by [`Definition::compile`].
#[derive(Debug, Clone)]
pub struct Definition {
    pub(super) states: Vec<Located<String>>,
    pub(super) initial: Option<Located<String>>,
    pub(super) terminal: Vec<Located<String>>,
    pub(super) transitions: Vec<Located<Transition>>,
}

/// A part of a definition and its line, from 1.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) line: usize,
    pub(super) value: T,
}

/// What happens to a state at an event.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transition {
    pub(super) from: String,
    pub(super) event: String,
    pub(super) to: String,
    pub(super) guard: Option<String>,
    pub(super) action: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json<'a> {
    #[serde(borrow)]
    states: Vec<&'a RawValue>,
    initial: Option<&'a RawValue>,
    #[serde(default)]
    terminal: Vec<&'a RawValue>,
    #[serde(default)]
    transitions: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Toml {
    states: Vec<Spanned<String>>,
    initial: Option<Spanned<String>>,
    #[serde(default)]
    terminal: Vec<Spanned<String>>,
    #[serde(default)]
    transitions: Vec<Spanned<Transition>>,
}

impl Definition {
    /// Reads a definition from JSON.
    ///
    /// # Errors
    /// [`Problem::Syntax`].
    pub fn from_json(text: &str) -> Result<Self, DefinitionError> {
        let json: Json<'_> = serde_json::from_str(text).map_err(|error| of_json(&error, 1))?;
        let lines = Lines::of(text);
        Ok(Self {
            states: json.states.iter().map(|raw| lines.locate(raw)).collect::<Result<_, _>>()?,
            initial: json.initial.map(|raw| lines.locate(raw)).transpose()?,
            terminal: json.terminal.iter().map(|raw| lines.locate(raw)).collect::<Result<_, _>>()?,
            transitions: json.transitions.iter().map(|raw| lines.locate(raw)).collect::<Result<_, _>>()?,
        })
    }

    /// Reads a definition from TOML.
    ///
    /// # Errors
    /// [`Problem::Syntax`].
    pub fn from_toml(text: &str) -> Result<Self, DefinitionError> {
        let lines = Lines::of(text);
        let toml: Toml = toml::from_str(text).map_err(|error| {
            let line = lines.at(error.span().map_or(0, |span| span.start));
            DefinitionError::new(line, Problem::Syntax(error.message().to_owned()))
        })?;
        Ok(Self {
            states: toml.states.into_iter().map(|spanned| lines.of_span(spanned)).collect(),
            initial: toml.initial.map(|spanned| lines.of_span(spanned)),
            terminal: toml.terminal.into_iter().map(|spanned| lines.of_span(spanned)).collect(),
            transitions: toml.transitions.into_iter().map(|spanned| lines.of_span(spanned)).collect(),
        })
    }
}

/// `first_line` is the line on which the text that `error` speaks of begins.
fn of_json(error: &serde_json::Error, first_line: usize) -> DefinitionError {
    let message = error.to_string();
    // The place is told by our line; theirs counts from the beginning of a part.
    let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    DefinitionError::new(first_line + error.line().max(1) - 1, Problem::Syntax(what.to_owned()))
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    ends: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, ends: text.match_indices('\n').map(|(at, _)| at).collect() }
    }

    /// The line, from 1, of the byte at `offset`.
    fn at(&self, offset: usize) -> usize {
        self.ends.partition_point(|&end| end < offset) + 1
    }

    /// `raw` is a part of the text.
    fn locate<T: DeserializeOwned>(&self, raw: &RawValue) -> Result<Located<T>, DefinitionError> {
        let line = self.at(raw.get().as_ptr().addr() - self.text.as_ptr().addr());
        let value = serde_json::from_str(raw.get()).map_err(|error| of_json(&error, line))?;
        Ok(Located { line, value })
    }

    fn of_span<T>(&self, spanned: Spanned<T>) -> Located<T> {
        Located { line: self.at(spanned.span().start), value: spanned.into_inner() }
    }
}
