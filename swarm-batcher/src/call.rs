//! The futures of callers.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::arena::{NONE, Ticket};
use crate::engine::{Ended, Engine, contain, is_inside};
use crate::error::{BatchError, Reason, Rejected, Reply};
use crate::seats::Seat;
use crate::shared::{Locked, Shared};
use crate::state::{Aftermath, Arrival, Taken};

/// Made by [`Batcher::call`](crate::Batcher::call). Dropped before its batch has started, the item never runs; dropped after that, the
/// batch runs on and the reply is dropped.
#[must_use = "a call does nothing unless it is awaited"]
pub struct Call<'a, I, O, E> {
    shared: &'a Arc<Shared<I, O, E>>,
    stage: Stage<I>,
}

enum Stage<I> {
    New(Result<Arrival<I>, Reason>),
    Waiting(Ticket),
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
        let inside = is_inside(self.shared);
        let mut inbox = self.shared.lock_inbox();
        let arrival = match if inside { Err(arrival) } else { inbox.sit_down(arrival, context.waker()) } {
            Ok(ticket) => {
                drop(inbox);
                self.stage = Stage::Waiting(ticket);
                return Poll::Pending;
            }
            Err(arrival) => arrival,
        };
        let arrival = match inbox.take_idle(arrival) {
            Ok(engine) => {
                drop(inbox);
                return self.run_alone(engine, context);
            }
            Err(arrival) => arrival,
        };
        let mut state = Locked::whole(inbox, &self.shared.options);
        let mut arrival = Some(arrival);
        if let Some(engine) = state.begin_alone(self.shared, &mut arrival) {
            drop(state);
            return self.run_alone(engine, context);
        }
        let arrival = arrival.expect("it did not begin");
        if inside {
            state.count_rejected();
            // The item is dropped without it.
            drop(state);
            return Poll::Ready(Err(BatchError::Rejected(Reason::Reentrant)));
        }
        self.join(state, arrival, context)
    }

    /// Joins those that are there.
    fn join(
        &mut self,
        state: Locked<'a, I, O, E>,
        arrival: Arrival<I>,
        context: &mut Context<'_>,
    ) -> Poll<Reply<O, E>> {
        let mut after = Aftermath::new();
        let (state, taken) = self.shared.accept_with(state, arrival, &mut after);
        let ticket = match taken {
            Ok(Taken::InLine(ticket)) => ticket,
            Ok(Taken::Forgotten | Taken::WaitsForRoom(_)) => unreachable!("it is called"),
            Err(rejected) => {
                drop(state);
                self.shared.settle(after);
                return Poll::Ready(Err(BatchError::Rejected(rejected.reason)));
            }
        };
        let engine = lead(self.shared, state, ticket, &mut after);
        self.shared.settle(after);
        self.wait(ticket, engine, context)
    }

    /// Polls the batch of one's own item. If it is not ready, a runner goes on with it, and the engine's seat is taken.
    #[inline]
    fn run_alone(&mut self, mut engine: Engine<I, O, E>, context: &mut Context<'_>) -> Poll<Reply<O, E>> {
        let (shared, options) = (self.shared, &self.shared.options);
        let ticket = Ticket { seat: engine.seat, place: NONE };
        if options.counts_outcomes {
            engine.seat = NONE;
            return self.wait(ticket, Some(engine), context);
        }
        match engine.poll(shared, context) {
            Poll::Ready(Ended::Whole) => {
                Shared::drop_items(engine.core());
                let mut engine = Some(engine);
                let mut inbox = shared.lock_inbox();
                if let Some(reply) = inbox.keep_idle(&mut engine) {
                    return Poll::Ready(reply);
                }
                let mut engine = engine.expect("it was not kept");
                let mut after = Aftermath::new();
                let mut state = Locked::whole(inbox, options);
                let (reply, more) = state.end_alone(options, engine.core(), &mut after);
                state.put_aside(options, engine, &mut after);
                if more {
                    state.kick(options, &mut after);
                }
                drop(state);
                shared.settle(after);
                Poll::Ready(reply)
            }
            ended => {
                engine.seat = NONE;
                self.run_on(ended, engine, ticket, context)
            }
        }
    }

    /// What is to be done for a batch that did not end at once, or was lost.
    #[cold]
    fn run_on(
        &mut self,
        ended: Poll<Ended>,
        engine: Engine<I, O, E>,
        ticket: Ticket,
        context: &mut Context<'_>,
    ) -> Poll<Reply<O, E>> {
        if ended.is_pending() {
            hand(self.shared, engine);
        }
        self.wait(ticket, None, context)
    }

    fn wait(
        &mut self,
        ticket: Ticket,
        engine: Option<Engine<I, O, E>>,
        context: &mut Context<'_>,
    ) -> Poll<Reply<O, E>> {
        if let Some(engine) = engine {
            run_here(self.shared, engine, context);
        }
        let poll = poll_reply(self.shared, ticket, context.waker());
        self.stage = if poll.is_ready() { Stage::Over } else { Stage::Waiting(ticket) };
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
            Stage::Waiting(ticket) => this.wait(ticket, None, context),
            Stage::Over => panic!("a call was polled after it was over"),
        }
    }
}

impl<I, O, E> Drop for Call<'_, I, O, E> {
    fn drop(&mut self) {
        if let Stage::Waiting(ticket) = self.stage {
            cancel(self.shared, ticket);
        }
    }
}

/// Takes the next batch to run it here, if it is one in which the item of `ticket` is; else a runner is called for what may start.
fn lead<I, O, E>(
    shared: &Arc<Shared<I, O, E>>,
    mut state: Locked<'_, I, O, E>,
    ticket: Ticket,
    after: &mut Aftermath<I, O, E>,
) -> Option<Engine<I, O, E>> {
    let options = &shared.options;
    if !options.inline || !state.can_start(options) || !state.is_in_line(ticket) {
        state.kick(options, after);
        return None;
    }
    let mut engine = state.engine(shared);
    // An engine may end with its batch; a seat must not.
    state.vacate(&mut engine);
    let taken = state.take(options, engine.core(), after);
    let led = taken && !state.is_in_line(ticket);
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

/// A runner goes on with a batch.
fn hand<I, O, E>(shared: &Arc<Shared<I, O, E>>, engine: Engine<I, O, E>) {
    let mut after = Aftermath::new();
    shared.lock().hand(&shared.options, engine, &mut after);
    shared.settle(after);
}

/// Polls a batch once in the task of one of its callers. If it is not ready, a runner goes on with it.
fn run_here<I, O, E>(shared: &Arc<Shared<I, O, E>>, mut engine: Engine<I, O, E>, context: &mut Context<'_>) {
    match engine.poll(shared, context) {
        Poll::Ready(Ended::Whole) => {
            let mut after = Aftermath::new();
            let mut state = shared.finish(engine.core(), &mut after);
            state.put_aside(&shared.options, engine, &mut after);
            state.kick(&shared.options, &mut after);
            drop(state);
            shared.keep(shared.settle_with(after));
        }
        Poll::Ready(Ended::Lost) => {}
        Poll::Pending => hand(shared, engine),
    }
}

/// What a caller finds at its seat.
#[inline]
fn poll_reply<I, O, E>(shared: &Arc<Shared<I, O, E>>, ticket: Ticket, waker: &Waker) -> Poll<Reply<O, E>> {
    match poll_seat(shared, ticket, waker) {
        Poll::Ready(Seat::Replied(reply) | Seat::Early(reply)) => Poll::Ready(reply),
        Poll::Ready(_) => unreachable!("a caller waits for its reply alone"),
        Poll::Pending if is_inside(shared) => give_up_inside(shared, ticket),
        Poll::Pending => Poll::Pending,
    }
}

#[inline]
fn poll_seat<I, O, E>(shared: &Arc<Shared<I, O, E>>, ticket: Ticket, waker: &Waker) -> Poll<Seat<I, O, E>> {
    let (poll, old) = shared.seats.poll(ticket.seat, waker);
    if let Some(old) = old {
        contain(|| drop(old));
    }
    poll
}

/// A handler waits for what cannot start before it has ended.
#[cold]
fn give_up_inside<I, O, E>(shared: &Arc<Shared<I, O, E>>, ticket: Ticket) -> Poll<Reply<O, E>> {
    let mut after = Aftermath::new();
    let mut state = shared.lock();
    let gives_up = state.needs_a_permit(ticket);
    if gives_up && state.cancel(&shared.options, ticket, &mut after) {
        state.was_given_up();
    }
    drop(state);
    shared.settle(after);
    if gives_up { Poll::Ready(Err(BatchError::Rejected(Reason::Reentrant))) } else { Poll::Pending }
}

fn cancel<I, O, E>(shared: &Arc<Shared<I, O, E>>, ticket: Ticket) {
    let mut after = Aftermath::new();
    shared.lock().cancel(&shared.options, ticket, &mut after);
    shared.settle(after);
}

/// The reply of an item that was [submitted](crate::Batcher::submit), to be awaited anywhere. Dropped before the item's batch has
/// started, the item never runs; dropped after that, the batch runs on and the reply is dropped.
#[must_use = "dropping a receipt cancels its item"]
pub struct Receipt<I, O, E> {
    shared: Arc<Shared<I, O, E>>,
    ticket: Option<Ticket>,
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
        let Taken::InLine(ticket) = taken? else { unreachable!("it is called") };
        Ok(Self { shared: Arc::clone(shared), ticket: Some(ticket) })
    }
}

impl<I, O, E> Future for Receipt<I, O, E> {
    type Output = Result<O, BatchError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let ticket = this.ticket.expect("a receipt was polled after it was over");
        let poll = poll_reply(&this.shared, ticket, context.waker());
        if poll.is_ready() {
            this.ticket = None;
        }
        poll
    }
}

impl<I, O, E> Drop for Receipt<I, O, E> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            cancel(&self.shared, ticket);
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
    WaitsForRoom(Ticket),
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
            Ok(Taken::WaitsForRoom(ticket)) => self.poll_room(ticket, waker),
            Err(rejected) if inside && rejected.reason == Reason::Full => {
                Poll::Ready(Err(Rejected::new(rejected.item, Reason::Reentrant)))
            }
            Err(rejected) => Poll::Ready(Err(rejected)),
        }
    }

    fn poll_room(&mut self, ticket: Ticket, waker: &Waker) -> Poll<Result<(), Rejected<I>>> {
        let room = match poll_seat(self.shared, ticket, waker) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Seat::Admitted) => Poll::Ready(Ok(())),
            Poll::Ready(Seat::Back(item, reason)) => Poll::Ready(Err(Rejected::new(item, reason))),
            Poll::Ready(_) => unreachable!("who waits for room gets it, or the item back"),
        };
        self.stage = if room.is_ready() { PushStage::Over } else { PushStage::WaitsForRoom(ticket) };
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
            PushStage::WaitsForRoom(ticket) => this.poll_room(ticket, context.waker()),
            PushStage::Over => panic!("a push was polled after it was over"),
        }
    }
}

impl<I, O, E> Drop for Push<'_, I, O, E> {
    fn drop(&mut self) {
        if let PushStage::WaitsForRoom(ticket) = self.stage {
            cancel(self.shared, ticket);
        }
    }
}

/// Takes an item that nobody waits for.
#[inline]
pub(crate) fn push<I, O, E>(shared: &Arc<Shared<I, O, E>>, arrival: Arrival<I>) -> Result<Taken, Rejected<I>> {
    let put_down = shared.lock_inbox().put_down(arrival);
    match put_down {
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
    Waits(Ticket),
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
                Ok(Taken::InLine(ticket)) => {
                    last = Some(ticket);
                    One::Waits(ticket)
                }
                Err(reason) => One::Over(Err(BatchError::Rejected(reason))),
            });
        }
        let engine = last.and_then(|ticket| lead(self.shared, self.shared.lock(), ticket, &mut after));
        self.shared.settle(after);
        if let Some(engine) = engine {
            run_here(self.shared, engine, context);
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
            if let One::Waits(ticket) = *call {
                match poll_reply(this.shared, ticket, context.waker()) {
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
            if let One::Waits(ticket) = *call {
                cancel(self.shared, ticket);
            }
        }
    }
}
