//! Batches that start, end, and run again.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::timers::Due;
use super::{Aftermath, Arrival, Phase, State, Trash};
use crate::arena::{Caller, Content, Id, NONE};
use crate::engine::{Core, Engine};
use crate::error::{BatchError, Reply};
use crate::handler::Entry;
use crate::options::Options;
use crate::policy::Policy;
use crate::seats::Presence;
use crate::shared::Shared;

/// Items that run again together.
pub(crate) struct Group<I, O, E> {
    pub(crate) entries: Vec<Entry<I, O, E>>,
    /// How often they have run.
    pub(crate) attempt: u32,
    /// An error asked for their wait: nothing cuts it short.
    pub(crate) asked: bool,
}

/// How a batch went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdict {
    /// How many items it had.
    pub(crate) items: usize,
    /// No item has an output, and the breaker counts why.
    pub(crate) failed: bool,
}

/// Items of a batch that have ended and whose callers, if they have any, were answered.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    items: usize,
    failed: u64,
    bytes: u64,
    /// How many items of which epochs, and how many of them failed.
    epochs: SmallVec<[(u32, u64, u64); 2]>,
}

impl Tally {
    #[inline]
    pub(crate) fn add(&mut self, epoch: u32, bytes: u32, failed: bool) {
        self.items += 1;
        self.failed += u64::from(failed);
        self.bytes += u64::from(bytes);
        match self.epochs.last_mut() {
            Some((last, items, of_them)) if *last == epoch => {
                *items += 1;
                *of_them += u64::from(failed);
            }
            _ => self.epochs.push((epoch, 1, u64::from(failed))),
        }
    }
}

impl<I, O, E> State<I, O, E> {
    pub(super) fn limit(&self, options: &Options<I, O, E>) -> usize {
        self.adaptive.as_ref().map_or(options.max_in_flight, crate::adaptive::Adaptive::in_flight)
    }

    /// Whether a batch could start.
    pub(crate) fn can_start(&self, options: &Options<I, O, E>) -> bool {
        self.permits < self.limit(options)
            && !(self.rested.is_empty() && self.lanes.ready.is_empty())
            && self.breaker.lets_start(|| options.now())
    }

    /// Memory for a batch.
    pub(crate) fn engine(&mut self, shared: &Arc<Shared<I, O, E>>) -> Engine<I, O, E> {
        self.spare.pop().unwrap_or_else(|| Engine::new(shared))
    }

    /// Gives back the seat that an engine keeps for lone callers.
    pub(crate) fn vacate(&mut self, engine: &mut Engine<I, O, E>) {
        if engine.seat != NONE {
            drop(self.seats.clear(std::mem::replace(&mut engine.seat, NONE)));
        }
    }

    /// Memory that may be used again; there is no need for more than can run.
    pub(crate) fn put_aside(
        &mut self,
        options: &Options<I, O, E>,
        engine: Engine<I, O, E>,
        after: &mut Aftermath<I, O, E>,
    ) {
        if self.phase == Phase::Open && self.spare.len() < options.max_in_flight {
            self.spare.push(engine);
        } else {
            after.trash.push(Trash::Engine(engine));
        }
    }

    /// Starts a batch of the one item of a caller, if nothing is there that it would have to wait for or might wait with.
    #[inline]
    pub(crate) fn begin_alone(
        &mut self,
        shared: &Arc<Shared<I, O, E>>,
        arrival: &mut Option<Arrival<I>>,
    ) -> Option<Engine<I, O, E>> {
        let options = &shared.options;
        let idle = self.held == self.in_flight && self.phase == Phase::Open && self.permits < self.limit(options);
        if !idle || !options.inline || !self.never_lingers(options) || !self.breaker.lets_start(|| options.now()) {
            return None;
        }
        let fits = |arrival: &mut Arrival<I>| {
            arrival.weight <= options.max_weight && arrival.deadline.is_none() && self.has_room(options, arrival.bytes)
        };
        let Arrival { item, bytes, .. } = arrival.take_if(fits)?;
        let mut engine = self.engine(shared);
        if engine.seat == NONE {
            engine.seat = self.seats.claim(&mut self.inbox.free_seats);
        }
        let (seat, epoch) = (engine.seat, self.epochs.enter());
        self.held += 1;
        self.held_bytes += u64::from(bytes);
        self.kept_bytes += u64::from(bytes);
        self.in_flight += 1;
        self.counts.accepted += 1;
        let core = engine.core();
        core.start_alone(Entry { item: Some(item), reply: None, seat, place: NONE, epoch, bytes });
        self.started(options, core, 0);
        Some(engine)
    }

    /// A caller's own batch was ready at once, and so it has its reply. Whether somebody else has to hear of it.
    #[inline]
    pub(crate) fn end_alone(
        &mut self,
        options: &Options<I, O, E>,
        core: &mut Core<I, O, E>,
        after: &mut Aftermath<I, O, E>,
    ) -> (Reply<O, E>, bool) {
        let (reply, epoch, bytes) = core.end_alone();
        self.permits -= 1;
        self.in_flight -= 1;
        self.held -= 1;
        self.held_bytes -= u64::from(bytes);
        self.kept_bytes -= u64::from(bytes);
        self.counts.batches += 1;
        *(if reply.is_ok() { &mut self.counts.succeeded } else { &mut self.counts.failed }) += 1;
        self.epochs.leave(epoch, reply.is_err(), after);
        let more = self.held != self.in_flight
            || self.phase != Phase::Open
            || !self.timers.is_empty()
            || !self.handed.is_empty();
        if more {
            self.admit(options, after);
        }
        (reply, more)
    }

    fn started(&mut self, options: &Options<I, O, E>, core: &mut Core<I, O, E>, attempt: u32) {
        core.attempt = attempt;
        core.running = true;
        core.began = if options.timed { options.now() } else { 0 };
        self.permits += 1;
        self.breaker.started();
    }

    /// Moves the next batch into `core`, if one may start.
    pub(crate) fn take(
        &mut self,
        options: &Options<I, O, E>,
        core: &mut Core<I, O, E>,
        after: &mut Aftermath<I, O, E>,
    ) -> bool {
        if !self.can_start(options) {
            return false;
        }
        while let Some(group) = self.rested.pop_front() {
            self.take_group(options, group, core, after);
            if !core.entries.is_empty() {
                return true;
            }
        }
        let Some(lane) = self.lanes.take_turn(after) else { return false };
        self.fill(options, lane, core, after);
        self.lanes.after_turn(lane, after);
        self.started(options, core, 0);
        true
    }

    /// How many items of a lane make the next batch.
    fn batch_size(&mut self, options: &Options<I, O, E>, lane: u32) -> usize {
        let there = self.lanes.at(lane).count.min(options.max_batch_items);
        match &options.policy {
            Policy::Preferred { sizes, .. } => sizes.iter().rev().copied().find(|&size| size <= there).unwrap_or(there),
            _ => there,
        }
    }

    fn fill(
        &mut self,
        options: &Options<I, O, E>,
        lane: u32,
        core: &mut Core<I, O, E>,
        after: &mut Aftermath<I, O, E>,
    ) {
        let size = self.batch_size(options, lane);
        let (mut taken, mut weight) = (0, 0);
        while taken < size {
            let Some(id) = self.lanes.first(lane) else { break };
            let item_weight = u64::from(self.arena.at(id).weight);
            let Content::Block(block) = &mut self.arena.at(id).content else {
                if weight + item_weight > u64::from(options.max_weight) && taken > 0 {
                    break;
                }
                weight += item_weight;
                taken += 1;
                core.unpack(|waker| after.wakers.push(waker));
                self.step_out(id);
                let entry = self.start_item(id, after);
                core.entries.push(entry);
                continue;
            };
            // Whole blocks change hands as they are, parts one by one.
            let room = size - taken;
            if block.items.len() <= room && weight + block.weight <= u64::from(options.max_weight) {
                weight += block.weight;
                taken += block.items.len();
                self.in_flight += block.items.len();
                if options.size.is_some() {
                    self.kept_bytes += block.items.iter().map(|queued| u64::from(queued.bytes)).sum::<u64>();
                }
                let block = self.take_block(id);
                core.blocks.push(block);
                continue;
            }
            core.unpack(|waker| after.wakers.push(waker));
            let before = taken;
            while taken < size
                && let Some(queued) = block
                    .items
                    .pop_front_if(|queued| weight + u64::from(queued.weight) <= u64::from(options.max_weight))
            {
                weight += u64::from(queued.weight);
                block.weight -= u64::from(queued.weight);
                self.kept_bytes += u64::from(queued.bytes);
                self.in_flight += 1;
                taken += 1;
                let (entry, waker) = Entry::of(queued);
                if let Some(waker) = waker {
                    after.wake(self.seats.listen(entry.seat, waker));
                }
                core.entries.push(entry);
            }
            if taken == before {
                break;
            }
        }
        self.left(lane, taken);
    }

    /// An item leaves its line for a batch.
    fn start_item(&mut self, id: Id, after: &mut Aftermath<I, O, E>) -> Entry<I, O, E> {
        if self.arena.at(id).caller == Caller::Room {
            self.admitted(id, after);
        }
        let place = self.arena.at(id);
        let Content::Item(item) = std::mem::replace(&mut place.content, Content::Empty) else {
            unreachable!("an item in line is there")
        };
        let (epoch, bytes, seat, caller) = (place.epoch, place.bytes, place.seat, place.caller);
        self.kept_bytes += u64::from(bytes);
        let mut entry = Entry { item: Some(item), reply: None, seat, place: NONE, epoch, bytes };
        if caller == Caller::None {
            self.forget_deadline(id);
            self.arena.release(id);
            self.in_flight += 1;
        } else {
            place.running = true;
            entry.place = id;
            self.unshare(id, after);
            self.in_flight += self.members(id) as usize;
        }
        entry
    }

    /// Items run again, but for those whose callers have left, or been answered, meanwhile.
    fn take_group(
        &mut self,
        options: &Options<I, O, E>,
        group: Group<I, O, E>,
        core: &mut Core<I, O, E>,
        after: &mut Aftermath<I, O, E>,
    ) {
        for mut entry in group.entries {
            after.trash.extend(entry.reply.take().map(Trash::Reply));
            let members = self.members_of(entry.place);
            self.in_flight += members;
            if entry.place != NONE {
                self.arena.at(entry.place).resting = false;
            }
            let presence = if entry.seat == NONE { Presence::Waits } else { self.seats.presence(entry.seat) };
            let shared = entry.seat == NONE && entry.place != NONE;
            if presence == Presence::Waits && (!shared || self.arena.at(entry.place).followers != NONE) {
                core.entries.push(entry);
                continue;
            }
            let answered = presence == Presence::Answered;
            *(if answered { &mut self.counts.failed } else { &mut self.counts.cancelled }) += members as u64;
            self.end_entry(entry, || BatchError::NoReply, after);
        }
        if !core.entries.is_empty() {
            self.started(options, core, group.attempt);
        }
        self.admit(options, after);
    }

    fn members_of(&mut self, id: Id) -> usize {
        if id == NONE { 1 } else { self.members(id) as usize }
    }

    /// Ends what is known of single items of a batch that has run: their deadlines, and who shares them. Returned are the numbers of the
    /// shared ones' entries, which keep their places' numbers as a mark, with the seats and epochs of those who shared them.
    pub(crate) fn detach(&mut self, core: &mut Core<I, O, E>) -> Vec<(usize, Id, u32)> {
        let mut callers = Vec::new();
        for (number, entry) in core.entries.iter_mut().enumerate().filter(|(_, entry)| entry.place != NONE) {
            let id = entry.place;
            self.forget_deadline(id);
            if self.arena.at(id).caller == Caller::Shared {
                let mut follower = std::mem::replace(&mut self.arena.at(id).followers, NONE);
                while follower != NONE {
                    self.forget_deadline(follower);
                    let place = self.arena.at(follower);
                    callers.push((number, place.seat, place.epoch));
                    let next = place.next;
                    place.content = Content::Empty;
                    self.arena.release(follower);
                    follower = next;
                }
                self.held_bytes -= u64::from(entry.bytes);
                self.kept_bytes -= u64::from(entry.bytes);
            } else {
                entry.place = NONE;
            }
            self.arena.release(id);
        }
        callers
    }

    /// A batch has run, and its permit is free: `tally` is of those who were answered, what is left in `core` are items without a caller
    /// that failed.
    #[inline]
    pub(crate) fn settle(
        &mut self,
        options: &Options<I, O, E>,
        core: &mut Core<I, O, E>,
        verdict: Verdict,
        tally: &Tally,
        after: &mut Aftermath<I, O, E>,
    ) {
        core.running = false;
        self.permits -= 1;
        self.counts.batches += 1;
        self.spare_blocks.append(&mut core.blocks);
        if let Some(breaker) = &options.breaker
            && let Some(until) = self.breaker.ended(verdict.failed, breaker, || options.now())
        {
            self.add_timer(options, until, Due::Breaker);
        }
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.ran(verdict.items, core.began, options.now(), self.counts.accepted);
        }
        self.in_flight -= tally.items;
        self.held -= tally.items;
        self.held_bytes -= tally.bytes;
        self.kept_bytes -= tally.bytes;
        self.counts.succeeded += tally.items as u64 - tally.failed;
        self.counts.failed += tally.failed;
        for &(epoch, items, failed) in &tally.epochs {
            self.epochs.leave_many(epoch, items, failed, after);
        }
        for mut entry in core.entries.drain(..) {
            let Some(Err(error)) = entry.reply.take() else { unreachable!("the others are in the tally") };
            self.counts.failed += 1;
            self.in_flight -= 1;
            self.held -= 1;
            self.held_bytes -= u64::from(entry.bytes);
            self.kept_bytes -= u64::from(entry.bytes);
            self.epochs.leave(entry.epoch, true, after);
            after.give_up(entry.item, error);
        }
        if !self.waiting.is_empty() {
            self.admit(options, after);
        }
    }

    /// An item that has left its line ends without another run.
    fn end_entry(
        &mut self,
        mut entry: Entry<I, O, E>,
        error: impl Fn() -> BatchError<E>,
        after: &mut Aftermath<I, O, E>,
    ) {
        after.trash.extend(entry.reply.take().map(Trash::Reply));
        self.held_bytes -= u64::from(entry.bytes);
        self.kept_bytes -= u64::from(entry.bytes);
        let id = entry.place;
        let shared = id != NONE && self.arena.at(id).caller == Caller::Shared;
        if shared {
            self.in_flight -= self.members(id) as usize;
            self.end_followers(id, &error, after);
        } else if entry.seat == NONE {
            after.give_up(entry.item.take(), error());
        } else {
            after.told(self.seats.reply(entry.seat, Err(error())));
        }
        after.trash.extend(entry.item.take().map(Trash::Item));
        if id != NONE {
            self.forget_deadline(id);
            self.arena.release(id);
        }
        if !shared {
            self.in_flight -= 1;
            self.held -= 1;
            self.epochs.leave(entry.epoch, true, after);
        }
    }

    /// Items of a batch that runs no longer wait until they run again, without a permit. With a time to wait they are retries, which have a
    /// budget: those beyond it are given back. Halves take nothing of it.
    pub(crate) fn rest(
        &mut self,
        options: &Options<I, O, E>,
        mut group: Group<I, O, E>,
        wait: Option<Duration>,
    ) -> Vec<Entry<I, O, E>> {
        if self.phase == Phase::Closed {
            return group.entries;
        }
        let mut refused = Vec::new();
        if let Some(retry) = options.retry.as_ref().filter(|_| wait.is_some()) {
            let allowed = retry.allowance(self.retried, self.counts.accepted).min(group.entries.len() as u64);
            refused = group.entries.split_off(allowed as usize);
            self.retried += allowed;
        }
        if group.entries.is_empty() {
            return refused;
        }
        self.counts.reruns += group.entries.len() as u64;
        for entry in &group.entries {
            let members = self.members_of(entry.place);
            self.in_flight -= members;
            if entry.place != NONE {
                self.arena.at(entry.place).resting = true;
            }
        }
        let wait = wait.map_or(0, |wait| wait.as_nanos() as u64);
        if wait == 0 {
            self.rested.push_back(group);
        } else {
            let number = self.groups;
            self.groups += 1;
            self.resting.insert(number, group);
            self.add_timer(options, options.now() + wait, Due::Rerun(number));
        }
        refused
    }

    /// A group's wait is over.
    pub(super) fn rested(&mut self, number: u64) {
        let group = self.resting.remove(&number);
        self.rested.extend(group);
    }

    /// Nothing waits any longer before it runs again, unless that was asked for.
    pub(super) fn cut_rest_short(&mut self) {
        self.rested.extend(self.resting.extract_if(.., |_, group| !group.asked).map(|(_, group)| group));
    }

    /// Whether the item of the caller at this seat waits until it runs again.
    pub(super) fn rests(&self, seat: Id) -> bool {
        let mut groups = self.rested.iter().chain(self.resting.values());
        groups.any(|group| group.entries.iter().any(|entry| entry.seat == seat))
    }

    /// Ends everything that waits to run again: it has failed.
    pub(super) fn end_all_resting(&mut self, after: &mut Aftermath<I, O, E>) {
        self.rested.extend(std::mem::take(&mut self.resting).into_values());
        self.timers.retain(|(_, due)| !matches!(due, Due::Rerun(_)));
        while let Some(group) = self.rested.pop_front() {
            for entry in group.entries {
                let members = self.members_of(entry.place);
                self.in_flight += members;
                self.counts.closed += members as u64;
                if entry.place != NONE {
                    self.arena.at(entry.place).resting = false;
                }
                self.end_entry(entry, || BatchError::Closed { started: true }, after);
            }
        }
    }
}
