//! Why a definition is refused, and where.

/// A definition is refused. Nothing was compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct DefinitionError {
    line: usize,
    problem: Problem,
}

impl DefinitionError {
    pub(super) fn new(line: usize, problem: Problem) -> Self {
        Self { line, problem }
    }

    /// The line of the text, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// What is wrong there.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

/// What is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The text is not JSON or TOML, or has other keys or types than a definition.
    #[error("{0}")]
    Syntax(String),
    /// There are no states.
    #[error("a machine needs at least one state")]
    NoStates,
    /// No state is named as the initial one.
    #[error("no initial state")]
    NoInitialState,
    /// A name is empty, longer than [`MAX_NAME_BYTES`](super::MAX_NAME_BYTES), or has control characters.
    #[error("{0:?} is not a name: 1 to {max} bytes without control characters are", max = super::MAX_NAME_BYTES)]
    BadName(String),
    /// A state is listed twice; case makes no difference.
    #[error("the state {name:?} stands on line {first_line} already")]
    DuplicateState {
        /// As it stands here.
        name: String,
        /// Where it was first.
        first_line: usize,
    },
    /// A name that `states` does not list.
    #[error("there is no state {0:?}")]
    UnknownState(String),
    /// A state that no path from the initial one leads to.
    #[error("nothing leads to the state {0:?}")]
    UnreachableState(String),
    /// There is a transition from this state at this event already.
    #[error("line {first_line} says already what happens to {state:?} at {event:?}")]
    DuplicateEdge {
        /// Where the transition begins.
        state: String,
        /// At what.
        event: String,
        /// The transition that came first.
        first_line: usize,
    },
    /// A transition begins in a terminal state.
    #[error("nothing leads out of {0:?}: it is terminal")]
    EdgeFromTerminal(String),
    /// More states than [`MAX_STATES`](super::MAX_STATES).
    #[error("{0} states are more than {max}", max = super::MAX_STATES)]
    TooManyStates(usize),
    /// More events than [`MAX_EVENTS`](super::MAX_EVENTS).
    #[error("more than {max} events", max = super::MAX_EVENTS)]
    TooManyEvents,
    /// States times events are more than [`MAX_CELLS`](super::MAX_CELLS).
    #[error("{states} states and {events} events make more than {max} cells", max = super::MAX_CELLS)]
    TableTooLarge {
        /// How many states.
        states: usize,
        /// How many events.
        events: usize,
    },
    /// A guard that the bindings do not have.
    #[error("no guard {0:?} is bound")]
    UnboundGuard(String),
    /// An action that the bindings do not have.
    #[error("no action {0:?} is bound")]
    UnboundAction(String),
}
