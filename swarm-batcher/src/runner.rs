//! The task that runs batches.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::runtime::Handle;

use crate::engine::{Ended, Engine};
use crate::shared::Shared;
use crate::state::{Aftermath, Next, Wakers};
use crate::timer::{Alarm, Watch};

/// After so many, other tasks have their turn.
const BATCHES_A_POLL: usize = 32;

/// Runs batches for as long as there are any to come.
pub(crate) struct Runner<I, O, E> {
    shared: Arc<Shared<I, O, E>>,
    id: u64,
    /// Its own, used again and again.
    engine: Engine<I, O, E>,
    /// A batch that a caller began.
    handed: Option<Engine<I, O, E>>,
    doing: Doing,
    /// It was polled: its runtime runs tasks, or did.
    came: bool,
    watch: Option<(Arc<Alarm>, Watch)>,
    wakers: Wakers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    Own,
    Handed,
}

impl<I: Send + 'static, O: Send + 'static, E: Send + 'static> Runner<I, O, E> {
    pub(crate) fn spawn(runtime: Option<Handle>, shared: Arc<Shared<I, O, E>>, id: u64) {
        // Dropped, it says that it is gone: so it does if the runtime shuts down.
        let runner = Self::new(shared, id);
        if let Some(runtime) = runtime {
            drop(runtime.spawn(runner));
        }
    }
}

impl<I, O, E> Runner<I, O, E> {
    pub(crate) fn new(shared: Arc<Shared<I, O, E>>, id: u64) -> Self {
        let engine = Engine::new(&shared);
        Self {
            shared,
            id,
            engine,
            handed: None,
            doing: Doing::Nothing,
            came: false,
            watch: None,
            wakers: Wakers::new(),
        }
    }

    /// Finds something to do. False: the runner has ended.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        loop {
            let mut after = Aftermath::new();
            let next =
                self.shared.lock().next(&self.shared.options, self.id, &mut self.engine, context.waker(), &mut after);
            self.shared.settle(after);
            match self.follow(next, context) {
                Some(poll) => return poll,
                None => self.fire(),
            }
        }
    }

    /// Does what is next; nothing is returned if the alarm went off.
    fn follow(&mut self, next: Next<I, O, E>, context: &mut Context<'_>) -> Option<Poll<bool>> {
        match next {
            Next::Handed(engine) => {
                self.handed = Some(engine);
                self.doing = Doing::Handed;
                Some(Poll::Ready(true))
            }
            Next::Run => {
                self.doing = Doing::Own;
                Some(Poll::Ready(true))
            }
            Next::Sleep => Some(Poll::Pending),
            Next::Watch(alarm) => self.poll_alarm(&alarm, context).is_pending().then_some(Poll::Pending),
            Next::End => Some(Poll::Ready(false)),
        }
    }

    fn poll_alarm(&mut self, alarm: &Arc<Alarm>, context: &mut Context<'_>) -> Poll<()> {
        if !self.watch.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, alarm)) {
            self.watch = alarm.watch().map(|watch| (Arc::clone(alarm), watch));
        }
        match &mut self.watch {
            Some((_, watch)) => watch.poll_fired(context),
            None => {
                self.shared.lock().use_other_alarm(&self.shared.options);
                Poll::Ready(())
            }
        }
    }

    fn fire(&self) {
        let mut after = Aftermath::new();
        self.shared.lock().fire(&self.shared.options, &mut after);
        self.shared.settle(after);
    }

    /// Polls the batch; when it has ended its callers are answered.
    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let engine = match &mut self.handed {
            Some(engine) if self.doing == Doing::Handed => engine,
            _ => &mut self.engine,
        };
        let ended = ready!(engine.poll(&self.shared, context));
        self.doing = Doing::Nothing;
        let mut after = Aftermath::with(std::mem::take(&mut self.wakers));
        match (ended, self.handed.take()) {
            (Ended::Whole, Some(mut engine)) => {
                let mut state = self.shared.finish(engine.core(), &mut after);
                state.put_aside(&self.shared.options, engine, &mut after);
            }
            (Ended::Whole, None) => drop(self.shared.finish(self.engine.core(), &mut after)),
            (Ended::Lost, Some(_)) => {}
            (Ended::Lost, None) => self.engine = Engine::new(&self.shared),
        }
        self.wakers = self.shared.settle_with(after);
        Poll::Ready(())
    }
}

impl<I, O, E> Future for Runner<I, O, E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.came = true;
        for _ in 0..BATCHES_A_POLL {
            if this.doing == Doing::Nothing && !ready!(this.poll_next(context)) {
                return Poll::Ready(());
            }
            ready!(this.poll_batch(context));
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<I, O, E> Drop for Runner<I, O, E> {
    fn drop(&mut self) {
        self.shared.runner_gone(self.id, self.came);
    }
}
