//! An execution that another process has in hand, as seen from here: what is asked of it is left in its inbox, and its end is waited for.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_store::EventStore;

use super::core::Core;
use super::execution::{Execution, Mail, Standing};
use super::inbox::{self, Message};
use super::journal::{self, History};
use super::slots::MAX_UNREAD_SIGNALS;
use crate::error::Error;
use crate::workflow::Failure;

/// Between two tries to read a journal.
const PAUSE: Duration = Duration::from_millis(500);

/// How the watch ended.
pub(super) enum Seen {
    Ended(Result<Bytes, Failure>),
    /// Its owner is gone, or may be.
    LookAgain,
    /// This engine shuts down.
    Released,
    Gone,
}

/// Watches `execution` until there is something to do about it here.
pub(super) async fn observe<S: EventStore>(core: &Arc<Core<S>>, execution: &Arc<Execution>) -> Seen {
    // Before the journal is read: an end that comes in between is told.
    let _watching = core.watch_ends().await;
    execution.stands(Standing::Elsewhere);
    let stream = execution.id().stream();
    // Nobody tells of what retention has removed before it was read.
    let longest_silence = core.shared.as_ref().map_or(Duration::MAX, |shared| shared.duration * 2);
    let mut inbox: Option<Filled> = None;
    loop {
        let history = match journal::read(&core.store, &stream).await {
            Ok(Some(history)) => history,
            Ok(None) => return Seen::Gone,
            Err(Error::Malformed { .. }) => return Seen::LookAgain,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let inbox = inbox.get_or_insert_with(|| Filled::of(&history));
        if inbox.since != history.since {
            // Another execution of the same id.
            return Seen::Gone;
        }
        if let Some(end) = history.end {
            return Seen::Ended(end);
        }
        if !core.is_elsewhere(history.owner).await.unwrap_or(true) {
            return Seen::LookAgain;
        }
        let mut silence = pin!(tokio::time::sleep(longest_silence));
        loop {
            let letter = poll_fn(|cx| {
                if core.lets_go(false) {
                    return Poll::Ready(None);
                }
                if let Some(mail) = execution.next_mail() {
                    return Poll::Ready(Some(mail));
                }
                silence.as_mut().poll(cx).map(|()| Some(Mail::Look))
            });
            match letter.await {
                None => return Seen::Released,
                Some(Mail::Look) => break,
                Some(mail) => inbox.pass_on(core, execution, mail).await,
            }
            if silence.is_elapsed() {
                break;
            }
        }
    }
}

/// How far the inbox of another process's execution is filled, as seen from here.
#[derive(Debug)]
struct Filled {
    /// Where the execution began in the store.
    since: u64,
    /// So many messages were taken, or are nothing to it.
    taken: u64,
    /// So many were left.
    left: u64,
    /// It was full when it was last looked at.
    full_at: Option<Instant>,
}

impl Filled {
    fn of(history: &History) -> Self {
        Self { since: history.since, taken: history.inbox, left: history.inbox, full_at: None }
    }

    /// Leaves `mail` in the inbox, and says so; a signal for which there is no room is refused.
    async fn pass_on<S: EventStore>(&mut self, core: &Core<S>, execution: &Execution, mail: Mail) {
        let Some(message) = Message::of(&mail) else { return };
        let told = match self.has_room(core, execution, &message).await {
            Ok(true) => inbox::leave(&core.store, execution.id(), self.since, &message).await.map(|place| {
                self.left = self.left.max(place);
            }),
            Ok(false) => Err(Error::Busy("too many signals are unread")),
            Err(error) => Err(error),
        };
        match mail {
            Mail::Signal { done, .. } | Mail::Terminate { done } | Mail::Cancel { done: Some(done), .. } => {
                let _ = done.send(told);
            }
            Mail::Cancel { done: None, .. } | Mail::ChildDone { .. } | Mail::Messages(_) | Mail::Look => {}
        }
    }

    async fn has_room<S: EventStore>(
        &mut self,
        core: &Core<S>,
        execution: &Execution,
        message: &Message,
    ) -> Result<bool, Error> {
        let may_be_full = self.left >= self.taken + MAX_UNREAD_SIGNALS as u64;
        if !matches!(message, Message::Signal { .. }) || !may_be_full {
            return Ok(true);
        }
        if self.full_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return Ok(false);
        }
        // Some may have been taken since it was last looked at, or were meant for another execution.
        let Some(history) = journal::read(&core.store, &execution.id().stream()).await? else {
            return Err(Error::NotFound(execution.id().clone()));
        };
        let waiting = inbox::read(&core.store, execution.id(), history.inbox, self.since).await?.len();
        self.taken = self.left.saturating_sub(waiting as u64);
        let is_full = waiting >= MAX_UNREAD_SIGNALS;
        self.full_at = is_full.then(Instant::now);
        Ok(!is_full)
    }
}
