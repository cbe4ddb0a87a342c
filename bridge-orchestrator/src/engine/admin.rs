//! What people ask about executions: which there are, what happened to one, and that one that is parked is tried again.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event_store::{EventStore, Read};
use futures_util::StreamExt as _;

use super::client::{Client, WorkflowState};
use super::core::Core;
use super::driver::Begin;
use super::execution::{Execution, Parked, Standing};
use super::handle::state_of;
use super::history::{HistoryRecord, execution_of, of_kinds, read_history};
use super::journal::{self, Broken, Journal};
use super::record::{Record, kind};
use crate::error::{Error, ErrorCode};
use crate::workflow::{ExecutionId, Failure};

/// Which executions [`Client::list`] returns. The default: all that this engine has in hand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    states: Vec<WorkflowState>,
    workflow: Option<String>,
    namespace: Option<String>,
    id_prefix: String,
    ended: usize,
}

impl Filter {
    /// All that this engine has in hand.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Dead letters: those that wait for a person, with the reason in [`ExecutionInfo::parked`].
    #[must_use]
    pub fn parked() -> Self {
        Self::all().state(WorkflowState::Parked)
    }

    /// Those of this state, or of one of several if it is called several times.
    #[must_use]
    pub fn state(mut self, state: WorkflowState) -> Self {
        self.states.push(state);
        self
    }

    /// Those of this type of workflow.
    #[must_use]
    pub fn workflow(mut self, workflow: impl Into<String>) -> Self {
        self.workflow = Some(workflow.into());
        self
    }

    /// Those of this namespace; `""` for those without one.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Those whose ids begin so.
    #[must_use]
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.id_prefix = prefix.into();
        self
    }

    /// So many of those that have ended and are kept as well, the latest first, behind the others.
    #[must_use]
    pub fn ended(mut self, limit: usize) -> Self {
        self.ended = limit;
        self
    }

    fn is_one(&self, info: &ExecutionInfo) -> bool {
        let is_wanted = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        (self.states.is_empty() || self.states.contains(&info.state))
            && is_wanted(&self.workflow, &info.workflow)
            && is_wanted(&self.namespace, &info.namespace)
            && info.id.as_str().starts_with(&self.id_prefix)
    }
}

/// An execution, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecutionInfo {
    /// Its id.
    pub id: ExecutionId,
    /// The type of its workflow; empty while its journal is being read.
    pub workflow: String,
    /// The version that it is run by; 0 while its journal is being read.
    pub version: u32,
    /// Whose it is; empty while its journal is being read, or if it is nobody's.
    pub namespace: String,
    /// Where it stands.
    pub state: WorkflowState,
    /// Why it waits for a person, if it does.
    pub parked: Option<Parked>,
}

impl ExecutionInfo {
    fn of(execution: &Execution) -> Self {
        let standing = execution.standing();
        let (workflow, version, namespace) = execution.about().unwrap_or_default();
        Self {
            id: execution.id().clone(),
            workflow: workflow.to_owned(),
            version,
            namespace: namespace.to_owned(),
            state: state_of(execution, &standing),
            parked: if let Standing::Parked(why) = standing { Some(why) } else { None },
        }
    }
}

impl<S: EventStore> Client<S> {
    /// The executions that `filter` lets through: first those that this engine has in hand, in no order, then those that have ended, if it asks for
    /// them.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Malformed`]: where ended ones are asked for.
    ///
    /// # Cost
    /// A look at each execution in hand; nothing is read. For those that have ended: a backwards read over all ends until the limit is reached, and the
    /// first record of each one whose id fits.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<ExecutionInfo>, Error> {
        let core = self.core();
        let in_hand = core.all();
        let mut found: Vec<_> = in_hand.iter().map(|execution| ExecutionInfo::of(execution)).collect();
        found.retain(|info| filter.is_one(info));
        if filter.ended == 0 {
            return Ok(found);
        }
        let ids: HashSet<_> = in_hand.iter().map(|execution| execution.id().clone()).collect();
        let mut left = filter.ended;
        let mut ends = pin!(core.store.read(of_kinds([kind::COMPLETED, kind::FAILED]).backwards()));
        while left > 0
            && let Some(end) = ends.next().await
        {
            let end = end?;
            let Some(id) = execution_of(&end).filter(|id| id.as_str().starts_with(&filter.id_prefix)) else { continue };
            let state = match Record::decode(&end) {
                Ok(Record::Completed { .. }) => WorkflowState::Completed,
                Ok(Record::Failed { failure }) if failure.code == ErrorCode::Cancelled => WorkflowState::Cancelled,
                _ => WorkflowState::Failed,
            };
            let mut first = pin!(core.store.read(Read::stream(id.stream()).limit(1)));
            // It may have been removed meanwhile.
            let Some(first) = first.next().await else { continue };
            let malformed = |reason: String| Error::Malformed { execution: id.to_string(), version: 0, reason };
            let first = Record::decode(&first?).map_err(|error| malformed(error.to_string()))?;
            let (Record::Started(started) | Record::ContinuedAsNew(started)) = first else {
                return Err(malformed("it does not begin with a start".to_owned()));
            };
            let info = ExecutionInfo {
                id,
                workflow: started.workflow,
                version: started.code_version,
                namespace: started.namespace,
                state,
                parked: None,
            };
            // One that was in hand when this began has ended since then.
            if ids.contains(&info.id) {
                found.retain(|other| other.id != info.id);
            }
            if filter.is_one(&info) {
                left -= 1;
                found.push(info);
            }
        }
        Ok(found)
    }

    /// What the journal of an execution says, from its latest run on; that of one that has ended is there for as long as
    /// [`EngineBuilder::retention`](crate::EngineBuilder::retention) says.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no journal, [`Error::Read`], [`Error::Malformed`].
    ///
    /// # Cost
    /// One read of the journal, all of which is in memory meanwhile.
    pub async fn history(&self, id: &ExecutionId) -> Result<Vec<HistoryRecord>, Error> {
        let journal = read_history(&self.core().store, id).await?;
        if journal.is_empty() {
            return Err(Error::NotFound(id.clone()));
        }
        Ok(journal.into_iter().map(|entry| entry.shown).collect())
    }

    /// Puts an execution that is parked back to work: it goes on where it stood, and has all its tries again. That is in its journal when this
    /// returns. Handles that it has wait for its end again. What it was parked for has to be mended first: it parks again otherwise.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it is not in this engine's hands, [`Error::NotParked`], [`Error::Elsewhere`] if another process owns it, [`Error::Malformed`] (it stays parked), [`Error::Read`] (it stays
    /// parked), [`Error::Append`], [`Error::ShutDown`].
    ///
    /// # Cancellation
    /// Once polled, it is done although the future is dropped.
    pub async fn retry(&self, id: &ExecutionId) -> Result<(), Error> {
        self.unpark(id, None).await
    }

    /// Terminates one that is parked.
    pub(super) async fn terminate_parked(&self, id: &ExecutionId) -> Result<(), Error> {
        self.unpark(id, Some(Failure::terminated())).await
    }

    /// Puts an execution that is parked back to work, or lets it fail.
    async fn unpark(&self, id: &ExecutionId, failure: Option<Failure>) -> Result<(), Error> {
        let core = self.core();
        if core.stopping.load(Ordering::Acquire) != 0 {
            return Err(Error::ShutDown);
        }
        let found = core.shard(id).get(id).cloned();
        let Some(execution) = found else { return Err(Error::NotFound(id.clone())) };
        let Some(why) = execution.unpark() else { return Err(Error::NotParked(id.clone())) };
        let core = Arc::clone(core);
        let work = async move {
            let record = match &failure {
                Some(failure) => Record::Failed { failure: failure.clone() },
                None => Record::Retried,
            };
            let standing = match mark(&core, &execution, record).await {
                Ok(None) if failure.is_some() => {
                    core.retain(execution.id());
                    core.let_go(&execution, Standing::Ended(Err(Failure::terminated())));
                    return Ok(());
                }
                Ok(None) => {
                    core.spawn(&execution, Begin::Resume);
                    return Ok(());
                }
                // Somebody else has written: it is that one's now.
                Ok(Some(standing)) => (standing, Error::NotParked(execution.id().clone())),
                Err(error) => (Standing::Parked(why), error),
            };
            core.let_go(&execution, standing.0);
            Err(standing.1)
        };
        self.core().runtime.spawn(work).await.unwrap_or(Err(Error::ShutDown))
    }
}

/// `Some` with where the execution stands if it is not ours.
async fn mark<S: EventStore>(core: &Core<S>, execution: &Execution, record: Record) -> Result<Option<Standing>, Error> {
    let stream = execution.id().stream();
    let Some(history) = journal::read(&core.store, &stream).await? else {
        return Err(Error::NotFound(execution.id().clone()));
    };
    if let Some(end) = history.end {
        return Ok(Some(Standing::Ended(end)));
    }
    if core.is_elsewhere(history.owner).await? {
        return Err(Error::Elsewhere(execution.id().clone()));
    }
    let mut journal = Journal::new(stream, Some(history.version));
    match journal.append(&core.store, &[(record, core.clock.now())], |_| ()).await {
        Ok(_) => Ok(None),
        Err(Broken::Fenced) => Ok(Some(Standing::Released)),
        Err(Broken::Refused(error)) => Err(Error::Append(error)),
    }
}
