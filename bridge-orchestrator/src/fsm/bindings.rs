//! The caller's code behind the names of guards and actions.

use std::fmt;

pub(super) type Guard<C> = Box<dyn Fn(&C) -> bool + Send + Sync>;
pub(super) type Action<C> = Box<dyn Fn(&mut C) + Send + Sync>;

/// Guards and actions by name, for [`Definition::compile_with`](super::Definition::compile_with). `C` is what they look at and change.
///
/// ```
/// use bridge_orchestrator::fsm::Bindings;
///
/// struct Order { paid: bool, shipped: u32 }
///
/// let bindings = Bindings::new()
///     .guard("is_paid", |order: &Order| order.paid)
///     .action("count", |order: &mut Order| order.shipped += 1);
/// ```
pub struct Bindings<C> {
    pub(super) guards: Vec<(String, Guard<C>)>,
    pub(super) actions: Vec<(String, Action<C>)>,
}

impl<C> Bindings<C> {
    /// No guards and no actions.
    #[must_use]
    pub fn new() -> Self {
        Self { guards: Vec::new(), actions: Vec::new() }
    }

    /// Binds a guard: whether a transition may be taken. The last one of a name counts.
    #[must_use]
    pub fn guard(mut self, name: impl Into<String>, guard: impl Fn(&C) -> bool + Send + Sync + 'static) -> Self {
        self.guards.push((name.into(), Box::new(guard)));
        self
    }

    /// Binds an action: what is done when a transition is taken. The last one of a name counts.
    #[must_use]
    pub fn action(mut self, name: impl Into<String>, action: impl Fn(&mut C) + Send + Sync + 'static) -> Self {
        self.actions.push((name.into(), Box::new(action)));
        self
    }
}

impl<C> Default for Bindings<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> fmt::Debug for Bindings<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bindings")
            .field("guards", &self.guards.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("actions", &self.actions.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish()
    }
}
