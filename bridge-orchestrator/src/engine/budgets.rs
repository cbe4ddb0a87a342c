//! How often steps may be tried again, over all executions of an engine: a service that is down is not asked by thousands of them at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::error::Error;
use crate::route::RetryBudget;

/// Names that have budgets of their own, at most; those that come later share one.
const MAX_NAMES: usize = 4_096;

type Names = HashMap<&'static str, Arc<RetryBudget>, foldhash::fast::FixedState>;

/// A budget for each name of a step. Steps look theirs up without a lock; a name that is new takes one.
pub(super) struct Budgets {
    share: f64,
    per_second: f64,
    names: ArcSwap<Names>,
    adding: Mutex<()>,
    of_others: RetryBudget,
}

impl std::fmt::Debug for Budgets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { share, per_second, .. } = self;
        f.debug_struct("Budgets").field("share", share).field("per_second", per_second).finish_non_exhaustive()
    }
}

impl Budgets {
    /// 20 % of the calls and 10 a second, as [`RetryBudget`] has it.
    pub(super) const DEFAULT: (f64, f64) = (0.2, 10.0);

    pub(super) fn new((share, per_second): (f64, f64)) -> Result<Self, Error> {
        let of_others = RetryBudget::new(share, per_second).map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(Self { share, per_second, names: ArcSwap::default(), adding: Mutex::default(), of_others })
    }

    /// A step is run.
    pub(super) fn call(&self, name: &'static str) {
        self.with(name, RetryBudget::call);
    }

    /// Whether it may be run again now.
    pub(super) fn try_retry(&self, name: &'static str, now: Instant) -> bool {
        self.with(name, |budget| budget.try_retry(now))
    }

    fn with<T>(&self, name: &'static str, f: impl Fn(&RetryBudget) -> T) -> T {
        if let Some(budget) = self.names.load().get(name) {
            return f(budget);
        }
        f(self.add(name).as_deref().unwrap_or(&self.of_others))
    }

    /// `None` if there are too many names.
    fn add(&self, name: &'static str) -> Option<Arc<RetryBudget>> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.names.load();
        if let Some(found) = names.get(name) {
            return Some(Arc::clone(found));
        }
        if names.len() >= MAX_NAMES {
            return None;
        }
        let budget = Arc::new(RetryBudget::new(self.share, self.per_second).expect("it was tried when this was made"));
        let mut more = Names::clone(&names);
        more.insert(name, Arc::clone(&budget));
        self.names.store(Arc::new(more));
        Some(budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_budget_until_there_are_too_many() {
        let budgets = Budgets::new((0.0, 0.0)).expect("in range");
        let spend = |name| (0..100).filter(|_| budgets.try_retry(name, Instant::now())).count();
        assert_eq!((spend("a"), spend("a"), spend("b")), (10, 0, 10), "the least that a bucket holds, once each");
        for n in 2..MAX_NAMES {
            budgets.call(Box::leak(format!("name {n}").into_boxed_str()));
        }
        assert_eq!((spend("late"), spend("later"), spend("name 2")), (10, 0, 10), "the last ones share one");
        assert_eq!(budgets.names.load().len(), MAX_NAMES);
        assert!(Budgets::new((2.0, 0.0)).is_err());
    }
}
