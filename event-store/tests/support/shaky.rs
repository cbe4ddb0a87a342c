//! A projection some of whose events fail, and a read model that fails and takes its time.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use event_store::{
    ApplyError, MemoryReadModel, MemoryTx, ParkedEvent, Position, Progress, Projection, ProjectionId, Query, ReadModel,
    ReadModelError, RecordedEvent,
};

pub(crate) type List = Vec<(u64, String)>;

/// Is pending once.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Sleeps not at all.
pub(crate) fn no_sleep(_: Duration) -> impl Future<Output = ()> + Send + 'static {
    std::future::ready(())
}

/// Sleeps for one poll.
pub(crate) fn yielding(_: Duration) -> impl Future<Output = ()> + Send + 'static {
    yield_now()
}

/// Lists events, and fails at those whose type says so.
#[derive(Debug)]
pub(crate) struct Ledger {
    version: u32,
    query: Query,
    /// Failures of `Flaky` events that are left.
    flaky: AtomicU32,
    is_mended: bool,
    yields: bool,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { version: 1, query: Query::All, flaky: AtomicU32::new(2), is_mended: false, yields: false }
    }

    pub(crate) fn version(self, version: u32) -> Self {
        Self { version, ..self }
    }

    pub(crate) fn only(self, query: Query) -> Self {
        Self { query, ..self }
    }

    /// Nothing fails.
    pub(crate) fn mended(self) -> Self {
        Self { is_mended: true, ..self }
    }

    /// Is pending before and after each change.
    pub(crate) fn yielding(self) -> Self {
        Self { yields: true, ..self }
    }

    async fn wait(&self) {
        if self.yields {
            yield_now().await;
        }
    }
}

impl Projection for Ledger {
    type Tx = MemoryTx<List>;

    fn name(&self) -> &str {
        "ledger"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn query(&self) -> Query {
        self.query.clone()
    }

    async fn apply(&self, tx: &mut MemoryTx<List>, event: &RecordedEvent) -> Result<(), ApplyError> {
        self.wait().await;
        let payload = std::str::from_utf8(event.payload())?.to_owned();
        tx.state_mut().push((event.position().get(), payload));
        self.wait().await;
        match event.event_type().as_str() {
            _ if self.is_mended => Ok(()),
            "Bad" => Err(ApplyError::event("bad")),
            "Long" => Err(ApplyError::event("ä".repeat(10_000))),
            "Unavailable" => Err(ApplyError::unavailable("gone")),
            "Panics" => panic!("at the projection"),
            "Flaky" if self.flaky.load(Ordering::Relaxed) > 0 => {
                self.flaky.fetch_sub(1, Ordering::Relaxed);
                Err(ApplyError::event("flaky"))
            }
            _ => Ok(()),
        }
    }
}

/// What goes wrong with a read model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// A transaction cannot be begun.
    FailBegin,
    /// A transaction is committed, and the answer is lost.
    LoseAnswer,
    /// A transaction is lost on the way.
    LoseCommit,
}

/// A read model whose every step takes a poll, with these faults, in this order.
pub(crate) struct Shaky {
    model: MemoryReadModel<List>,
    faults: Mutex<VecDeque<Fault>>,
}

impl Shaky {
    pub(crate) fn new(model: MemoryReadModel<List>, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { model, faults: Mutex::new(faults.into_iter().collect()) }
    }

    /// The next fault, if it is one of these.
    fn fault(&self, of: &[Fault]) -> Option<Fault> {
        let mut faults = self.faults.lock().expect("no panic");
        if faults.front().is_some_and(|fault| of.contains(fault)) { faults.pop_front() } else { None }
    }
}

impl ReadModel for Shaky {
    type Tx = MemoryTx<List>;

    async fn begin(&self, id: &ProjectionId) -> Result<Self::Tx, ReadModelError> {
        yield_now().await;
        match self.fault(&[Fault::FailBegin]) {
            Some(_) => Err(ReadModelError::Unavailable("closed".to_owned())),
            None => self.model.begin(id).await,
        }
    }

    async fn load(&self, tx: &mut Self::Tx) -> Result<Progress, ReadModelError> {
        yield_now().await;
        self.model.load(tx).await
    }

    async fn save(&self, tx: &mut Self::Tx, checkpoint: Position) -> Result<(), ReadModelError> {
        yield_now().await;
        self.model.save(tx, checkpoint).await
    }

    async fn park(&self, tx: &mut Self::Tx, event: ParkedEvent) -> Result<(), ReadModelError> {
        yield_now().await;
        self.model.park(tx, event).await
    }

    async fn unpark(&self, tx: &mut Self::Tx, position: Position) -> Result<bool, ReadModelError> {
        yield_now().await;
        self.model.unpark(tx, position).await
    }

    async fn parked(&self, tx: &mut Self::Tx, limit: usize) -> Result<Vec<ParkedEvent>, ReadModelError> {
        yield_now().await;
        self.model.parked(tx, limit).await
    }

    async fn activate(&self, tx: &mut Self::Tx) -> Result<(), ReadModelError> {
        yield_now().await;
        self.model.activate(tx).await
    }

    async fn remove(&self, id: &ProjectionId) -> Result<(), ReadModelError> {
        yield_now().await;
        self.model.remove(id).await
    }

    async fn commit(&self, tx: Self::Tx) -> Result<(), ReadModelError> {
        yield_now().await;
        let fault = self.fault(&[Fault::LoseAnswer, Fault::LoseCommit]);
        if fault != Some(Fault::LoseCommit) {
            self.model.commit(tx).await?;
        }
        yield_now().await;
        if fault.is_some() { Err(ReadModelError::Unknown("no answer".to_owned())) } else { Ok(()) }
    }
}
