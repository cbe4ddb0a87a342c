//! The workflows that an engine can run.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use event_store::Timestamp;

use super::execution::Execution;
use super::function::BoxFunction;
use super::services::Services;
use crate::error::Error;
use crate::workflow::{Ctx, Workflow, encode, value};

/// A workflow whose types are forgotten.
pub(crate) trait AnyWorkflow: Send + Sync {
    /// The function, which has not begun.
    fn function(&self, ctx: Ctx, input: Bytes, start_at: Option<Timestamp>) -> BoxFunction;
}

struct Of<W>(PhantomData<fn() -> W>);

impl<W: Workflow> AnyWorkflow for Of<W> {
    fn function(&self, ctx: Ctx, input: Bytes, start_at: Option<Timestamp>) -> BoxFunction {
        Box::pin(async move {
            if let Some(start_at) = start_at {
                ctx.sleep_until(start_at).await?;
            }
            let input = value(&input, || "the input".to_owned())?;
            let output = W::run(ctx, input).await?;
            encode(&output, || "the output".to_owned())
        })
    }
}

/// A workflow that is registered, with what its engine has for it.
pub(crate) struct Registered<'a> {
    workflow: &'a dyn AnyWorkflow,
    services: &'a Arc<Services>,
}

impl Registered<'_> {
    /// The function, which has not begun.
    pub(crate) fn function(
        &self,
        execution: &Arc<Execution>,
        input: Bytes,
        start_at: Option<Timestamp>,
    ) -> BoxFunction {
        let ctx = Ctx::new(Arc::clone(execution), Arc::clone(self.services));
        self.workflow.function(ctx, input, start_at)
    }
}

#[derive(Default)]
pub(crate) struct Registry {
    workflows: HashMap<&'static str, BTreeMap<u32, Box<dyn AnyWorkflow>>>,
    services: Arc<Services>,
    twice: Option<(&'static str, u32)>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.workflows.keys()).finish()
    }
}

impl Registry {
    pub(crate) fn add<W: Workflow>(&mut self) {
        let versions = self.workflows.entry(W::TYPE).or_default();
        if versions.insert(W::VERSION, Box::new(Of::<W>(PhantomData))).is_some() {
            self.twice = Some((W::TYPE, W::VERSION));
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.twice {
            Some((workflow, version)) => Err(Error::RegisteredTwice { workflow: workflow.to_owned(), version }),
            None => Ok(()),
        }
    }

    pub(crate) fn add_service<T: Send + Sync + 'static>(&mut self, service: Arc<T>) {
        Arc::get_mut(&mut self.services).expect("no function runs before the engine starts").add(service);
    }

    pub(crate) fn get(&self, workflow: &str, version: u32) -> Option<Registered<'_>> {
        let workflow = &**self.workflows.get(workflow)?.get(&version)?;
        Some(Registered { workflow, services: &self.services })
    }
}
