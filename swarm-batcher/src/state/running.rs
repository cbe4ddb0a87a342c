//! Batches that start, end, and run again.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::timers::Due;
use super::{Aftermath, Arrival, Phase, State};
use crate::arena::{Caller, Content, Id, NONE};
use crate::engine::{Core, Engine};
use crate::error::{BatchError, Reply};
use crate::handler::Entry;
use crate::options::Options;
use crate::policy::Policy;
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

/// A caller's place, and the batch of its one item, which has started.
type Alone<I, O, E> = (Id, Engine<I, O, E>);

/// Items that nobody waits for and that have outputs, by their epochs.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    pub(crate) items: usize,
    pub(crate) bytes: u64,
    pub(crate) epochs: SmallVec<[(u32, u64); 2]>,
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
            after.engines.push(engine);
        }
    }

    /// Starts a batch of the one item of a caller, if nothing is there that it would have to wait for or might wait with.
    #[inline]
    pub(crate) fn begin_alone(
        &mut self,
        shared: &Arc<Shared<I, O, E>>,
        arrival: Arrival<I>,
    ) -> Result<Alone<I, O, E>, Arrival<I>> {
        let options = &shared.options;
        let idle = self.held == self.in_flight && self.phase == Phase::Open && self.permits < self.limit(options);
        let alone = idle && options.inline && self.never_lingers(options) && self.has_room(options, arrival.bytes);
        if !alone || arrival.weight > options.max_weight || !self.breaker.lets_start(|| options.now()) {
            return Err(arrival);
        }
        let mut engine = self.engine(shared);
        let Arrival { item, waker, deadline, bytes, .. } = arrival;
        let epoch = self.epochs.enter();
        let (id, place) = self.arena.claim();
        place.content = Content::Empty;
        place.waker = waker;
        place.epoch = epoch;
        place.bytes = bytes;
        place.deadline = deadline;
        place.running = true;
        place.caller = Caller::Reply;
        if let Some(deadline) = deadline {
            self.add_timer(options, deadline.get(), Due::Deadline(id));
        }
        self.held += 1;
        self.held_bytes += u64::from(bytes);
        self.kept_bytes += u64::from(bytes);
        self.in_flight += 1;
        self.counts.accepted += 1;
        let core = engine.core();
        core.entries.push(Entry { item: Some(item), reply: None, id, epoch, bytes });
        self.started(options, core, 0);
        Ok((id, engine))
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
        let mut weight = 0;
        while core.entries.len() < size {
            let Some(id) = self.lanes.first(lane) else { break };
            if let Content::Block(block) = &mut self.arena.at(id).content {
                // Whole blocks change hands as they are. Parts go one by one, if they weigh nothing: else what is left would have to be weighed.
                let room = size - core.entries.len();
                let fits = weight + block.weight <= u64::from(options.max_weight);
                if block.entries.len() <= room && (fits || core.entries.is_empty()) {
                    weight += block.weight;
                    let block = std::mem::replace(&mut self.arena.at(id).content, Content::Empty);
                    self.step_out(id);
                    self.arena.release(id);
                    let Content::Block(mut block) = block else { unreachable!("seen above") };
                    self.in_flight += block.entries.len();
                    if options.size.is_some() {
                        self.kept_bytes += block.entries.iter().map(|entry| u64::from(entry.bytes)).sum::<u64>();
                    }
                    if core.entries.is_empty() {
                        let entries = Vec::from(std::mem::take(&mut block.entries));
                        block.entries = std::mem::replace(&mut core.entries, entries).into();
                    } else {
                        core.entries.extend(block.entries.drain(..));
                    }
                    self.spare_blocks.push(block);
                } else if block.weight == 0 || core.entries.is_empty() {
                    let taken = room.min(block.entries.len());
                    self.kept_bytes +=
                        block.entries.iter().take(taken).map(|entry| u64::from(entry.bytes)).sum::<u64>();
                    core.entries.extend(block.entries.drain(..taken));
                    self.in_flight += taken;
                } else {
                    break;
                }
                continue;
            }
            let item_weight = u64::from(self.arena.at(id).weight);
            if weight + item_weight > u64::from(options.max_weight) && !core.entries.is_empty() {
                break;
            }
            weight += item_weight;
            self.step_out(id);
            let entry = self.start_item(id, after);
            core.entries.push(entry);
        }
        self.left(lane, core.entries.len());
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
        let (epoch, bytes, caller) = (place.epoch, place.bytes, place.caller);
        self.kept_bytes += u64::from(bytes);
        let mut entry = Entry { item: Some(item), reply: None, id: NONE, epoch, bytes };
        if caller == Caller::None {
            self.forget_deadline(id);
            self.arena.release(id);
            self.in_flight += 1;
        } else {
            place.running = true;
            entry.id = id;
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
            after.replies.extend(entry.reply.take());
            let members = self.members_of(entry.id);
            self.in_flight += members;
            if entry.id != NONE {
                let place = self.arena.at(entry.id);
                place.resting = false;
                let answered = matches!(place.content, Content::Reply(_));
                let wanted = match place.caller {
                    Caller::Shared => place.followers != NONE,
                    caller => caller == Caller::Reply && !answered,
                };
                if !wanted {
                    let count = if answered { &mut self.counts.failed } else { &mut self.counts.cancelled };
                    *count += members as u64;
                    after.items.extend(entry.item.take());
                    self.end_entry(entry, None, after);
                    continue;
                }
            }
            core.entries.push(entry);
        }
        if !core.entries.is_empty() {
            self.started(options, core, group.attempt);
        }
        self.admit(options, after);
    }

    fn members_of(&mut self, id: Id) -> usize {
        if id == NONE { 1 } else { self.members(id) as usize }
    }

    /// The callers that share the items of a batch that has run: each becomes one of its own, to be answered with a clone. Returned are
    /// the numbers of the entries and the places and epochs of the callers.
    pub(crate) fn part(&mut self, core: &Core<I, O, E>) -> Vec<(usize, Id, u32)> {
        let mut callers = Vec::new();
        for (number, entry) in core.entries.iter().enumerate().filter(|(_, entry)| entry.id != NONE) {
            if self.arena.at(entry.id).caller != Caller::Shared {
                continue;
            }
            let mut follower = std::mem::replace(&mut self.arena.at(entry.id).followers, NONE);
            while follower != NONE {
                let place = self.arena.at(follower);
                place.content = Content::Empty;
                place.running = true;
                callers.push((number, follower, place.epoch));
                follower = place.next;
            }
        }
        callers
    }

    /// So many items that nobody waits for have outputs.
    pub(crate) fn forget(&mut self, done: &Forgotten, after: &mut Aftermath<I, O, E>) {
        self.in_flight -= done.items;
        self.held -= done.items;
        self.held_bytes -= done.bytes;
        self.kept_bytes -= done.bytes;
        self.counts.succeeded += done.items as u64;
        for &(epoch, items) in &done.epochs {
            self.epochs.leave_many(epoch, items, after);
        }
    }

    /// A batch has run: its callers are answered, and its permit is free.
    pub(crate) fn settle(
        &mut self,
        options: &Options<I, O, E>,
        core: &mut Core<I, O, E>,
        verdict: Verdict,
        after: &mut Aftermath<I, O, E>,
    ) {
        core.running = false;
        self.permits -= 1;
        self.counts.batches += 1;
        if let Some(breaker) = &options.breaker
            && let Some(until) = self.breaker.ended(verdict.failed, breaker, || options.now())
        {
            self.add_timer(options, until, Due::Breaker);
        }
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.ran(verdict.items, core.began, options.now(), self.counts.accepted);
        }
        let mut entries = std::mem::take(&mut core.entries);
        for mut entry in entries.drain(..) {
            let reply = entry.reply.take();
            // What is still here has no destructor, or goes to the sink, or failed for want of a budget.
            if std::mem::needs_drop::<I>() {
                after.items.extend(entry.item.take_if(|_| entry.id != NONE || !matches!(reply, Some(Err(_)))));
            }
            let shared = entry.id != NONE && self.arena.at(entry.id).caller == Caller::Shared;
            if !shared {
                let count =
                    if matches!(reply, Some(Ok(_))) { &mut self.counts.succeeded } else { &mut self.counts.failed };
                *count += 1;
            }
            self.end_entry(entry, reply, after);
        }
        core.entries = entries;
        if !self.waiting.is_empty() {
            self.admit(options, after);
        }
    }

    /// An item of a batch has ended, with `reply` for whoever waits for one.
    fn end_entry(&mut self, entry: Entry<I, O, E>, reply: Option<Reply<O, E>>, after: &mut Aftermath<I, O, E>) {
        let Entry { item, id, epoch, bytes, .. } = entry;
        self.held_bytes -= u64::from(bytes);
        self.kept_bytes -= u64::from(bytes);
        let failed = !matches!(reply, Some(Ok(_)));
        if id == NONE {
            match reply {
                Some(Err(error)) => after.give_up(item, error),
                Some(Ok(output)) if std::mem::needs_drop::<O>() => after.replies.push(Ok(output)),
                _ => {}
            }
        } else {
            self.forget_deadline(id);
            let place = self.arena.at(id);
            place.running = false;
            let shared = place.caller == Caller::Shared;
            if place.caller == Caller::Reply {
                if matches!(place.content, Content::Empty) {
                    place.content = reply.map_or(Content::Empty, Content::Reply);
                    after.wake(place.waker.take());
                } else {
                    // Answered before: its deadline has passed, or the batcher was closed.
                    after.replies.extend(reply);
                }
            } else {
                after.replies.extend(reply);
                self.arena.release(id);
            }
            if shared {
                return;
            }
        }
        self.in_flight -= 1;
        self.held -= 1;
        self.epochs.leave(epoch, failed, after);
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
            let members = self.members_of(entry.id);
            self.in_flight -= members;
            if entry.id != NONE {
                self.arena.at(entry.id).resting = true;
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

    /// Nothing waits any longer before it runs again.
    pub(super) fn end_rest(&mut self) {
        self.rested.extend(std::mem::take(&mut self.resting).into_values());
    }

    /// Ends everything that waits to run again: it has failed.
    pub(super) fn end_all_resting(&mut self, after: &mut Aftermath<I, O, E>) {
        self.end_rest();
        while let Some(group) = self.rested.pop_front() {
            for mut entry in group.entries {
                let members = self.members_of(entry.id);
                self.in_flight += members;
                self.counts.closed += members as u64;
                if entry.id == NONE {
                    self.end_entry(entry, Some(Err(BatchError::Closed { started: true })), after);
                    continue;
                }
                after.items.extend(entry.item.take());
                after.replies.extend(entry.reply.take());
                let id = entry.id;
                self.arena.at(id).resting = false;
                let mut follower = std::mem::replace(&mut self.arena.at(id).followers, NONE);
                while follower != NONE {
                    let next = self.arena.at(follower).next;
                    self.in_flight -= 1;
                    self.answer(follower, Err(BatchError::Closed { started: true }), after);
                    follower = next;
                }
                self.end_entry(entry, Some(Err(BatchError::Closed { started: true })), after);
            }
        }
    }

    /// Answers whoever waits for a batch that runs.
    pub(super) fn close_running(&mut self, after: &mut Aftermath<I, O, E>) {
        for id in 0..self.arena.len() {
            let place = self.arena.at(id);
            match place.content {
                Content::Empty if place.running && place.caller == Caller::Reply => {
                    place.content = Content::Reply(Err(BatchError::Closed { started: true }));
                    after.wake(place.waker.take());
                }
                Content::Follows(item) => {
                    self.step_away(id, item);
                    self.counts.closed += 1;
                    self.answer(id, Err(BatchError::Closed { started: true }), after);
                    self.without_follower(item, after);
                }
                _ => {}
            }
        }
    }
}
