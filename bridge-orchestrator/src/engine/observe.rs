//! An execution that another process has in hand, as seen from here: what is asked of it is left in its inbox, and its end is waited for.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use event_store::EventStore;

use super::core::Core;
use super::execution::{Execution, Mail, Standing};
use super::inbox::{self, Message};
use super::journal;
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
    // A journal is looked at after so long although nothing was told: nobody tells of what retention has removed before it was read.
    let longest_silence = core.shared.as_ref().map_or(Duration::MAX, |shared| shared.duration * 2);
    let mut inbox = Filled::default();
    loop {
        inbox.taken = match journal::read(&core.store, &stream).await {
            Ok(Some(history)) => {
                if let Some(end) = history.end {
                    return Seen::Ended(end);
                }
                if !core.is_elsewhere(history.owner).await.unwrap_or(true) {
                    return Seen::LookAgain;
                }
                history.inbox
            }
            Ok(None) => return Seen::Gone,
            Err(Error::Malformed { .. }) => return Seen::LookAgain,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        inbox.left = inbox.taken.max(inbox.left);
        loop {
            let letter = poll_fn(|_| {
                if core.lets_go(false) {
                    return Poll::Ready(None);
                }
                execution.next_mail().map_or(Poll::Pending, |mail| Poll::Ready(Some(mail)))
            });
            match tokio::time::timeout(longest_silence, letter).await {
                Ok(None) => return Seen::Released,
                Ok(Some(Mail::Look)) | Err(_) => break,
                Ok(Some(mail)) => inbox.pass_on(core, execution, mail).await,
            }
        }
    }
}

/// How far the inbox of another process's execution is filled, as seen from here.
#[derive(Debug, Default)]
struct Filled {
    /// So many messages its owner has taken.
    taken: u64,
    /// So many were left.
    left: u64,
}

impl Filled {
    /// Leaves `mail` in the inbox, and says so; a signal for which there is no room is refused.
    async fn pass_on<S: EventStore>(&mut self, core: &Core<S>, execution: &Execution, mail: Mail) {
        let Some(message) = Message::of(&mail) else { return };
        let told = match self.has_room(core, execution, &message).await {
            Ok(true) => inbox::leave(&core.store, execution.id(), &message).await.map(|place| {
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
        let is_full = |filled: &Self| filled.left >= filled.taken + MAX_UNREAD_SIGNALS as u64;
        if !matches!(message, Message::Signal { .. }) || !is_full(self) {
            return Ok(true);
        }
        // Some may have been taken since it was last looked at.
        let history = journal::read(&core.store, &execution.id().stream()).await?;
        self.taken = history.map_or(self.left, |history| history.inbox);
        Ok(!is_full(self))
    }
}
