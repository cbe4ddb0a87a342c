//! Where most items come in: while nothing starts with one more, it is put down here, on the cache line of the lock, and whoever next does
//! more than that moves all of them into line.

use std::collections::VecDeque;
use std::task::Waker;

use super::lanes::{BLOCK, ONLY_LANE};
use super::{Arrival, Phase, State};
use crate::arena::{Id, NONE, Queued, Ticket};
use crate::engine::Engine;
use crate::error::Reply;
use crate::handler::Entry;
use crate::options::Options;
use crate::seats::FreeSeats;

/// See the module. What is counted here is not yet counted in the state.
pub(super) struct Inbox<I, O, E> {
    items: VecDeque<Queued<I>>,
    /// How many more may come.
    room: u32,
    /// How many may come while a caller runs its own item.
    room_beside: u32,
    /// The place that they will stand at.
    place: Id,
    /// The epoch that they enter.
    epoch: u32,
    pub(super) free_seats: FreeSeats,
    /// With what a caller may run its own item at once: nothing else is there.
    idle: Option<Engine<I, O, E>>,
    /// One does.
    alone: bool,
    /// How many did, and how many of their items failed.
    ran: u32,
    failed: u32,
}

impl<I, O, E> Inbox<I, O, E> {
    pub(super) fn new() -> Self {
        Self {
            items: VecDeque::new(),
            room: 0,
            room_beside: 0,
            place: NONE,
            epoch: 0,
            free_seats: FreeSeats::new(),
            idle: None,
            alone: false,
            ran: 0,
            failed: 0,
        }
    }

    #[inline]
    fn put(&mut self, item: I, seat: Id, waker: Option<Waker>) {
        self.room -= 1;
        self.items.push_back(Queued { item, seat, waker, epoch: self.epoch, weight: 0, bytes: 0 });
    }
}

impl<I, O, E> State<I, O, E> {
    /// Puts an item down that nobody waits for, if there is nothing else to be done for it.
    #[inline]
    pub(crate) fn put_down(&mut self, arrival: Arrival<I>) -> Result<(), Arrival<I>> {
        if self.inbox.room == 0 || arrival.deadline.is_some() {
            return Err(arrival);
        }
        self.inbox.put(arrival.item, NONE, None);
        Ok(())
    }

    /// The same for one whose caller waits.
    #[inline]
    pub(crate) fn sit_down(&mut self, arrival: Arrival<I>, waker: &Waker) -> Result<Ticket, Arrival<I>> {
        if self.inbox.room == 0 || arrival.deadline.is_some() {
            return Err(arrival);
        }
        let seat = self.seats.claim(&mut self.inbox.free_seats);
        self.inbox.put(arrival.item, seat, Some(waker.clone()));
        Ok(Ticket { seat, place: self.inbox.place })
    }

    /// Starts a batch of a caller's own item, if nothing else is there.
    #[inline]
    pub(crate) fn take_idle(&mut self, arrival: Arrival<I>) -> Result<Engine<I, O, E>, Arrival<I>> {
        if arrival.deadline.is_some() {
            return Err(arrival);
        }
        let inbox = &mut self.inbox;
        let Some(mut engine) = inbox.idle.take() else { return Err(arrival) };
        inbox.alone = true;
        inbox.room = inbox.room_beside;
        let (seat, epoch) = (engine.seat, inbox.epoch);
        engine.core().start_alone(Entry { item: Some(arrival.item), reply: None, seat, place: NONE, epoch, bytes: 0 });
        Ok(engine)
    }

    /// It was ready at once. If nothing has happened meanwhile, that was all; the engine is kept for the next one then.
    #[inline]
    pub(crate) fn keep_idle(&mut self, engine: &mut Option<Engine<I, O, E>>) -> Option<Reply<O, E>> {
        let inbox = &mut self.inbox;
        if !inbox.alone || !inbox.items.is_empty() || inbox.ran == u32::MAX {
            return None;
        }
        let reply = engine.as_mut()?.core().end_alone().0;
        inbox.alone = false;
        inbox.room = 0;
        inbox.ran += 1;
        inbox.failed += u32::from(reply.is_err());
        inbox.idle = engine.take();
        Some(reply)
    }

    /// Moves what was put down into line, and counts what was counted here alone.
    #[inline]
    pub(crate) fn take_in(&mut self, options: &Options<I, O, E>) {
        let inbox = &mut self.inbox;
        if let Some(engine) = inbox.idle.take() {
            self.spare.push(engine);
        }
        if inbox.ran > 0 {
            let (ran, failed) = (std::mem::take(&mut inbox.ran), std::mem::take(&mut inbox.failed));
            self.counts.accepted += u64::from(ran);
            self.counts.batches += u64::from(ran);
            self.counts.succeeded += u64::from(ran - failed);
            self.counts.failed += u64::from(failed);
            self.epochs.failed_many(u64::from(failed));
        }
        if std::mem::take(&mut self.inbox.alone) {
            self.counts.accepted += 1;
            self.held += 1;
            self.in_flight += 1;
            self.permits += 1;
            self.epochs.enter_many(self.inbox.epoch, 1);
        }
        if !self.inbox.items.is_empty() {
            self.take_all_in(options);
        }
    }

    fn take_all_in(&mut self, options: &Options<I, O, E>) {
        let mut block = self.spare_blocks.pop().unwrap_or_default();
        std::mem::swap(&mut block.items, &mut self.inbox.items);
        block.weight = 0;
        let items = block.items.len();
        let place = std::mem::replace(&mut self.inbox.place, NONE);
        self.counts.accepted += items as u64;
        self.held += items;
        self.epochs.enter_many(self.inbox.epoch, items as u64);
        self.put_block(options, place, block);
    }

    /// Says what may be done before the whole state is looked at again.
    #[inline]
    pub(crate) fn open_inbox(&mut self, options: &Options<I, O, E>) {
        self.inbox.room = 0;
        if !options.plain || self.phase != Phase::Open || !self.waiting.is_empty() {
            return;
        }
        let most = options.max_items.saturating_sub(self.held).min(options.max_batch_items.min(BLOCK));
        let most = if self.has_runners() { most } else { 0 };
        let is_idle = self.held == 0 && self.permits == 0 && self.timers.is_empty() && self.handed.is_empty();
        if is_idle && options.inline && !options.counts_outcomes && self.never_lingers(options) {
            let Some(mut engine) = self.spare.pop() else { return };
            if engine.seat == NONE {
                engine.seat = self.seats.claim(&mut self.inbox.free_seats);
            }
            self.inbox.idle = Some(engine);
            self.inbox.room_beside = if options.max_in_flight == 1 { most.saturating_sub(1) as u32 } else { 0 };
        } else {
            self.inbox.room = most.min(self.changes_nothing(options, ONLY_LANE)) as u32;
            if self.inbox.room == 0 {
                return;
            }
        }
        self.inbox.epoch = self.epochs.current();
        if self.inbox.place == NONE {
            self.inbox.place = self.arena.claim().0;
        }
    }
}
