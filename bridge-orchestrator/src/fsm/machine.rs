//! A compiled machine.

use std::fmt;
use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::bindings::{Action, Guard};
use super::names::Names;

/// A state of a machine, and all that an instance has to keep: 2 bytes, as is `Option<StateId>`.
///
/// It is a number in the order of the definition; with another machine than its own it names another state, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(NonZeroU16);

impl StateId {
    /// `number` is below the limit of states.
    pub(super) fn of(number: u16) -> Self {
        Self(NonZeroU16::MIN.saturating_add(number))
    }

    /// Its row of the table, in which row 0 is never read.
    #[inline]
    pub(super) fn row(self) -> usize {
        usize::from(self.0.get())
    }

    /// Its place in the definition's list of states, from 0.
    #[must_use]
    #[inline]
    pub fn index(self) -> usize {
        self.row() - 1
    }
}

/// An event of a machine. It is a number in the order in which transitions first name events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u16);

impl EventId {
    /// Its place among the events, from 0.
    #[must_use]
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A guard and an action of a transition, by their places among those bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    pub(super) guard: u32,
    pub(super) action: u32,
}

impl Hook {
    const ABSENT: u32 = u32::MAX;
    pub(super) const NONE: Self = Self { guard: Self::ABSENT, action: Self::ABSENT };
}

/// Why [`Machine::fire`] did not change a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The state has no transition at this event. Nothing was called.
    #[error("there is no transition")]
    NoTransition,
    /// The guard said no. The action was not called.
    #[error("the guard said no")]
    Guard,
    /// The guard panicked. The action was not called.
    #[error("the guard panicked")]
    GuardPanicked,
    /// The action panicked. What it did until then is done; the state is what it was.
    #[error("the action panicked")]
    ActionPanicked,
}

/// A compiled machine: a table of next states, shared by any number of instances.
///
/// # Cost
/// 2 bytes for each state and event, one bit for each pair of states, 8 bytes for each state and event where there are guards or actions;
/// the events count as the next power of two.
pub struct Machine<C = ()> {
    pub(super) table: Box<[Option<StateId>]>,
    /// A row has two to this power of cells: a shift is done sooner than a multiplication, for which the load would wait.
    pub(super) row_shift: u32,
    /// As long as the table, or empty where no transition has one.
    pub(super) hooks: Box<[Hook]>,
    pub(super) edges: Box<[u64]>,
    pub(super) terminal: Box<[bool]>,
    pub(super) guards: Box<[Guard<C>]>,
    pub(super) actions: Box<[Action<C>]>,
    pub(super) initial: StateId,
    pub(super) states: Names,
    pub(super) events: Names,
}

impl<C> Machine<C> {
    /// Where `event` leads from `state`; `None` if there is no transition. Guards are not asked, actions not called: see
    /// [`Machine::fire`].
    ///
    /// Cost: one load.
    #[must_use]
    #[inline]
    pub fn next(&self, state: StateId, event: EventId) -> Option<StateId> {
        self.cell(state, event).and_then(|cell| self.table[cell])
    }

    /// Takes the transition of `state` at `event`: asks its guard, calls its action with `context`, changes `state`. Returns where it led.
    ///
    /// # Errors
    /// [`Refused`]; `state` is what it was. A panic of a guard or an action ends here.
    pub fn fire(&self, state: &mut StateId, event: EventId, context: &mut C) -> Result<StateId, Refused> {
        let cell = self.cell(*state, event).ok_or(Refused::NoTransition)?;
        let next = self.table[cell].ok_or(Refused::NoTransition)?;
        if let Some(hook) = self.hooks.get(cell) {
            if let Some(guard) = self.guards.get(hook.guard as usize) {
                let allowed = catch_unwind(AssertUnwindSafe(|| guard(context)));
                if !allowed.map_err(|_| Refused::GuardPanicked)? {
                    return Err(Refused::Guard);
                }
            }
            if let Some(action) = self.actions.get(hook.action as usize) {
                catch_unwind(AssertUnwindSafe(|| action(context))).map_err(|_| Refused::ActionPanicked)?;
            }
        }
        *state = next;
        Ok(next)
    }

    /// Whether some event leads from `from` to `to`. A state leads to itself only where a transition says so.
    #[must_use]
    pub fn allows(&self, from: StateId, to: StateId) -> bool {
        let states = self.states.len();
        if from.index() >= states || to.index() >= states {
            return false;
        }
        let edge = from.index() * states + to.index();
        self.edges[edge / 64] >> (edge % 64) & 1 == 1
    }

    /// The state that an instance begins in.
    #[must_use]
    pub fn initial(&self) -> StateId {
        self.initial
    }

    /// Whether nothing leads out of `state` by its definition.
    #[must_use]
    pub fn is_terminal(&self, state: StateId) -> bool {
        self.terminal.get(state.index()).copied().unwrap_or(false)
    }

    /// The state of this name, whatever the case of its letters.
    ///
    /// Cost: a hash and a comparison, no allocation.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<StateId> {
        self.states.find(name).map(StateId::of)
    }

    /// The event of this name, whatever the case of its letters.
    ///
    /// Cost: a hash and a comparison, no allocation.
    #[must_use]
    pub fn event(&self, name: &str) -> Option<EventId> {
        self.events.find(name).map(EventId)
    }

    /// The name of a state, as its definition writes it.
    ///
    /// # Panics
    /// If the state is one of a larger machine.
    #[must_use]
    pub fn state_name(&self, state: StateId) -> &str {
        self.states.get(state.0.get() - 1)
    }

    /// The name of an event, as its definition first writes it.
    ///
    /// # Panics
    /// If the event is one of a larger machine.
    #[must_use]
    pub fn event_name(&self, event: EventId) -> &str {
        self.events.get(event.0)
    }

    /// All states, in the order of the definition.
    pub fn states(&self) -> impl ExactSizeIterator<Item = StateId> + use<C> {
        (0..self.states.len() as u16).map(StateId::of)
    }

    /// All events, in the order in which transitions first name them.
    pub fn events(&self) -> impl ExactSizeIterator<Item = EventId> + use<C> {
        (0..self.events.len() as u16).map(EventId)
    }

    /// `None` for an event of a larger machine, which would be the cell of another state, and for a state of one.
    #[inline]
    fn cell(&self, state: StateId, event: EventId) -> Option<usize> {
        let cell = state.row() << self.row_shift | event.index();
        (event.index() < self.events.len() && cell < self.table.len()).then_some(cell)
    }
}

impl<C> fmt::Debug for Machine<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |state: &StateId| self.state_name(*state);
        f.debug_struct("Machine")
            .field("states", &self.states().map(|state| name(&state).to_owned()).collect::<Vec<_>>())
            .field("events", &self.events().map(|event| self.event_name(event).to_owned()).collect::<Vec<_>>())
            .field("initial", &name(&self.initial))
            .finish_non_exhaustive()
    }
}
