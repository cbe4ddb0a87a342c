//! Everything that callers, runners and the timer share, behind one lock that is never held over a handler, a wake, or the drop of an
//! item or a reply: what an operation leaves to be done is its [`Aftermath`].

mod aftermath;
mod epochs;
mod inbox;
mod lanes;
mod runners;
mod running;
mod shares;
mod timers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::Waker;

pub(crate) use aftermath::{Aftermath, Trash, Wakers};
use epochs::Epochs;
pub use epochs::FlushReport;
use inbox::Inbox;
use lanes::Lanes;
pub(crate) use lanes::ONLY_LANE;
pub(crate) use runners::Next;
use runners::Runners;
pub(crate) use running::{Group, Tally, Verdict};
pub(crate) use shares::ShareKey;
use shares::Shares;
use timers::Due;

use crate::adaptive::Adaptive;
use crate::arena::{Arena, Block, Caller, Content, Id, NONE, Ticket};
use crate::breaker::Breaker;
use crate::engine::Engine;
use crate::error::{BatchError, Reason};
use crate::options::Options;
use crate::policy::OnFull;
use crate::seats::{Seat, Seats};
use crate::stats::Stats;
use crate::timer::Alarm;

/// See the module.
#[repr(C)]
pub(crate) struct State<I, O, E> {
    inbox: Inbox<I, O, E>,
    arena: Arena<I>,
    seats: Arc<Seats<I, O, E>>,
    lanes: Lanes,
    shares: Shares,
    /// Batches that wait until they run again, and those whose wait is over.
    resting: BTreeMap<u64, Group<I, O, E>>,
    rested: VecDeque<Group<I, O, E>>,
    groups: u64,
    /// Batches that a caller began and that were not ready at once.
    handed: VecDeque<Engine<I, O, E>>,
    spare: Vec<Engine<I, O, E>>,
    /// Empty ones, to be used again.
    #[expect(clippy::vec_box, reason = "a place holds one, and is small")]
    spare_blocks: Vec<Box<Block<I>>>,
    /// Batches that hold a permit.
    permits: usize,
    runners: Runners,
    timers: BTreeSet<(u64, Due)>,
    alarm: Option<Arc<Alarm>>,
    /// When the alarm goes off.
    armed: u64,
    /// Items for which there is no room yet, in the order in which they came.
    waiting: VecDeque<Id>,
    waiting_bytes: u64,
    /// What was accepted and has not ended, what waits for room included.
    held: usize,
    held_bytes: u64,
    /// How much of it has left its line, and has not ended.
    kept_bytes: u64,
    /// How much of it is in batches that run.
    in_flight: usize,
    epochs: Epochs,
    breaker: Breaker,
    phase: Phase,
    counts: Stats,
    /// Items that were retried: what the budget counts.
    retried: u64,
    adaptive: Option<Adaptive>,
}

/// Whether items are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No more come: what is there leaves at once.
    Draining,
    /// What was there is answered.
    Closed,
}

/// An item that is to be taken, and how.
pub(crate) struct Arrival<I> {
    pub(crate) item: I,
    /// Whether a caller waits for the reply.
    pub(crate) called: bool,
    pub(crate) level: u8,
    pub(crate) deadline: Option<NonZeroU64>,
    pub(crate) weight: u32,
    pub(crate) bytes: u32,
    /// Whether whoever gives it can wait for room.
    pub(crate) waits: bool,
}

/// How an item was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Taken {
    /// It stands in line, and nobody will ask for it.
    Forgotten,
    /// It stands in line, with this ticket.
    InLine(Ticket),
    /// So it does, but there is no room for it; whoever gave it waits for that.
    WaitsForRoom(Ticket),
}

/// Where an item that has not started is.
enum Whereabouts {
    /// At this position of its block.
    InBlock(usize),
    AtPlace,
    /// It is the one at this place, started or not.
    Follows(Id),
    /// It has started, or ended, or rests before it runs again.
    Elsewhere,
}

impl<I, O, E> State<I, O, E> {
    pub(crate) fn new(options: &Options<I, O, E>, seats: Arc<Seats<I, O, E>>) -> Self {
        Self {
            inbox: Inbox::new(),
            arena: Arena::new(),
            seats,
            lanes: Lanes::new(options.levels),
            shares: Shares::default(),
            resting: BTreeMap::new(),
            rested: VecDeque::new(),
            groups: 0,
            handed: VecDeque::new(),
            spare: Vec::new(),
            spare_blocks: Vec::new(),
            permits: 0,
            runners: Runners::default(),
            timers: BTreeSet::new(),
            alarm: None,
            armed: u64::MAX,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            held: 0,
            held_bytes: 0,
            kept_bytes: 0,
            in_flight: 0,
            epochs: Epochs::default(),
            breaker: Breaker::default(),
            phase: Phase::Open,
            counts: Stats::default(),
            retried: 0,
            adaptive: options.adaptive(),
        }
    }

    /// Why nothing like `arrival` is taken now. Who waits for a reply is turned away by an open breaker.
    fn objection(&self, options: &Options<I, O, E>, arrival: &Arrival<I>) -> Option<Reason> {
        if self.phase != Phase::Open {
            return Some(Reason::Closed);
        }
        if arrival.weight > options.max_weight {
            return Some(Reason::TooHeavy);
        }
        let turned_away = arrival.called && self.breaker.turns_away(|| options.now());
        turned_away.then_some(Reason::BreakerOpen)
    }

    /// Whether there is room for one more item.
    fn has_room(&self, options: &Options<I, O, E>, bytes: u32) -> bool {
        let admitted_bytes = self.held_bytes - self.waiting_bytes;
        self.held - self.waiting.len() < options.max_items
            && (admitted_bytes == 0 || admitted_bytes + u64::from(bytes) <= options.max_bytes)
    }

    /// Takes an item into its lane. A lane that was made for it and stays empty is gone again.
    pub(crate) fn accept(
        &mut self,
        options: &Options<I, O, E>,
        lane: u32,
        arrival: Arrival<I>,
        after: &mut Aftermath<I, O, E>,
    ) -> Result<Taken, (I, Reason)> {
        let refused = self.objection(options, &arrival).or_else(|| {
            // Nobody overtakes who waits for room.
            let room = self.waiting.is_empty() && self.has_room(options, arrival.bytes);
            let room = room || self.make_room(options, lane, &arrival, after);
            let waits = options.on_full == OnFull::Wait && arrival.waits;
            (!room && !waits).then_some(Reason::Full)
        });
        if let Some(reason) = refused {
            self.refuse(lane, after);
            return Err((arrival.item, reason));
        }
        let waits_for_room = !arrival.called && (!self.waiting.is_empty() || !self.has_room(options, arrival.bytes));
        self.counts.accepted += 1;
        self.held += 1;
        if !waits_for_room && arrival.deadline.is_none() && (!arrival.called || arrival.weight == 0) {
            return Ok(self.put_to_others(options, lane, arrival));
        }
        let caller = if arrival.called { Caller::Reply } else { Caller::None };
        let place = self.put(options, lane, arrival, if waits_for_room { Caller::Room } else { caller });
        let ticket = Ticket { seat: self.arena.at(place).seat, place };
        Ok(if waits_for_room {
            self.waiting_bytes += u64::from(self.arena.at(place).bytes);
            self.waiting.push_back(place);
            Taken::WaitsForRoom(ticket)
        } else if ticket.seat == NONE {
            Taken::Forgotten
        } else {
            Taken::InLine(ticket)
        })
    }

    /// An item is not taken.
    pub(crate) fn refuse(&mut self, lane: u32, after: &mut Aftermath<I, O, E>) {
        self.lanes.release_if_empty(lane, after);
        self.counts.rejected += 1;
    }

    /// Puts an item at the end of its line, at a place of its own.
    fn put(&mut self, options: &Options<I, O, E>, lane: u32, arrival: Arrival<I>, caller: Caller) -> Id {
        let Arrival { item, level, deadline, weight, bytes, .. } = arrival;
        let waits = matches!(caller, Caller::Reply | Caller::Room);
        let seat = if waits { self.seats.claim(&mut self.inbox.free_seats) } else { NONE };
        let (id, place) = self.arena.claim();
        place.content = Content::Item(item);
        place.seat = seat;
        place.lane = lane;
        place.level = level;
        place.weight = weight;
        place.bytes = bytes;
        place.deadline = deadline;
        place.caller = caller;
        if caller != Caller::Shared {
            place.epoch = self.epochs.enter();
        }
        self.held_bytes += u64::from(bytes);
        if let Some(deadline) = deadline {
            self.add_timer(options, deadline.get(), Due::Deadline(id));
        }
        self.join_line(options, id, weight, deadline);
        id
    }

    /// Whether the oldest items of the lowest level could be shed for `arrival`.
    fn make_room(
        &mut self,
        options: &Options<I, O, E>,
        lane: u32,
        arrival: &Arrival<I>,
        after: &mut Aftermath<I, O, E>,
    ) -> bool {
        if options.on_full != OnFull::ShedOldest {
            return false;
        }
        // What runs, or rests before it runs again, cannot be shed: if that alone leaves no room, nothing is.
        let fits = self.kept_bytes == 0 || self.kept_bytes + u64::from(arrival.bytes) <= options.max_bytes;
        if self.in_flight >= options.max_items || !fits {
            return false;
        }
        // The lane that the item is to join must not go with the last one that is shed from it.
        self.lanes.pinned = Some(lane);
        while !self.has_room(options, arrival.bytes) {
            let Some(id) = self.lanes.oldest_of_lowest(lane) else { break };
            self.counts.shed += self.members(id);
            self.end_first(id, || BatchError::Rejected(Reason::Shed), after);
        }
        self.lanes.pinned = None;
        self.has_room(options, arrival.bytes)
    }

    /// The item at `id` is in: whoever waited for that goes on.
    fn admitted(&mut self, id: Id, after: &mut Aftermath<I, O, E>) {
        let seat = self.stop_waiting_for_room(id);
        after.wake(self.seats.answer_for_room(seat, Seat::Admitted));
    }

    /// The item at `id` no longer waits for room. The seat of whoever does.
    fn stop_waiting_for_room(&mut self, id: Id) -> Id {
        let place = self.waiting.iter().position(|&waiting| waiting == id).expect("it waits for room");
        self.waiting.remove(place);
        let item = self.arena.at(id);
        self.waiting_bytes -= u64::from(item.bytes);
        item.caller = Caller::None;
        std::mem::replace(&mut item.seat, NONE)
    }

    /// Lets those in that wait for room, as far as there is.
    fn admit(&mut self, options: &Options<I, O, E>, after: &mut Aftermath<I, O, E>) {
        while let Some(&id) = self.waiting.front() {
            let bytes = self.arena.at(id).bytes;
            if !self.has_room(options, bytes) {
                return;
            }
            self.admitted(id, after);
        }
    }

    /// Ends what stands at a place in line: its item, or the first of those that lie there together.
    fn end_first(&mut self, id: Id, error: impl Fn() -> BatchError<E>, after: &mut Aftermath<I, O, E>) {
        let Some(queued) = self.leave_block(id, 0, after) else { return self.end_unstarted(id, error, after) };
        self.held -= 1;
        self.held_bytes -= u64::from(queued.bytes);
        if queued.seat == NONE {
            after.give_up(Some(queued.item), error());
        } else {
            after.drop_item(queued.item);
            after.told(self.seats.reply(queued.seat, Err(error())));
            after.wake(queued.waker);
        }
        self.epochs.leave(queued.epoch, true, after);
    }

    /// Ends an item that stands in line at a place of its own, for everyone whose it is.
    fn end_unstarted(&mut self, id: Id, error: impl Fn() -> BatchError<E>, after: &mut Aftermath<I, O, E>) {
        let item = self.leave_line(id, after);
        let place = self.arena.at(id);
        let (caller, epoch, bytes, seat) = (place.caller, place.epoch, place.bytes, place.seat);
        self.held_bytes -= u64::from(bytes);
        match caller {
            Caller::Shared => {
                after.drop_item(item);
                self.end_followers(id, error, after);
                self.arena.release(id);
                return;
            }
            Caller::Reply => {
                after.drop_item(item);
                after.told(self.seats.reply(seat, Err(error())));
            }
            Caller::Room => {
                let reason = if matches!(error(), BatchError::Deadline { .. }) { Reason::Full } else { Reason::Closed };
                let seat = self.stop_waiting_for_room(id);
                after.wake(self.seats.answer_for_room(seat, Seat::Back(item, reason)));
            }
            Caller::None => after.give_up(Some(item), error()),
        }
        self.forget_deadline(id);
        self.arena.release(id);
        self.held -= 1;
        self.epochs.leave(epoch, true, after);
    }

    /// Where the item of a ticket is, if it has not started.
    fn whereabouts(&mut self, ticket: Ticket) -> Whereabouts {
        if ticket.place == NONE {
            return Whereabouts::Elsewhere;
        }
        let place = self.arena.at(ticket.place);
        match &place.content {
            Content::Block(block) => {
                // The last one is the likeliest: it is asked for as soon as it is there.
                let position = block.items.iter().rposition(|queued| queued.seat == ticket.seat);
                position.map_or(Whereabouts::Elsewhere, Whereabouts::InBlock)
            }
            Content::Item(_) if place.seat == ticket.seat => Whereabouts::AtPlace,
            Content::Follows(item) if place.seat == ticket.seat => Whereabouts::Follows(*item),
            _ => Whereabouts::Elsewhere,
        }
    }

    /// Whether the item that is waited for has not started.
    pub(crate) fn is_in_line(&mut self, ticket: Ticket) -> bool {
        match self.whereabouts(ticket) {
            Whereabouts::InBlock(_) | Whereabouts::AtPlace => true,
            Whereabouts::Follows(item) => matches!(self.arena.at(item).content, Content::Item(_)),
            Whereabouts::Elsewhere => false,
        }
    }

    /// Whether the item that is waited for cannot go on without a permit.
    pub(crate) fn needs_a_permit(&mut self, ticket: Ticket) -> bool {
        if let Whereabouts::Follows(item) = self.whereabouts(ticket)
            && self.arena.at(item).resting
        {
            return true;
        }
        self.is_in_line(ticket) || self.rests(ticket.seat)
    }

    /// A caller goes away: an item that has not started never runs; the reply of one that has is dropped. Whether it counts as cancelled.
    pub(crate) fn cancel(
        &mut self,
        options: &Options<I, O, E>,
        ticket: Ticket,
        after: &mut Aftermath<I, O, E>,
    ) -> bool {
        let cancelled = self.counts.cancelled;
        let Ticket { seat, place } = ticket;
        match self.whereabouts(ticket) {
            Whereabouts::InBlock(position) => {
                let queued = self.leave_block(place, position, after).expect("it was seen there");
                self.counts.cancelled += 1;
                self.held -= 1;
                self.held_bytes -= u64::from(queued.bytes);
                self.epochs.leave(queued.epoch, true, after);
                after.drop_item(queued.item);
                after.drop_waker(queued.waker);
                after.trash.push(Trash::Seat(self.seats.clear(seat)));
            }
            Whereabouts::AtPlace => {
                self.counts.cancelled += 1;
                if self.arena.at(place).caller == Caller::Room {
                    self.stop_waiting_for_room(place);
                }
                self.withdraw(place, after);
                after.trash.push(Trash::Seat(self.seats.clear(seat)));
            }
            Whereabouts::Follows(item) => {
                self.unfollow(place, item, after);
                after.trash.push(Trash::Seat(self.seats.clear(seat)));
            }
            Whereabouts::Elsewhere => after.trash.push(Trash::Seat(self.seats.leave(seat))),
        }
        self.admit(options, after);
        self.kick(options, after);
        cancelled != self.counts.cancelled
    }

    /// Takes an item out of its line that nobody wants. Its caller's seat is for whoever asks for this.
    fn withdraw(&mut self, id: Id, after: &mut Aftermath<I, O, E>) {
        let item = self.leave_line(id, after);
        after.drop_item(item);
        self.forget_deadline(id);
        let place = self.arena.at(id);
        let (caller, epoch, bytes) = (place.caller, place.epoch, place.bytes);
        self.arena.release(id);
        self.held_bytes -= u64::from(bytes);
        if caller != Caller::Shared {
            self.held -= 1;
            self.epochs.leave(epoch, true, after);
        }
    }

    /// No more items are taken; what is there leaves without lingering.
    pub(crate) fn drain(&mut self, options: &Options<I, O, E>, after: &mut Aftermath<I, O, E>) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            self.seal_all();
            self.cut_rest_short();
            // They hold on to what holds on to them.
            after.trash.extend(self.spare.drain(..).map(Trash::Engine));
        }
        self.kick(options, after);
    }

    /// Whatever has not started is answered [`BatchError::Closed`], and so are the callers of what runs: its replies will be dropped.
    pub(crate) fn close(&mut self, options: &Options<I, O, E>, after: &mut Aftermath<I, O, E>) {
        self.drain(options, after);
        self.phase = Phase::Closed;
        self.end_all_unstarted(after);
        let closed = || Err(BatchError::Closed { started: true });
        self.seats.reply_early_to_all(&self.inbox.free_seats, closed, |told| after.told(told));
        self.kick(options, after);
    }

    /// Answers everything in line, and everything that rests.
    fn end_all_unstarted(&mut self, after: &mut Aftermath<I, O, E>) {
        for lane in 0..self.lanes.len() {
            while let Some(id) = self.lanes.first(lane) {
                self.counts.closed += self.members(id);
                self.end_first(id, || BatchError::Closed { started: false }, after);
            }
        }
        self.end_all_resting(after);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// What was cancelled as somebody's that left was given up by the batcher itself.
    pub(crate) fn was_given_up(&mut self) {
        self.counts.cancelled -= 1;
        self.counts.given_up += 1;
    }

    /// An item was refused before it came here.
    pub(crate) fn count_rejected(&mut self) {
        self.counts.rejected += 1;
    }

    pub(crate) fn count_letters(&mut self, taken: u64, unclaimed: u64) {
        self.counts.dead_lettered += taken;
        self.counts.unclaimed += unclaimed;
    }

    pub(crate) fn stats(&self) -> Stats {
        let in_flight = self.in_flight as u64;
        Stats { queued: self.held as u64 - in_flight, in_flight, ..self.counts }
    }

    /// A barrier after everything that is there: its number, or what it reports if nothing is there. Nothing lingers on.
    pub(crate) fn flush(
        &mut self,
        options: &Options<I, O, E>,
        waker: &Waker,
        after: &mut Aftermath<I, O, E>,
    ) -> Result<u64, FlushReport> {
        self.seal_all();
        let flush = self.epochs.flush(waker);
        self.kick(options, after);
        flush
    }

    pub(crate) fn epochs(&mut self) -> &mut Epochs {
        &mut self.epochs
    }
}
