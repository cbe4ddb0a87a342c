//! The futures of callers.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::arena::{Id, NONE};
use crate::engine::{Ended, Engine, is_inside};
use crate::error::{BatchError, Reason, Rejected, Reply};
use crate::shared::{Locked, Shared};
use crate::state::{Aftermath, Arrival, Taken, Verdict};

/// Made by [`Batcher::call`](crate::Batcher::call). Dropped before its batch has started, the item never runs; dropped after that, the
/// batch runs on and the reply is dropped.
#[must_use = "a call does nothing unless it is awaited"]
pub struct Call<'a, I, O, E> {
    shared: &'a Arc<Shared<I, O, E>>,
    stage: Stage<I>,
}

enum Stage<I> {
    New(Result<Arrival<I>, Reason>),
    Waiting(Id),
    Over,
}

impl<I, O, E> fmt::Debug for Call<'_, I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

impl<I, O, E> Unpin for Call<'_, I, O, E> {}

impl<'a, I, O, E> Call<'a, I, O, E> {
    pub(crate) fn new(shared: &'a Arc<Shared<I, O, E>>, arrival: Result<Arrival<I>, Reason>) -> Self {
        Self { shared, stage: Stage::New(arrival) }
    }

    #[inline]
    fn begin(&mut self, arrival: Arrival<I>, context: &mut Context<'_>) -> Poll<Reply<O, E>> {
        let mut arrival = Some(arrival);
        let mut state = self.shared.lock();
        if let Some((id, engine)) = state.begin_alone(self.shared, &mut arrival) {
            drop(state);
            let poll = run_alone(self.shared, engine, id, context);
            if poll.is_pending() {
                self.stage = Stage::Waiting(id);
            }
            return poll;
        }
        let arrival = arrival.expect("it did not begin");
        self.join(state, arrival, context)
    }

    /// Joins those that are there.
    fn join(
        &mut self,
        state: Locked<'_, I, O, E>,
        mut arrival: Arrival<I>,
        context: &mut Context<'_>,
    ) -> Poll<Reply<O, E>> {
        if is_inside(self.shared) {
            let mut state = state;
            state.count_rejected();
            return Poll::Ready(Err(BatchError::Rejected(Reason::Reentrant)));
        }
        arrival.waker = Some(context.waker().clone());
        let mut after = Aftermath::new();
        let (state, taken) = self.shared.accept_with(state, arrival, &mut after);
        let id = match taken {
            Ok(Taken::InLine(id)) => id,
            Ok(Taken::Forgotten | Taken::WaitsForRoom(_)) => unreachable!("it is called"),
            Err(rejected) => {
                drop(state);
                self.shared.settle(after);
                return Poll::Ready(Err(BatchError::Rejected(rejected.reason)));
            }
        };
        match lead(self.shared, state, id, &mut after) {
            Some(engine) => {
                self.shared.settle(after);
                self.wait(id, Some(engine), context)
            }
            None => {
                self.stage = Stage::Waiting(id);
                self.shared.settle(after);
                Poll::Pending
            }
        }
    }

    fn wait(&mut self, id: Id, engine: Option<Engine<I, O, E>>, context: &mut Context<'_>) -> Poll<Reply<O, E>> {
        let poll = match engine {
            Some(engine) => run_here(self.shared, engine, id, context),
            None => poll_reply(self.shared, id, context.waker()),
        };
        self.stage = if poll.is_ready() { Stage::Over } else { Stage::Waiting(id) };
        poll
    }
}

impl<I, O, E> Future for Call<'_, I, O, E> {
    type Output = Result<O, BatchError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match std::mem::replace(&mut this.stage, Stage::Over) {
            Stage::New(Ok(arrival)) => this.begin(arrival, context),
            Stage::New(Err(reason)) => {
                this.shared.lock().count_rejected();
                Poll::Ready(Err(BatchError::Rejected(reason)))
            }
            Stage::Waiting(id) => this.wait(id, None, context),
            Stage::Over => panic!("a call was polled after it was over"),
        }
    }
}

impl<I, O, E> Drop for Call<'_, I, O, E> {
    fn drop(&mut self) {
        if let Stage::Waiting(id) = self.stage {
            cancel(self.shared, id);
        }
    }
}

/// Takes the next batch to run it here, if it is one in which the item at `id` is; else a runner is called for what may start.
fn lead<I, O, E>(
    shared: &Arc<Shared<I, O, E>>,
    mut state: Locked<'_, I, O, E>,
    id: Id,
    after: &mut Aftermath<I, O, E>,
) -> Option<Engine<I, O, E>> {
    let options = &shared.options;
    if !options.inline || !state.can_start(options) || !state.is_in_line(id) {
        state.kick(options, after);
        return None;
    }
    let mut engine = state.engine(shared);
    let taken = state.take(options, engine.core(), after);
    let led = taken && !state.is_in_line(id);
    let engine = match (led, taken) {
        (true, _) => Some(engine),
        (false, true) => {
            state.hand(options, engine, after);
            None
        }
        (false, false) => {
            state.put_aside(options, engine, after);
            None
        }
    };
    state.kick(options, after);
    engine
}

/// Polls the batch of one caller's own item, at whose seat it waits. If it is not ready, a runner goes on with it, and the seat is the
/// caller's.
#[inline]
fn run_alone<I, O, E>(
    shared: &Arc<Shared<I, O, E>>,
    mut engine: Engine<I, O, E>,
    id: Id,
    context: &mut Context<'_>,
) -> Poll<Reply<O, E>> {
    let options = &shared.options;
    if options.counts_outcomes {
        engine.seat = NONE;
        return run_here(shared, engine, id, context);
    }
    let poll = engine.poll(shared, context);
    let mut after = Aftermath::new();
    let mut state = match poll {
        Poll::Ready(Ended::Whole) => {
            Shared::drop_items(engine.core());
            let mut state = shared.lock();
            engine = match state.end_alone(options, engine) {
                Ok(reply) => return Poll::Ready(reply),
                Err(engine) => engine,
            };
            engine.seat = NONE;
            state.settle(options, engine.core(), Verdict { items: 1, failed: false }, &mut after);
            state.put_aside(options, engine, &mut after);
            state
        }
        Poll::Ready(Ended::Lost) => shared.lock(),
        Poll::Pending => {
            engine.seat = NONE;
            let mut state = shared.lock();
            state.hand(options, engine, &mut after);
            state
        }
    };
    let reply = state.poll_reply(id, context.waker(), &mut after);
    state.kick(options, &mut after);
    drop(state);
    shared.settle(after);
    reply.map_or(Poll::Pending, Poll::Ready)
}

/// Polls a batch once in the task of the caller that waits at `id`. If it is not ready, a runner goes on with it.
fn run_here<I, O, E>(
    shared: &Arc<Shared<I, O, E>>,
    mut engine: Engine<I, O, E>,
    id: Id,
    context: &mut Context<'_>,
) -> Poll<Reply<O, E>> {
    let mut after = Aftermath::new();
    let options = &shared.options;
    let mut state = match engine.poll(shared, context) {
        Poll::Ready(Ended::Whole) => {
            let mut state = shared.finish(engine.core(), &mut after);
            state.put_aside(options, engine, &mut after);
            state
        }
        Poll::Ready(Ended::Lost) => shared.lock(),
        Poll::Pending => {
            let mut state = shared.lock();
            state.hand(options, engine, &mut after);
            state
        }
    };
    let reply = state.poll_reply(id, context.waker(), &mut after);
    state.kick(options, &mut after);
    drop(state);
    shared.settle(after);
    reply.map_or(Poll::Pending, Poll::Ready)
}

fn poll_reply<I, O, E>(shared: &Arc<Shared<I, O, E>>, id: Id, waker: &Waker) -> Poll<Reply<O, E>> {
    let mut after = Aftermath::new();
    let mut state = shared.lock();
    let mut reply = state.poll_reply(id, waker, &mut after);
    if reply.is_none() && is_inside(shared) && state.needs_a_permit(id) {
        // The handler waits for what cannot start before it has ended.
        state.cancel(&shared.options, id, &mut after);
        state.was_given_up();
        reply = Some(Err(BatchError::Rejected(Reason::Reentrant)));
    }
    drop(state);
    shared.settle(after);
    reply.map_or(Poll::Pending, Poll::Ready)
}

fn cancel<I, O, E>(shared: &Arc<Shared<I, O, E>>, id: Id) {
    let mut after = Aftermath::new();
    shared.lock().cancel(&shared.options, id, &mut after);
    shared.settle(after);
}

/// The reply of an item that was [submitted](crate::Batcher::submit), to be awaited anywhere. Dropped before the item's batch has
/// started, the item never runs; dropped after that, the batch runs on and the reply is dropped.
#[must_use = "dropping a receipt cancels its item"]
pub struct Receipt<I, O, E> {
    shared: Arc<Shared<I, O, E>>,
    id: Option<Id>,
}

impl<I, O, E> fmt::Debug for Receipt<I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").finish_non_exhaustive()
    }
}

impl<I, O, E> Unpin for Receipt<I, O, E> {}

impl<I, O, E> Receipt<I, O, E> {
    pub(crate) fn submit(shared: &Arc<Shared<I, O, E>>, arrival: Arrival<I>) -> Result<Self, Rejected<I>> {
        let mut after = Aftermath::new();
        let (mut state, taken) = shared.accept(arrival, &mut after);
        state.kick(&shared.options, &mut after);
        drop(state);
        shared.settle(after);
        let Taken::InLine(id) = taken? else { unreachable!("it is called") };
        Ok(Self { shared: Arc::clone(shared), id: Some(id) })
    }
}

impl<I, O, E> Future for Receipt<I, O, E> {
    type Output = Result<O, BatchError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let id = this.id.expect("a receipt was polled after it was over");
        let poll = poll_reply(&this.shared, id, context.waker());
        if poll.is_ready() {
            this.id = None;
        }
        poll
    }
}

impl<I, O, E> Drop for Receipt<I, O, E> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            cancel(&self.shared, id);
        }
    }
}

/// Made by [`Batcher::push`](crate::Batcher::push). Dropped while there is no room for the item, the item is dropped too.
#[must_use = "a push does nothing unless it is awaited"]
pub struct Push<'a, I, O, E> {
    shared: &'a Arc<Shared<I, O, E>>,
    stage: PushStage<I>,
}

enum PushStage<I> {
    New(Result<Arrival<I>, Rejected<I>>),
    WaitsForRoom(Id),
    Over,
}

impl<I, O, E> fmt::Debug for Push<'_, I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push").finish_non_exhaustive()
    }
}

impl<I, O, E> Unpin for Push<'_, I, O, E> {}

impl<'a, I, O, E> Push<'a, I, O, E> {
    pub(crate) fn new(shared: &'a Arc<Shared<I, O, E>>, arrival: Result<Arrival<I>, Rejected<I>>) -> Self {
        Self { shared, stage: PushStage::New(arrival) }
    }

    fn begin(&mut self, mut arrival: Arrival<I>, waker: &Waker) -> Poll<Result<(), Rejected<I>>> {
        let inside = is_inside(self.shared);
        arrival.waits = !inside;
        match push(self.shared, arrival) {
            Ok(Taken::Forgotten | Taken::InLine(_)) => Poll::Ready(Ok(())),
            Ok(Taken::WaitsForRoom(id)) => self.poll_room(id, waker),
            Err(rejected) if inside && rejected.reason == Reason::Full => {
                Poll::Ready(Err(Rejected::new(rejected.item, Reason::Reentrant)))
            }
            Err(rejected) => Poll::Ready(Err(rejected)),
        }
    }

    fn poll_room(&mut self, id: Id, waker: &Waker) -> Poll<Result<(), Rejected<I>>> {
        let mut after = Aftermath::new();
        let room = self.shared.lock().poll_room(id, waker, &mut after);
        self.stage = if room.is_ready() { PushStage::Over } else { PushStage::WaitsForRoom(id) };
        self.shared.settle(after);
        room
    }
}

impl<I, O, E> Future for Push<'_, I, O, E> {
    type Output = Result<(), Rejected<I>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        match std::mem::replace(&mut this.stage, PushStage::Over) {
            PushStage::New(Ok(arrival)) => this.begin(arrival, context.waker()),
            PushStage::New(Err(rejected)) => {
                this.shared.lock().count_rejected();
                Poll::Ready(Err(rejected))
            }
            PushStage::WaitsForRoom(id) => this.poll_room(id, context.waker()),
            PushStage::Over => panic!("a push was polled after it was over"),
        }
    }
}

impl<I, O, E> Drop for Push<'_, I, O, E> {
    fn drop(&mut self) {
        if let PushStage::WaitsForRoom(id) = self.stage {
            cancel(self.shared, id);
        }
    }
}

/// Takes an item that nobody waits for.
#[inline]
pub(crate) fn push<I, O, E>(shared: &Arc<Shared<I, O, E>>, arrival: Arrival<I>) -> Result<Taken, Rejected<I>> {
    match shared.push_quietly(arrival) {
        Ok(()) => Ok(Taken::Forgotten),
        Err(arrival) => push_aloud(shared, arrival),
    }
}

/// The same, where it may start a batch, has to wait, or is refused.
fn push_aloud<I, O, E>(shared: &Arc<Shared<I, O, E>>, arrival: Arrival<I>) -> Result<Taken, Rejected<I>> {
    let mut after = Aftermath::new();
    let (mut state, taken) = shared.accept(arrival, &mut after);
    state.kick(&shared.options, &mut after);
    drop(state);
    shared.settle(after);
    taken
}

/// Made by [`Batcher::call_all`](crate::Batcher::call_all). Dropped, it is as if each of its calls were.
#[must_use = "calls do nothing unless they are awaited"]
pub struct CallAll<'a, I, O, E> {
    shared: &'a Arc<Shared<I, O, E>>,
    arrivals: Vec<Result<Arrival<I>, Reason>>,
    calls: Vec<One<O, E>>,
    /// The first that may still wait.
    first: usize,
}

enum One<O, E> {
    Waits(Id),
    Over(Reply<O, E>),
}

impl<I, O, E> fmt::Debug for CallAll<'_, I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallAll").finish_non_exhaustive()
    }
}

impl<I, O, E> Unpin for CallAll<'_, I, O, E> {}

impl<'a, I, O, E> CallAll<'a, I, O, E> {
    pub(crate) fn new(shared: &'a Arc<Shared<I, O, E>>, arrivals: Vec<Result<Arrival<I>, Reason>>) -> Self {
        Self { shared, arrivals, calls: Vec::new(), first: 0 }
    }

    /// Takes all items before any batch of them starts; the last of them may run its batch here.
    fn begin(&mut self, context: &mut Context<'_>) {
        let inside = is_inside(self.shared);
        let mut after = Aftermath::new();
        let arrivals = std::mem::take(&mut self.arrivals);
        self.calls.reserve_exact(arrivals.len());
        let mut last = None;
        for arrival in arrivals {
            let refused = arrival.and_then(|arrival| if inside { Err(Reason::Reentrant) } else { Ok(arrival) });
            let taken = match refused {
                Ok(arrival) => {
                    let mut after = Aftermath::new();
                    let (state, taken) = self.shared.accept(arrival, &mut after);
                    drop(state);
                    self.shared.settle(after);
                    taken.map_err(|rejected| rejected.reason)
                }
                Err(reason) => {
                    self.shared.lock().count_rejected();
                    Err(reason)
                }
            };
            self.calls.push(match taken {
                Ok(Taken::Forgotten | Taken::WaitsForRoom(_)) => unreachable!("it is called"),
                Ok(Taken::InLine(id)) => {
                    last = Some(id);
                    One::Waits(id)
                }
                Err(reason) => One::Over(Err(BatchError::Rejected(reason))),
            });
        }
        let engine = last.and_then(|id| Some((id, lead(self.shared, self.shared.lock(), id, &mut after)?)));
        self.shared.settle(after);
        if let Some((id, engine)) = engine
            && let Poll::Ready(reply) = run_here(self.shared, engine, id, context)
        {
            let call = self.calls.iter_mut().find(|call| matches!(call, One::Waits(waits) if *waits == id));
            *call.expect("it is one of these") = One::Over(reply);
        }
    }
}

impl<I, O, E> Future for CallAll<'_, I, O, E> {
    type Output = Vec<Result<O, BatchError<E>>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if !this.arrivals.is_empty() {
            this.begin(context);
        }
        while let Some(call) = this.calls.get_mut(this.first) {
            if let One::Waits(id) = *call {
                match poll_reply(this.shared, id, context.waker()) {
                    Poll::Ready(reply) => *call = One::Over(reply),
                    Poll::Pending => return Poll::Pending,
                }
            }
            this.first += 1;
        }
        let replies = std::mem::take(&mut this.calls).into_iter().map(|call| match call {
            One::Over(reply) => reply,
            One::Waits(_) => unreachable!("all are over"),
        });
        Poll::Ready(replies.collect())
    }
}

impl<I, O, E> Drop for CallAll<'_, I, O, E> {
    fn drop(&mut self) {
        for call in &self.calls {
            if let One::Waits(id) = *call {
                cancel(self.shared, id);
            }
        }
    }
}
