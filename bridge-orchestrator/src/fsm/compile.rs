//! From a definition to a table, with every reason to refuse it.

use hashbrown::HashMap;

use super::bindings::Bindings;
use super::definition::{Definition, Located, Transition};
use super::error::{DefinitionError, Problem};
use super::machine::{Hook, Machine, StateId};
use super::names::Names;

/// Most states of a machine.
pub const MAX_STATES: usize = 4_096;
/// Most events of a machine.
pub const MAX_EVENTS: usize = 4_096;
/// Most states times events: the table takes 2 bytes for each.
pub const MAX_CELLS: usize = 1 << 20;
/// Longest name of a state or an event, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

impl Definition {
    /// Checks the definition and makes its table. For machines without guards and actions.
    ///
    /// Cost: linear in the states, the transitions and the cells of the table.
    ///
    /// # Errors
    /// [`DefinitionError`]: the first thing that is wrong, and its line.
    pub fn compile(&self) -> Result<Machine, DefinitionError> {
        self.compile_with(Bindings::new())
    }

    /// As [`Definition::compile`], with the caller's guards and actions. What is bound and not named is no error: one set of bindings
    /// may serve many definitions.
    ///
    /// # Errors
    /// As [`Definition::compile`]; also if a name is not bound.
    pub fn compile_with<C>(&self, bindings: Bindings<C>) -> Result<Machine<C>, DefinitionError> {
        let states = self.state_names()?;
        let initial = self.initial.as_ref().ok_or_else(|| DefinitionError::new(1, Problem::NoInitialState))?;
        let initial = known(&states, &initial.value, initial.line)?;
        let mut terminal = vec![false; states.len()];
        for name in &self.terminal {
            terminal[usize::from(known(&states, &name.value, name.line)?)] = true;
        }
        let events = self.event_names()?;
        if states.len() * events.len() > MAX_CELLS {
            let problem = Problem::TableTooLarge { states: states.len(), events: events.len() };
            return Err(DefinitionError::new(self.last_line(), problem));
        }
        let (guards, actions) = (numbers(&bindings.guards), numbers(&bindings.actions));

        let row_shift = events.len().next_power_of_two().trailing_zeros();
        let mut table = vec![None; (states.len() + 1) << row_shift];
        let mut hooks = Vec::new();
        let mut lines = vec![0; table.len()];
        let mut edges = vec![0_u64; (states.len() * states.len()).div_ceil(64)];
        for Located { line, value: transition } in &self.transitions {
            let fail = |problem| DefinitionError::new(*line, problem);
            let from = known(&states, &transition.from, *line)?;
            let to = known(&states, &transition.to, *line)?;
            if terminal[usize::from(from)] {
                return Err(fail(Problem::EdgeFromTerminal(transition.from.clone())));
            }
            let event = events.find(&transition.event).unwrap_or_else(|| unreachable!("all of them were added"));
            let cell = StateId::of(from).row() << row_shift | usize::from(event);
            if table[cell].is_some() {
                return Err(fail(Problem::DuplicateEdge {
                    state: transition.from.clone(),
                    event: transition.event.clone(),
                    first_line: lines[cell],
                }));
            }
            table[cell] = Some(StateId::of(to));
            lines[cell] = *line;
            let edge = usize::from(from) * states.len() + usize::from(to);
            edges[edge / 64] |= 1 << (edge % 64);
            if let Some(hook) = hook(transition, &guards, &actions).map_err(fail)? {
                hooks.resize(table.len(), Hook::NONE);
                hooks[cell] = hook;
            }
        }
        drop((guards, actions));
        self.check_reachable(&table, row_shift, initial)?;
        Ok(Machine {
            table: table.into_boxed_slice(),
            row_shift,
            hooks: hooks.into_boxed_slice(),
            edges: edges.into_boxed_slice(),
            terminal: terminal.into_boxed_slice(),
            guards: bindings.guards.into_iter().map(|(_, guard)| guard).collect(),
            actions: bindings.actions.into_iter().map(|(_, action)| action).collect(),
            initial: StateId::of(initial),
            states,
            events,
        })
    }

    fn state_names(&self) -> Result<Names, DefinitionError> {
        if self.states.is_empty() {
            return Err(DefinitionError::new(1, Problem::NoStates));
        }
        if let Some(excess) = self.states.get(MAX_STATES) {
            return Err(DefinitionError::new(excess.line, Problem::TooManyStates(self.states.len())));
        }
        let mut names = Names::default();
        for Located { line, value } in &self.states {
            check_name(value, *line)?;
            if let Some(first) = names.find(value) {
                let first_line = self.states[usize::from(first)].line;
                return Err(DefinitionError::new(*line, Problem::DuplicateState { name: value.clone(), first_line }));
            }
            names.add(value);
        }
        Ok(names)
    }

    fn event_names(&self) -> Result<Names, DefinitionError> {
        let mut names = Names::default();
        for Located { line, value } in &self.transitions {
            check_name(&value.event, *line)?;
            if names.len() == MAX_EVENTS && names.find(&value.event).is_none() {
                return Err(DefinitionError::new(*line, Problem::TooManyEvents));
            }
            names.add(&value.event);
        }
        Ok(names)
    }

    fn check_reachable(&self, table: &[Option<StateId>], row_shift: u32, initial: u16) -> Result<(), DefinitionError> {
        let mut reached = vec![false; self.states.len()];
        reached[usize::from(initial)] = true;
        let mut waiting = vec![StateId::of(initial)];
        while let Some(state) = waiting.pop() {
            for next in table[state.row() << row_shift..][..1 << row_shift].iter().flatten() {
                if !std::mem::replace(&mut reached[next.index()], true) {
                    waiting.push(*next);
                }
            }
        }
        match reached.iter().position(|reached| !reached) {
            None => Ok(()),
            Some(lost) => {
                let Located { line, value } = &self.states[lost];
                Err(DefinitionError::new(*line, Problem::UnreachableState(value.clone())))
            }
        }
    }

    fn last_line(&self) -> usize {
        self.transitions.last().map_or(1, |transition| transition.line)
    }
}

fn known(states: &Names, name: &str, line: usize) -> Result<u16, DefinitionError> {
    states.find(name).ok_or_else(|| DefinitionError::new(line, Problem::UnknownState(name.to_owned())))
}

fn check_name(name: &str, line: usize) -> Result<(), DefinitionError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(DefinitionError::new(line, Problem::BadName(name.to_owned())));
    }
    Ok(())
}

fn numbers<T>(bound: &[(String, T)]) -> HashMap<&str, u32, foldhash::fast::RandomState> {
    bound.iter().zip(0..).map(|((name, _), number)| (name.as_str(), number)).collect()
}

fn hook(
    transition: &Transition,
    guards: &HashMap<&str, u32, foldhash::fast::RandomState>,
    actions: &HashMap<&str, u32, foldhash::fast::RandomState>,
) -> Result<Option<Hook>, Problem> {
    let mut hook = Hook::NONE;
    if let Some(name) = &transition.guard {
        hook.guard = *guards.get(name.as_str()).ok_or_else(|| Problem::UnboundGuard(name.clone()))?;
    }
    if let Some(name) = &transition.action {
        hook.action = *actions.get(name.as_str()).ok_or_else(|| Problem::UnboundAction(name.clone()))?;
    }
    Ok((transition.guard.is_some() || transition.action.is_some()).then_some(hook))
}
