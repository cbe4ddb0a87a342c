//! Where a stamping workflow stands.

use serde::{Deserialize, Serialize};

use crate::fsm;

/// The original's four states. What leads where is said by [`fsm::workflow`] and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StampState {
    /// It has not begun, or its input is not looked at yet.
    Pending,
    /// Its steps run.
    Processing,
    /// It has a stamp.
    Completed,
    /// It has none.
    Failed,
}

/// A state does not lead to another. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no transition leads from {} to {}", .current.as_str(), .target.as_str())]
pub struct IllegalTransition {
    /// Where it stands.
    pub current: StampState,
    /// Where it was to go.
    pub target: StampState,
}

impl StampState {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Processing, Self::Completed, Self::Failed];

    /// The name that the machine has for it: `PENDING` and so on.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Processing => "PROCESSING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }

    /// The state of this name, whatever the case of its letters.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str().eq_ignore_ascii_case(name))
    }

    /// Goes to `target`, if the machine leads there.
    ///
    /// # Errors
    /// [`IllegalTransition`]. A state does not lead to itself, and nothing leads out of the last two.
    pub fn advance(self, target: Self) -> Result<Self, IllegalTransition> {
        let machine = fsm::workflow();
        let allows = machine.state(self.as_str()).zip(machine.state(target.as_str()));
        match allows.is_some_and(|(from, to)| machine.allows(from, to)) {
            true => Ok(target),
            false => Err(IllegalTransition { current: self, target }),
        }
    }
}
