//! Calls with equal items share one: it runs once, and each gets a clone of the reply.

use std::num::NonZeroU64;

use hashbrown::{HashMap, HashTable};

use super::timers::Due;
use super::{Aftermath, Arrival, State, Taken, Trash};
use crate::arena::{Caller, Content, Id, NONE, Ticket};
use crate::error::{BatchError, Reason};
use crate::key::AnyKey;
use crate::options::Options;
use crate::policy::OnFull;

/// The item that a call shares, or the hash and the key by which others may share its own.
pub(crate) type ShareKey = Result<Id, (u64, Box<dyn AnyKey>)>;

/// The shared items that have not started.
#[derive(Default)]
pub(super) struct Shares {
    index: HashTable<Share>,
    hashes: HashMap<Id, u64, foldhash::fast::RandomState>,
}

struct Share {
    hash: u64,
    lane: u32,
    key: Box<dyn AnyKey>,
    item: Id,
}

impl<I, O, E> State<I, O, E> {
    /// The item in the lane that calls of this key share, if there is one.
    pub(crate) fn shared_item(&self, lane: u32, hash: u64, key: &dyn AnyKey) -> Option<Id> {
        let same = |share: &Share| share.lane == lane && share.key.same(key);
        self.shares.index.find(hash, same).map(|share| share.item)
    }

    /// Takes a call whose item others may share.
    pub(crate) fn accept_shared(
        &mut self,
        options: &Options<I, O, E>,
        lane: u32,
        arrival: Arrival<I>,
        share: ShareKey,
        after: &mut Aftermath<I, O, E>,
    ) -> Result<Taken, (I, Reason)> {
        if let Some(reason) = self.refuses_share(options, lane, &arrival, share.is_err(), after) {
            self.refuse(lane, after);
            after.trash.extend(share.err().map(|(_, key)| Trash::Key(key)));
            return Err((arrival.item, reason));
        }
        let deadline = arrival.deadline;
        let item = match share {
            Ok(item) => {
                after.drop_item(arrival.item);
                self.counts.coalesced += 1;
                item
            }
            Err((hash, key)) => {
                let arrival = Arrival { called: false, deadline: None, ..arrival };
                let item = self.put(options, lane, arrival, Caller::Shared);
                self.shares.hashes.insert(item, hash);
                self.shares.index.insert_unique(hash, Share { hash, lane, key, item }, |share| share.hash);
                item
            }
        };
        let ticket = self.follow(options, item, deadline);
        self.counts.accepted += 1;
        self.held += 1;
        Ok(Taken::InLine(ticket))
    }

    fn refuses_share(
        &mut self,
        options: &Options<I, O, E>,
        lane: u32,
        arrival: &Arrival<I>,
        is_first: bool,
        after: &mut Aftermath<I, O, E>,
    ) -> Option<Reason> {
        self.objection(options, arrival).or_else(|| {
            // Shedding might end the very item that is to be shared: only the first of its kind makes room.
            let room = self.waiting.is_empty() && self.has_room(options, arrival.bytes);
            let room = room || (is_first && self.make_room(options, lane, arrival, after));
            let waits = options.on_full == OnFull::Wait && arrival.waits;
            (!room && !waits).then_some(Reason::Full)
        })
    }

    /// A caller's place among those that share an item.
    fn follow(&mut self, options: &Options<I, O, E>, item: Id, deadline: Option<NonZeroU64>) -> Ticket {
        let epoch = self.epochs.enter();
        let seat = self.seats.claim(&mut self.inbox.free_seats);
        let (id, place) = self.arena.claim();
        place.content = Content::Follows(item);
        place.caller = Caller::Reply;
        place.epoch = epoch;
        place.seat = seat;
        place.deadline = deadline;
        if let Some(deadline) = deadline {
            self.add_timer(options, deadline.get(), Due::Deadline(id));
            let lane = self.arena.at(item).lane;
            self.hasten(options, lane, u64::MAX / 4, Some(deadline));
        }
        let first = std::mem::replace(&mut self.arena.at(item).followers, id);
        self.arena.at(id).next = first;
        if first != NONE {
            self.arena.at(first).previous = id;
        }
        Ticket { seat, place: id }
    }

    /// Takes a caller from among those that share an item, in line or running.
    pub(super) fn step_away(&mut self, id: Id, item: Id) {
        let place = self.arena.at(id);
        place.content = Content::Empty;
        let (previous, next) = (place.previous, place.next);
        (place.previous, place.next) = (NONE, NONE);
        match previous {
            NONE => self.arena.at(item).followers = next,
            previous => self.arena.at(previous).next = next,
        }
        if next != NONE {
            self.arena.at(next).previous = previous;
        }
    }

    /// Ends all who share an item.
    pub(super) fn end_followers(
        &mut self,
        item: Id,
        error: impl Fn() -> BatchError<E>,
        after: &mut Aftermath<I, O, E>,
    ) {
        loop {
            let follower = self.arena.at(item).followers;
            if follower == NONE {
                return;
            }
            self.step_away(follower, item);
            self.end_follower(follower, error(), after);
        }
    }

    /// Ends one that no longer shares an item.
    pub(super) fn end_follower(&mut self, id: Id, error: BatchError<E>, after: &mut Aftermath<I, O, E>) {
        self.forget_deadline(id);
        let place = self.arena.at(id);
        let (seat, epoch) = (place.seat, place.epoch);
        self.arena.release(id);
        after.told(self.seats.reply(seat, Err(error)));
        self.held -= 1;
        self.epochs.leave(epoch, true, after);
    }

    /// A caller that shares an item goes away; the last one takes an item that has not started along.
    pub(super) fn unfollow(&mut self, id: Id, item: Id, after: &mut Aftermath<I, O, E>) {
        self.step_away(id, item);
        self.forget_deadline(id);
        let epoch = self.arena.at(id).epoch;
        self.arena.release(id);
        self.held -= 1;
        self.counts.cancelled += 1;
        self.epochs.leave(epoch, true, after);
        self.without_follower(item, after);
    }

    /// One fewer shares an item.
    pub(super) fn without_follower(&mut self, item: Id, after: &mut Aftermath<I, O, E>) {
        let place = self.arena.at(item);
        if place.running {
            self.in_flight -= usize::from(!place.resting);
        } else if place.followers == NONE {
            self.withdraw(item, after);
        }
    }

    /// No more calls share an item: it starts, or ends.
    pub(super) fn unshare(&mut self, item: Id, after: &mut Aftermath<I, O, E>) {
        if self.shares.hashes.is_empty() {
            return;
        }
        if let Some(hash) = self.shares.hashes.remove(&item) {
            let found = self.shares.index.find_entry(hash, |share| share.item == item);
            let share = found.unwrap_or_else(|_| unreachable!("a shared item is in the index")).remove().0;
            after.trash.push(Trash::Key(share.key));
        }
    }

    /// How many callers an item has; one that was given to be forgotten counts as one.
    pub(super) fn members(&mut self, item: Id) -> u64 {
        let place = self.arena.at(item);
        if place.caller != Caller::Shared {
            return 1;
        }
        let (mut follower, mut members) = (place.followers, 0);
        while follower != NONE {
            members += 1;
            follower = self.arena.at(follower).next;
        }
        members
    }
}
