//! How a drive begins: the start is appended, or the journal is read and claimed.

use std::sync::Arc;
use std::time::Duration;

use event_store::{EventStore, Position, StreamVersion};

use super::boundary::Boundary;
use super::core::Core;
use super::driver::{Begin, Driver, End};
use super::execution::{Execution, Mail, Parked, Standing};
use super::inbox;
use super::journal::{self, Broken, History, Journal};
use super::lease::Lease;
use super::record::Record;
use crate::error::Error;

/// Claims without anything behind them before an execution is left alone.
const MAX_CLAIMS: u32 = 10;
/// The pause after the first answer that a store does not give; each next one is twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// See the module.
pub(super) async fn load<S: EventStore>(
    core: &Arc<Core<S>>,
    execution: &Arc<Execution>,
    begin: Begin,
) -> Result<Driver<S>, End> {
    let stream = execution.id().stream();
    let lease = loop {
        let lease = core.lease();
        // One that is lost is replaced by another before anybody is told.
        if lease.sure().await.is_ok() {
            break lease;
        }
    };
    let (history, journal) = match begin {
        Begin::New(mut started) => {
            started.owner = lease.owner();
            execution.describe(&started);
            let mut journal = Journal::new(stream, None);
            let now = core.clock.now();
            let records = [(Record::Started(started.clone()), now)];
            core.at(Boundary::BeforeAppend);
            let appended = journal.append(&core.store, &records, |_| ()).await;
            core.at(Boundary::AfterAppend);
            let since = match appended {
                Ok(position) => position.map_or(0, Position::get),
                Err(Broken::Fenced) => return Err(End::Refused(Error::AlreadyExists(execution.id().clone()))),
                Err(Broken::Refused(error)) => return Err(End::Refused(Error::Append(error))),
            };
            (History { since, ..History::new(*started, now, StreamVersion::FIRST) }, journal)
        }
        Begin::Continue(next) => {
            let (history, journal) = *next;
            // Where these fail nothing is lost, and the next run removes more.
            let _ = core.store.truncate_stream(&stream, journal.before(history.carried.len() as u64)).await;
            if history.inbox > 0 {
                let taken = StreamVersion::new(history.inbox);
                let _ = core.store.truncate_stream(&inbox::stream(execution.id()), taken).await;
            }
            // What the run before has left in the inbox is this one's.
            let _ = execution.send(Mail::Look);
            (history, journal)
        }
        Begin::Resume => claim(core, execution, &lease).await?,
    };
    execution.stands(Standing::Running);
    Driver::new(core, execution, lease, history, journal)
}

/// Reads what there is of an execution, and makes it this process's own.
async fn claim<S: EventStore>(
    core: &Arc<Core<S>>,
    execution: &Arc<Execution>,
    lease: &Lease,
) -> Result<(History, Journal), End> {
    let stream = execution.id().stream();
    let mut pause = FIRST_PAUSE;
    loop {
        let history = match journal::read(&core.store, &stream).await {
            Ok(Some(history)) => history,
            Ok(None) => return Err(End::Refused(Error::NotFound(execution.id().clone()))),
            Err(error @ Error::Malformed { .. }) => return Err(End::Parked(Parked::Malformed(error.to_string()))),
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        if let Some(end) = history.end {
            return Err(End::WasEnded(end));
        }
        execution.describe(&history.started);
        match core.is_elsewhere(history.owner).await {
            Ok(false) => {}
            Ok(true) => return Err(End::Elsewhere),
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        }
        let (workflow, version) = (&history.started.workflow, history.started.code_version);
        // What nobody here can run waits for somebody who can, and burns no attempt.
        if core.registry.get(workflow, version).is_none() {
            return Err(End::Parked(Parked::Unregistered { workflow: workflow.clone(), version }));
        }
        if history.claims >= MAX_CLAIMS {
            let last = execution.last_panic().unwrap_or_else(|| "its owners ended".to_owned());
            return Err(End::Parked(Parked::Poisoned { attempts: history.claims, last }));
        }
        if lease.sure().await.is_err() {
            return Err(End::LookAgain);
        }
        let mut journal = Journal::new(stream.clone(), Some(history.version));
        let claimed = Record::Claimed { owner: lease.owner(), epoch: history.epoch + 1 };
        core.at(Boundary::BeforeAppend);
        let appended = journal.append(&core.store, &[(claimed, core.clock.now())], |_| ()).await;
        core.at(Boundary::AfterAppend);
        match appended {
            Ok(_) => {}
            // Somebody was quicker.
            Err(Broken::Fenced) if core.shared.is_some() => continue,
            Err(Broken::Fenced) => return Err(End::Released),
            Err(Broken::Refused(error)) => return Err(End::Refused(Error::Append(error))),
        }
        if core.shared.is_some() {
            // What was left for it before is looked for, and what is left from now on is told.
            let _ = execution.send(Mail::Look);
        }
        return Ok((history, journal));
    }
}
