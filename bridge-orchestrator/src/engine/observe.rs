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
use crate::error::Error;
use crate::workflow::Failure;

/// Between two tries to read a journal.
const PAUSE: Duration = Duration::from_millis(500);

/// After so long a journal is looked at although nothing was told.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

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
    loop {
        match journal::read(&core.store, &stream).await {
            Ok(Some(history)) => {
                if let Some(end) = history.end {
                    return Seen::Ended(end);
                }
                if !core.is_elsewhere(history.owner).await.unwrap_or(true) {
                    return Seen::LookAgain;
                }
            }
            Ok(None) => return Seen::Gone,
            Err(Error::Malformed { .. }) => return Seen::LookAgain,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        }
        loop {
            let letter = poll_fn(|_| {
                if core.lets_go(false) {
                    return Poll::Ready(None);
                }
                execution.next_mail().map_or(Poll::Pending, |mail| Poll::Ready(Some(mail)))
            });
            match tokio::time::timeout(LONGEST_SILENCE, letter).await {
                Ok(None) => return Seen::Released,
                // Nobody tells of what retention has removed before it was read.
                Ok(Some(Mail::Look)) | Err(_) => break,
                Ok(Some(mail)) => pass_on(core, execution, mail).await,
            }
        }
    }
}

/// Leaves `mail` in the inbox, and says so.
async fn pass_on<S: EventStore>(core: &Core<S>, execution: &Execution, mail: Mail) {
    let Some(message) = Message::of(&mail) else { return };
    let left = inbox::leave(&core.store, execution.id(), &message).await;
    match mail {
        Mail::Signal { done, .. } | Mail::Terminate { done } | Mail::Cancel { done: Some(done), .. } => {
            let _ = done.send(left);
        }
        Mail::Cancel { done: None, .. } | Mail::ChildDone { .. } | Mail::Messages(_) | Mail::Look => {}
    }
}
