//! The workflows that can be run here.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use event_store::Timestamp;

use super::execution::Execution;
use super::function::{BoxFunction, Function};
use super::record::Started;
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

/// The workflows of a program, by type and version: what an engine runs
/// ([`EngineBuilder::workflows`](crate::EngineBuilder::workflows)), and what [`replay`](crate::replay) holds histories against. One function that
/// returns it serves both.
#[derive(Default)]
pub struct Registry {
    workflows: HashMap<&'static str, BTreeMap<u32, Arc<dyn AnyWorkflow>>>,
    services: Arc<Services>,
    twice: Option<(&'static str, u32)>,
    #[cfg(feature = "testkit")]
    pub(super) replays_twice: bool,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.workflows.keys()).finish()
    }
}

impl Registry {
    /// One without workflows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a workflow. Two of one type and version are an error where the registry is used.
    #[must_use]
    pub fn register<W: Workflow>(mut self) -> Self {
        self.add(W::TYPE, W::VERSION, Arc::new(Of::<W>(PhantomData)));
        self
    }

    /// Gives workflows something to work with: see [`EngineBuilder::service`](crate::EngineBuilder::service). A replay runs no step, but a function
    /// may ask for what its steps will use.
    #[must_use]
    pub fn service<T: Send + Sync + 'static>(mut self, service: Arc<T>) -> Self {
        self.add_service(service);
        self
    }

    fn add(&mut self, name: &'static str, version: u32, workflow: Arc<dyn AnyWorkflow>) {
        if self.workflows.entry(name).or_default().insert(version, workflow).is_some() {
            self.twice = Some((name, version));
        }
    }

    /// Adds what `other` has.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.twice = self.twice.or(other.twice);
        Arc::make_mut(&mut self.services).extend(&other.services);
        for (name, versions) in other.workflows {
            for (version, workflow) in versions {
                self.add(name, version, workflow);
            }
        }
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.twice {
            Some((workflow, version)) => Err(Error::RegisteredTwice { workflow: workflow.to_owned(), version }),
            None => Ok(()),
        }
    }

    pub(crate) fn add_service<T: Send + Sync + 'static>(&mut self, service: Arc<T>) {
        Arc::make_mut(&mut self.services).add(service);
    }

    pub(crate) fn get(&self, workflow: &str, version: u32) -> Option<&Arc<dyn AnyWorkflow>> {
        self.workflows.get(workflow)?.get(&version)
    }

    /// The function of a run that began so, not polled yet. `None` if there is no such workflow.
    pub(crate) fn function(&self, execution: &Arc<Execution>, started: &Started) -> Option<Function> {
        let workflow = self.get(&started.workflow, started.code_version)?;
        let ctx = Ctx::new(Arc::clone(execution), Arc::clone(&self.services));
        let future = workflow.function(ctx, started.input.clone(), started.start_at);
        #[cfg_attr(not(feature = "testkit"), expect(unused_mut, reason = "tests look over its shoulder"))]
        let mut function = Function::new(future, Arc::clone(execution));
        #[cfg(feature = "testkit")]
        if self.replays_twice {
            function.run_twice((workflow, &self.services), started);
        }
        Some(function)
    }
}
