//! Commands: one handler, one reply.

use std::any::{Any, TypeId};
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use crossbeam_queue::ArrayQueue;
use tokio::sync::oneshot;
use tokio_util::sync::ReusableBoxFuture;

use crate::bus::Bus;
use crate::by_type::ByType;
use crate::error::{Cause, Failure, HandlerError};
use crate::message::Command;
use crate::metadata::{Current, Running, inherited};
use crate::subscription::Subscription;

/// Handles a command. Every `Fn(C) -> impl Future<Output = Result<C::Reply, E>> + Send` whose error is a [`HandlerError`] or becomes
/// one is a handler.
pub trait CommandHandler<C: Command>: Send + Sync + 'static {
    /// Handles a command.
    fn handle(&self, command: C) -> impl Future<Output = Result<C::Reply, HandlerError>> + Send + 'static;
}

impl<C, F, Fut, E> CommandHandler<C> for F
where
    C: Command,
    F: Fn(C) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<C::Reply, E>> + Send + 'static,
    E: Into<HandlerError>,
{
    fn handle(&self, command: C) -> impl Future<Output = Result<C::Reply, HandlerError>> + Send + 'static {
        let handling = self(command);
        async move { handling.await.map_err(Into::into) }
    }
}

/// Why a command was not answered.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SendError<C> {
    /// Nobody handles this command. It is given back.
    #[error("nobody handles this command")]
    NoHandler(C),
    /// The handler is at work on as many commands as it takes at once. The command is given back.
    #[error("the handler takes no more commands at once")]
    Rejected(C),
    /// The bus is shut down. The command is given back.
    #[error("the bus is shut down")]
    Closed(C),
    /// The deadline came first: the handler was dropped at an await. What it had done by then, it has done.
    #[error("the handler did not answer in time")]
    Timeout,
    /// The handler failed, or panicked.
    #[error("{0}")]
    Handler(Failure),
}

impl<C> SendError<C> {
    /// The command, if the handler did not get it.
    pub fn into_command(self) -> Option<C> {
        match self {
            Self::NoHandler(command) | Self::Rejected(command) | Self::Closed(command) => Some(command),
            Self::Timeout | Self::Handler(_) => None,
        }
    }
}

impl<C> fmt::Debug for SendError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHandler(_) => f.write_str("NoHandler(..)"),
            Self::Rejected(_) => f.write_str("Rejected(..)"),
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::Timeout => f.write_str("Timeout"),
            Self::Handler(failure) => f.debug_tuple("Handler").field(failure).finish(),
        }
    }
}

/// Why a command handler was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The command has a handler, by this name.
    #[error("the command is handled by `{0}`")]
    AlreadyHandled(Arc<str>),
    /// The handler would take no command at all.
    #[error("a handler takes at least one command at once")]
    AtMost,
    /// The bus is shut down.
    #[error("the bus is shut down")]
    Closed,
}

/// The command handlers of a bus.
pub(crate) struct Commands(ByType<dyn AnyPost>);

trait AnyPost: Any + Send + Sync {
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn as_any_ref(&self) -> &dyn Any;
    fn vacate(&self);
}

/// Where the handler of one command type stands, or none.
struct Post<C: Command>(ArcSwapOption<Holder<C>>);

impl<C: Command> AnyPost for Post<C> {
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn as_any_ref(&self) -> &dyn Any {
        self
    }

    fn vacate(&self) {
        self.0.store(None);
    }
}

struct Holder<C: Command> {
    name: Arc<str>,
    at_most: usize,
    at_work: AtomicUsize,
    handler: Box<dyn Answer<C>>,
    /// Memory of finished calls.
    kept: ArrayQueue<Answering<C>>,
    _gone: oneshot::Sender<()>,
}

type Answering<C> = ReusableBoxFuture<'static, Result<<C as Command>::Reply, HandlerError>>;

/// Calls whose memory is kept for the next.
const KEPT: usize = 64;

/// A [`CommandHandler`] whose type is forgotten.
trait Answer<C: Command>: Send + Sync {
    fn start(&self, memory: Option<Answering<C>>, command: Option<C>) -> Answering<C>;
}

struct Answerer<H>(Arc<H>);

impl<C: Command, H: CommandHandler<C>> Answer<C> for Answerer<H> {
    fn start(&self, memory: Option<Answering<C>>, command: Option<C>) -> Answering<C> {
        // One type for both, so that the memory fits.
        let call = command.map(|command| (Arc::clone(&self.0), command));
        let future = async move {
            match call {
                Some((handler, command)) => handler.handle(command).await,
                None => std::future::pending().await,
            }
        };
        match memory {
            Some(mut memory) => {
                memory.set(future);
                memory
            }
            None => ReusableBoxFuture::new(future),
        }
    }
}

impl Commands {
    pub(crate) fn new() -> Self {
        Self(ByType::new())
    }

    fn post<C: Command>(&self) -> Arc<Post<C>> {
        let post =
            self.0.get_or_insert(TypeId::of::<C>(), || Arc::new(Post::<C>(ArcSwapOption::empty())) as Arc<dyn AnyPost>);
        post.as_any().downcast().expect("the table holds for each type its own post")
    }

    fn holder<C: Command>(&self) -> Option<Arc<Holder<C>>> {
        let load = |post: &Arc<dyn AnyPost>| post.as_any_ref().downcast_ref::<Post<C>>().and_then(|p| p.0.load_full());
        self.0.with(TypeId::of::<C>(), load).flatten()
    }

    pub(crate) fn clear(&self) {
        self.0.values().iter().for_each(|post| post.vacate());
    }
}

/// A command handler with options. Made by [`Bus::command`].
#[derive(Debug)]
pub struct CommandBuilder<'a, C> {
    bus: &'a Bus,
    name: Option<Arc<str>>,
    at_most: usize,
    command: std::marker::PhantomData<fn(C)>,
}

impl<C: Command> CommandBuilder<'_, C> {
    /// A name for errors; by default the handler's type.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// How many commands are handled at once, 1 and up; by default any number. What comes beyond is given back as
    /// [`SendError::Rejected`].
    #[must_use]
    pub fn at_most(self, commands: usize) -> Self {
        Self { at_most: commands, ..self }
    }

    /// Makes the handler the one that handles these commands, until the subscription is dropped.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn run<H: CommandHandler<C>>(self, handler: H) -> Result<Subscription, HandleError> {
        if self.bus.is_shut_down() {
            return Err(HandleError::Closed);
        }
        if self.at_most == 0 {
            return Err(HandleError::AtMost);
        }
        let name = self.name.unwrap_or_else(|| std::any::type_name::<H>().into());
        let (sender, gone) = oneshot::channel();
        let holder = Arc::new(Holder {
            name: Arc::clone(&name),
            at_most: self.at_most,
            at_work: AtomicUsize::new(0),
            handler: Box::new(Answerer(Arc::new(handler))),
            kept: ArrayQueue::new(KEPT),
            _gone: sender,
        });
        let post = self.bus.commands().post::<C>();
        let before = post.0.compare_and_swap(&None::<Arc<Holder<C>>>, Some(Arc::clone(&holder)));
        if let Some(other) = &*before {
            return Err(HandleError::AlreadyHandled(Arc::clone(&other.name)));
        }
        let (post, holder): (Weak<Post<C>>, _) = (Arc::downgrade(&post), Arc::downgrade(&holder));
        let remove = move || {
            if let (Some(post), Some(holder)) = (post.upgrade(), holder.upgrade()) {
                // Unless a shutdown has removed it, and perhaps another has come.
                post.0.compare_and_swap(&Some(holder), None);
            }
        };
        Ok(Subscription::inline(name, remove, gone))
    }
}

/// A place among the commands at work, and the memory of the call.
struct AtWork<'a, C: Command> {
    holder: &'a Holder<C>,
    call: Option<Answering<C>>,
    finished: bool,
}

impl<C: Command> Drop for AtWork<'_, C> {
    fn drop(&mut self) {
        self.holder.at_work.fetch_sub(1, Ordering::AcqRel);
        let Some(call) = self.call.take() else { return };
        // A call that was cut short is dropped here: a panic in there is not the sender's.
        let memory = if self.finished {
            Some(call)
        } else {
            catch_unwind(AssertUnwindSafe(|| self.holder.handler.start(Some(call), None))).ok()
        };
        if let Some(memory) = memory {
            drop(self.holder.kept.push(memory));
        }
    }
}

impl Bus {
    /// Makes a handler the one that handles commands of a type, until the subscription is dropped.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn handle<C: Command>(&self, handler: impl CommandHandler<C>) -> Result<Subscription, HandleError> {
        self.command().run(handler)
    }

    /// A command handler with options: a name, a bound.
    pub fn command<C: Command>(&self) -> CommandBuilder<'_, C> {
        CommandBuilder { bus: self, name: None, at_most: usize::MAX, command: std::marker::PhantomData }
    }

    /// True if somebody handles commands of this type.
    pub fn handles<C: Command>(&self) -> bool {
        self.commands().holder::<C>().is_some()
    }

    /// Sends a command to its handler, which runs in the caller's task, and waits for the reply.
    ///
    /// # Cancellation
    /// Dropped, the handler is dropped at an await. What it had done by then, it has done.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send<C: Command>(&self, command: C) -> Result<C::Reply, SendError<C>> {
        if self.is_shut_down() {
            return Err(SendError::Closed(command));
        }
        let Some(holder) = self.commands().holder::<C>() else { return Err(SendError::NoHandler(command)) };
        let at_work = holder.at_work.fetch_add(1, Ordering::AcqRel);
        let mut work = AtWork { holder: &holder, call: None, finished: true };
        if at_work >= holder.at_most {
            return Err(SendError::Rejected(command));
        }
        let (metadata, busy) = inherited();
        let mut current = Current::new(Running::OnTheStack(metadata), busy);
        let failed = |cause| SendError::Handler(Failure { handler: Arc::clone(&holder.name), cause });
        let started = {
            let _in_here = current.enter();
            let memory = holder.kept.pop();
            catch_unwind(AssertUnwindSafe(|| holder.handler.start(memory, Some(command))))
        };
        work.call = Some(started.map_err(|payload| failed(Cause::panicked(&*payload)))?);
        work.finished = false;
        poll_fn(|context| {
            let _in_here = current.enter();
            // It is taken when it panics, and then this is not polled again.
            let Some(call) = work.call.as_mut() else { return Poll::Pending };
            match catch_unwind(AssertUnwindSafe(|| call.poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(result)) => {
                    work.finished = true;
                    Poll::Ready(result.map_err(|error| failed(Cause::Error(error))))
                }
                Err(payload) => {
                    let rest = work.call.take();
                    drop(catch_unwind(AssertUnwindSafe(|| drop(rest))));
                    Poll::Ready(Err(failed(Cause::panicked(&*payload))))
                }
            }
        })
        .await
    }

    /// [`send`](Self::send) with a limit of time.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_within<C: Command>(&self, limit: Duration, command: C) -> Result<C::Reply, SendError<C>> {
        tokio::time::timeout(limit, self.send(command)).await.unwrap_or(Err(SendError::Timeout))
    }
}
