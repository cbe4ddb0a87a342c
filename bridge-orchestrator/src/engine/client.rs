//! What is asked of an engine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event_store::EventStore;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::core::{Core, seed};
use super::execution::{Mail, Standing};
use super::handle::Handle;
use super::record::{Cause, Started};
use super::steps::after;
use crate::error::Error;
use crate::workflow::{ExecutionId, MAX_VALUE_BYTES, Workflow};

/// What to do if there is an execution of the id already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Conflict {
    /// [`Error::AlreadyExists`].
    #[default]
    Reject,
    /// The handle is of the one that exists, whatever its input was and wherever it stands.
    UseExisting,
    /// The one that exists is terminated and removed.
    Terminate,
}

/// How an execution is started. The default: rejected if there is one, at once, without a deadline, in no namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartOptions {
    conflict: Conflict,
    delay: Option<Duration>,
    deadline: Option<Duration>,
    namespace: String,
}

impl StartOptions {
    /// What to do if there is one of the id.
    #[must_use]
    pub fn conflict(mut self, conflict: Conflict) -> Self {
        self.conflict = conflict;
        self
    }

    /// The function begins so much later.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// So much after the start the execution is cancelled, and fails with [`ErrorCode::Timeout`](crate::ErrorCode::Timeout) unless its function makes something else of
    /// it.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Whose it is: at most 512 bytes.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }
}

/// Where an execution stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkflowState {
    /// Its start is on its way to the journal.
    Pending,
    /// It runs, or waits for something.
    Processing,
    /// It undoes what it has done.
    Compensating,
    /// It waits for a person.
    Parked,
    /// It has an output.
    Completed,
    /// It has failed.
    Failed,
    /// It was cancelled or terminated.
    Cancelled,
}

impl WorkflowState {
    /// The one of the original's four states that it comes under: `PENDING`, `PROCESSING`, `COMPLETED` or `FAILED`.
    #[must_use]
    pub fn legacy(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Processing | Self::Compensating | Self::Parked => "PROCESSING",
            Self::Completed => "COMPLETED",
            Self::Failed | Self::Cancelled => "FAILED",
        }
    }
}

/// Starts executions and speaks to them. A clone is the same.
#[derive(Debug)]
pub struct Client<S> {
    core: Arc<Core<S>>,
}

impl<S> Clone for Client<S> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

impl<S: EventStore> Client<S> {
    pub(super) fn of(core: &Arc<Core<S>>) -> Self {
        Self { core: Arc::clone(core) }
    }

    pub(super) fn core(&self) -> &Arc<Core<S>> {
        &self.core
    }

    /// Starts an execution of `W`. It is in the journal when this returns.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Unregistered`], [`Error::Codec`], [`Error::PayloadTooLarge`], [`Error::Append`], [`Error::ShutDown`];
    /// with [`Conflict::Terminate`] also [`Error::Elsewhere`], if another process has not ended the one that exists within three leases.
    ///
    /// # Cancellation
    /// Once polled, it may start although the future is dropped.
    pub async fn start<W: Workflow>(
        &self,
        id: ExecutionId,
        input: &W::Input,
        options: StartOptions,
    ) -> Result<Handle<W>, Error> {
        let core = &self.core;
        if core.registry.get(W::TYPE, W::VERSION).is_none() {
            return Err(Error::Unregistered { workflow: W::TYPE.to_owned(), version: W::VERSION });
        }
        if options.namespace.len() > event_store::MAX_NAME_BYTES {
            return Err(Error::Invalid(format!("a namespace of {} bytes", options.namespace.len())));
        }
        let now = core.clock.now();
        let started = Started {
            workflow: W::TYPE.to_owned(),
            code_version: W::VERSION,
            namespace: options.namespace,
            parent: None,
            start_at: options.delay.map(|delay| after(now, delay)),
            deadline: options.deadline.map(|deadline| after(now, deadline)),
            seed: seed(),
            owner: Uuid::nil(),
            inbox: 0,
            since: 0,
            carried: 0,
            taken_signals: Vec::new(),
            input: encode("the input", input)?,
        };
        let execution = match (core.start(&id, started.clone()).await, options.conflict) {
            (Ok(execution), _) => execution,
            (Err(Error::AlreadyExists(_)), Conflict::UseExisting) => core.attach_settled(&id).await,
            (Err(Error::AlreadyExists(_)), Conflict::Terminate) => {
                self.end(&id).await?;
                core.remove(&id).await?;
                core.start(&id, started).await?
            }
            (Err(error), _) => return Err(error),
        };
        Ok(Handle::new(execution))
    }

    /// A handle of an execution that exists; one that does not exist is told by the handle.
    #[must_use]
    pub fn handle<W: Workflow>(&self, id: &ExecutionId) -> Handle<W> {
        Handle::new(self.core.attach(id))
    }

    /// Tells the execution something. It is in the journal when this returns, or, if another process has the execution in hand, in the inbox from which
    /// that one, or whoever takes over from it, copies it into the journal. The same `dedup` again, within the last 1,024 signals, is told once;
    /// without one each call is a signal of its own.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Parked`], [`Error::Busy`], [`Error::Codec`], [`Error::PayloadTooLarge`], [`Error::ShutDown`] (it may have been told).
    pub async fn signal<T: Serialize + ?Sized>(
        &self,
        id: &ExecutionId,
        name: &str,
        payload: &T,
        dedup: Option<&str>,
    ) -> Result<(), Error> {
        if name.len() > event_store::MAX_NAME_BYTES {
            return Err(Error::Invalid(format!("a signal's name of {} bytes", name.len())));
        }
        let payload = encode("the signal", payload)?;
        let signal = dedup.map_or_else(Uuid::now_v7, |dedup| {
            Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{name}\u{1f}{dedup}").as_bytes())
        });
        let name = name.to_owned();
        self.tell(id, |done| Mail::Signal { name, id: signal.as_u128(), payload, done }).await
    }

    /// Asks the execution to end: see [`Ctx::cancelled`](crate::Ctx::cancelled). The request is in the journal when this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::ShutDown`].
    pub async fn cancel(&self, id: &ExecutionId) -> Result<(), Error> {
        self.tell(id, |done| Mail::Cancel { cause: Cause::Asked, told: Vec::new(), done: Some(done) }).await
    }

    /// Ends the execution where it stands, also one that is parked: its function is dropped, nothing is undone, children go on. If another process has
    /// it in hand, that one has been told when this returns; one that is parked there is not reached.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::ShutDown`].
    pub async fn terminate(&self, id: &ExecutionId) -> Result<(), Error> {
        match self.tell(id, |done| Mail::Terminate { done }).await {
            Err(Error::Parked(_)) => self.terminate_parked(id).await,
            told => told,
        }
    }

    /// What the execution has last shown as `name`; `None` if nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Elsewhere`] if another process has it in hand, which can tell; [`Error::Codec`] if it is not a `T`.
    pub async fn query<T: DeserializeOwned>(&self, id: &ExecutionId, name: &str) -> Result<Option<T>, Error> {
        let execution = self.core.attach(id);
        execution
            .when(|standing| match standing {
                Standing::Starting => None,
                Standing::Refused(error) => Some(Err(error.clone())),
                Standing::Elsewhere => Some(Err(Error::Elsewhere(id.clone()))),
                _ => Some(Ok(())),
            })
            .await?;
        let shown = execution.slots().exposed(name);
        shown
            .map(|json| serde_json::from_slice(&json))
            .transpose()
            .map_err(|error| Error::Codec { what: "what is shown", reason: error.to_string() })
    }

    /// Terminates an execution, and waits until it has ended, wherever it is.
    async fn end(&self, id: &ExecutionId) -> Result<(), Error> {
        match self.terminate(id).await {
            Ok(()) => {}
            Err(Error::NotFound(_)) => {
                let history = super::journal::read(&self.core.store, &id.stream()).await?;
                if history.is_none_or(|history| history.end.is_some()) {
                    return Ok(());
                }
                return Err(Error::Busy("the execution changes hands"));
            }
            Err(error) => return Err(error),
        }
        let execution = self.core.attach(id);
        let ended = execution.when(|standing| match standing {
            Standing::Starting | Standing::Running | Standing::Elsewhere | Standing::Parked(_) => None,
            Standing::Ended(_) | Standing::Refused(_) => Some(Ok(())),
            Standing::Released => Some(Err(Error::ShutDown)),
        });
        // One that is parked elsewhere is not reached.
        let longest = self.core.shared.as_ref().map_or(Duration::MAX, |shared| shared.duration * 3);
        match tokio::time::timeout(longest, ended).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::Elsewhere(id.clone())),
        }
    }

    async fn tell(
        &self,
        id: &ExecutionId,
        mail: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Mail,
    ) -> Result<(), Error> {
        let execution = self.core.attach_settled(id).await;
        let (done, answer) = oneshot::channel();
        let told = match execution.send(mail(done)) {
            Ok(()) => answer.await.unwrap_or(Err(Error::ShutDown)),
            Err(error) => Err(error),
        };
        // What is let go is not gone.
        told.map_err(|error| if self.core.is_stopping() { Error::ShutDown } else { error })
    }
}

fn encode<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<Bytes, Error> {
    let json = serde_json::to_vec(value).map_err(|error| Error::Codec { what, reason: error.to_string() })?;
    if json.len() > MAX_VALUE_BYTES {
        return Err(Error::PayloadTooLarge { bytes: json.len(), limit: MAX_VALUE_BYTES });
    }
    Ok(json.into())
}
