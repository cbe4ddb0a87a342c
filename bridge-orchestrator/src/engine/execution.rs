//! One execution, as everybody sees it: the function, its driver, and whoever waits for its end.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use event_listener::Event;
use tokio::sync::oneshot;

use super::inbox::Message;
use super::record::{Cause, Started};
use super::slots::{NonDeterminism, Slots};
use crate::error::Error;
use crate::workflow::{ExecutionId, Failure};

/// Tells whoever waits that something is in the journal.
pub(crate) type Done = oneshot::Sender<Result<(), Error>>;

/// Something for the driver.
pub(crate) enum Mail {
    Signal {
        name: String,
        id: u128,
        payload: Bytes,
        done: oneshot::Sender<Result<(), Error>>,
    },
    /// `told`: the children that have been cancelled for it.
    Cancel {
        cause: Cause,
        told: Vec<ExecutionId>,
        done: Option<oneshot::Sender<Result<(), Error>>>,
    },
    Terminate {
        done: oneshot::Sender<Result<(), Error>>,
    },
    ChildDone {
        seq: u32,
        child: ExecutionId,
        outcome: Result<Bytes, Failure>,
        /// The seed of the run that awaits it.
        run: u64,
    },
    /// Out of the inbox, each with its place there.
    Messages(Vec<(u64, Message)>),
    /// Something has changed outside: there are messages, or the owner is another one.
    Look,
}

/// Letters that wait for the driver, at most.
const MAX_MAIL: usize = 1_024;

/// Where an execution stands.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// Its start is not in the journal yet.
    Starting,
    /// It has a driver.
    Running,
    /// Another process has it in hand.
    Elsewhere,
    /// It waits for a person: the function does not do what the journal says.
    Parked(Parked),
    /// It has ended.
    Ended(Result<Bytes, Failure>),
    /// It was not started.
    Refused(Error),
    /// It goes on elsewhere, or later: this process has let it go.
    Released,
}

/// Why an execution waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Parked {
    /// The function does not do what the journal says that it did.
    #[error(transparent)]
    NonDeterminism(#[from] NonDeterminism),
    /// The function awaits something that is not its context's, so nothing that is journalled will ever wake it.
    #[error("the function awaits something that does not come from its context")]
    ForeignAwait,
    /// Run again against the same journal, the function does something else. Found where an engine replays each turn
    /// (`EngineBuilder::replay_twice`, feature `testkit`).
    #[error(
        "run again, the function does something else: first it {first}, then it {second} (number {place} of what it does)"
    )]
    RunsDiffer {
        /// Which thing that the function asks its context for it is, counted from 0 over the run.
        place: usize,
        /// What it did.
        first: String,
        /// What it did when it was run again.
        second: String,
    },
    /// No workflow of this type and version is registered.
    #[error("no workflow {workflow} of version {version} is registered")]
    Unregistered {
        /// Its type.
        workflow: String,
        /// Its version.
        version: u32,
    },
    /// Its journal cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// It has failed to go on too often.
    #[error("it was tried {attempts} times without getting on: {last}")]
    Poisoned {
        /// How often.
        attempts: u32,
        /// What happened the last time.
        last: String,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Execution {
    id: ExecutionId,
    slots: Mutex<Slots>,
    mail: Mutex<Mailbox>,
    /// Wakes the driver.
    pub(crate) waker: AtomicWaker,
    standing: Mutex<Standing>,
    changed: Event,
    /// What its function panicked with the last time.
    panic: Mutex<Option<String>>,
    /// What it is an execution of, from when its start is known.
    about: OnceLock<About>,
}

#[derive(Debug)]
struct About {
    workflow: String,
    version: u32,
    namespace: String,
}

#[derive(Default)]
struct Mailbox {
    letters: VecDeque<Mail>,
    is_closed: bool,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("letters", &self.letters.len()).field("is_closed", &self.is_closed).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing of the user's runs under these locks but `Waker::clone`: what they guard is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Execution {
    pub(crate) fn new(id: ExecutionId, slots: Slots) -> Self {
        Self {
            id,
            slots: Mutex::new(slots),
            mail: Mutex::default(),
            waker: AtomicWaker::new(),
            standing: Mutex::new(Standing::Starting),
            changed: Event::new(),
            panic: Mutex::default(),
            about: OnceLock::new(),
        }
    }

    pub(crate) fn id(&self) -> &ExecutionId {
        &self.id
    }

    pub(crate) fn slots(&self) -> MutexGuard<'_, Slots> {
        lock(&self.slots)
    }

    /// Begins anew.
    pub(crate) fn replace_slots(&self, slots: Slots) {
        // What the old ones hold of the user's is dropped without the lock.
        let old = std::mem::replace(&mut *self.slots(), slots);
        drop(old);
    }

    /// Its start is known.
    pub(crate) fn describe(&self, started: &Started) {
        self.about.get_or_init(|| About {
            workflow: started.workflow.clone(),
            version: started.code_version,
            namespace: started.namespace.clone(),
        });
    }

    /// Type and version of its workflow, and its namespace.
    pub(crate) fn about(&self) -> Option<(&str, u32, &str)> {
        self.about.get().map(|about| (&*about.workflow, about.version, &*about.namespace))
    }

    /// Takes it up again if it is parked: it waits for a driver, and takes mail. Returns why it was parked.
    pub(crate) fn unpark(&self) -> Option<Parked> {
        let mut standing = lock(&self.standing);
        let Standing::Parked(why) = &*standing else { return None };
        let why = why.clone();
        *standing = Standing::Starting;
        lock(&self.mail).is_closed = false;
        Some(why)
    }

    pub(crate) fn note_panic(&self, message: String) {
        *lock(&self.panic) = Some(message);
    }

    pub(crate) fn last_panic(&self) -> Option<String> {
        lock(&self.panic).clone()
    }

    /// Gives `mail` to the driver.
    pub(crate) fn send(&self, mail: Mail) -> Result<(), Error> {
        let mut mailbox = lock(&self.mail);
        if mailbox.is_closed {
            let is_parked = matches!(*lock(&self.standing), Standing::Parked(_));
            return Err(if is_parked { Error::Parked(self.id.clone()) } else { Error::NotFound(self.id.clone()) });
        }
        // What the engine itself has to say is as bounded as what it talks about.
        if mailbox.letters.len() >= MAX_MAIL && matches!(mail, Mail::Signal { .. }) {
            return Err(Error::Busy("too many signals wait for the journal"));
        }
        mailbox.letters.push_back(mail);
        drop(mailbox);
        self.waker.wake();
        Ok(())
    }

    pub(crate) fn next_mail(&self) -> Option<Mail> {
        lock(&self.mail).letters.pop_front()
    }

    /// No more mail is taken. Returns what was not read.
    pub(crate) fn close_mail(&self) -> VecDeque<Mail> {
        let mut mailbox = lock(&self.mail);
        mailbox.is_closed = true;
        std::mem::take(&mut mailbox.letters)
    }

    pub(crate) fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    pub(crate) fn stands(&self, standing: Standing) {
        *lock(&self.standing) = standing;
        self.changed.notify(usize::MAX);
    }

    /// Waits until `is_enough` has an answer.
    pub(crate) async fn when<T>(&self, is_enough: impl Fn(&Standing) -> Option<T>) -> T {
        loop {
            if let Some(found) = is_enough(&lock(&self.standing)) {
                return found;
            }
            let listener = self.changed.listen();
            if let Some(found) = is_enough(&lock(&self.standing)) {
                return found;
            }
            listener.await;
        }
    }
}
