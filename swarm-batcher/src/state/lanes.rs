//! The lines: one a lane and level. A lane is there while it has items.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::timers::Due;
use super::{Aftermath, Arrival, State, Taken, Trash};
use crate::arena::{Block, Content, Id, Line, NONE, Queued, Ticket};
use crate::key::AnyKey;
use crate::options::Options;

/// Items of a block at most: whoever leaves it before it starts is looked for.
pub(super) const BLOCK: usize = 128;

/// The lane of a batcher without keys.
pub(crate) const ONLY_LANE: u32 = 0;

pub(super) struct Lanes {
    lanes: Vec<Lane>,
    free: Vec<u32>,
    index: HashTable<u32>,
    /// Lanes with items that may leave, each once, in turn.
    pub(super) ready: VecDeque<u32>,
    levels: usize,
    /// Stays although it may be empty.
    pub(super) pinned: Option<u32>,
}

/// Items of one key. The first `sealed` of them may leave; the other `open` ones linger.
pub(super) struct Lane {
    lines: SmallVec<[Line; 1]>,
    pub(super) count: usize,
    pub(super) sealed: usize,
    open_weight: u64,
    /// When the oldest of the open ones has waited long enough.
    pub(super) timer: Option<u64>,
    in_turn: bool,
    key: Option<(u64, Box<dyn AnyKey>)>,
}

impl Lane {
    fn open(&self) -> usize {
        self.count - self.sealed
    }
}

impl Lanes {
    pub(super) fn new(levels: u8) -> Self {
        let levels = usize::from(levels);
        let mut lanes = Self {
            lanes: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            ready: VecDeque::new(),
            levels,
            pinned: None,
        };
        lanes.make(None);
        lanes
    }

    fn make(&mut self, key: Option<(u64, Box<dyn AnyKey>)>) -> u32 {
        let lines = SmallVec::from_elem(Line::EMPTY, self.levels);
        let lane = Lane { lines, count: 0, sealed: 0, open_weight: 0, timer: None, in_turn: false, key };
        match self.free.pop() {
            Some(free) => {
                self.lanes[free as usize] = lane;
                free
            }
            None => {
                self.lanes.push(lane);
                (self.lanes.len() - 1) as u32
            }
        }
    }

    /// The lane of a key, made if there is none: the key is cloned then, and only then.
    pub(super) fn of(&mut self, hash: u64, key: &dyn AnyKey) -> u32 {
        let lanes = &self.lanes;
        let same = |&lane: &u32| lanes[lane as usize].key.as_ref().is_some_and(|(_, known)| known.same(key));
        if let Some(&lane) = self.index.find(hash, same) {
            return lane;
        }
        let lane = self.make(Some((hash, key.boxed())));
        let lanes = &self.lanes;
        let hash_of = |&lane: &u32| lanes[lane as usize].key.as_ref().map_or(0, |(hash, _)| *hash);
        self.index.insert_unique(hash, lane, hash_of);
        lane
    }

    /// A lane of a key goes when it is empty, so that an idle key takes nothing; if it still has its turn, when that comes.
    pub(super) fn release_if_empty<I, O, E>(&mut self, lane: u32, after: &mut Aftermath<I, O, E>) {
        let place = &mut self.lanes[lane as usize];
        if place.count > 0 || place.in_turn || self.pinned == Some(lane) {
            return;
        }
        if let Some((hash, key)) = place.key.take() {
            place.lines = SmallVec::new();
            let found = self.index.find_entry(hash, |&known| known == lane);
            found.unwrap_or_else(|_| unreachable!("a lane with a key is in the index")).remove();
            self.free.push(lane);
            after.trash.push(Trash::Key(key));
        }
    }

    pub(super) fn at(&mut self, lane: u32) -> &mut Lane {
        &mut self.lanes[lane as usize]
    }

    /// What may leave gets its turn.
    fn line_up(&mut self, lane: u32) {
        let place = &mut self.lanes[lane as usize];
        if place.sealed > 0 && !place.in_turn {
            place.in_turn = true;
            self.ready.push_back(lane);
        }
    }

    /// The lane whose turn it is, if it has anything that may leave.
    pub(super) fn take_turn<I, O, E>(&mut self, after: &mut Aftermath<I, O, E>) -> Option<u32> {
        loop {
            let lane = self.ready.pop_front()?;
            let place = self.at(lane);
            place.in_turn = false;
            if place.sealed > 0 {
                return Some(lane);
            }
            self.release_if_empty(lane, after);
        }
    }

    /// A batch of the lane has left: is there another one?
    pub(super) fn after_turn<I, O, E>(&mut self, lane: u32, after: &mut Aftermath<I, O, E>) {
        self.line_up(lane);
        self.release_if_empty(lane, after);
    }

    /// The first in line of the highest level that has one.
    pub(super) fn first(&self, lane: u32) -> Option<Id> {
        self.lanes[lane as usize].lines.iter().rev().find(|line| !line.is_empty()).map(|line| line.head)
    }

    /// The oldest item of the lowest level: of `lane`, or of another one if it has none.
    pub(super) fn oldest_of_lowest(&self, lane: u32) -> Option<Id> {
        let oldest = |lane: &Lane| lane.lines.iter().find(|line| !line.is_empty()).map(|line| line.head);
        oldest(&self.lanes[lane as usize]).or_else(|| self.lanes.iter().find_map(oldest))
    }

    /// How many lanes there ever were at once.
    pub(super) fn len(&self) -> u32 {
        self.lanes.len() as u32
    }
}

impl<I, O, E> State<I, O, E> {
    pub(crate) fn lane_of(&mut self, hash: u64, key: &dyn AnyKey) -> u32 {
        self.lanes.of(hash, key)
    }

    /// How many items make a batch that need not linger, and how long fewer do.
    fn patience(&self, options: &Options<I, O, E>) -> (usize, u64) {
        if self.phase != super::Phase::Open {
            return (1, 0);
        }
        match &self.adaptive {
            Some(adaptive) if adaptive.linger() == 0 => (1, 0),
            Some(adaptive) => (options.max_batch_items, adaptive.linger()),
            None => (options.seal_at, options.linger),
        }
    }

    /// Whether a lone item leaves at once.
    #[inline]
    pub(super) fn never_lingers(&self, options: &Options<I, O, E>) -> bool {
        self.patience(options).0 <= 1
    }

    /// How many more items of no weight in the lane change nothing for anybody: others linger already, or all permits are taken and what
    /// comes has its turn when one is free.
    #[inline]
    pub(super) fn changes_nothing(&self, options: &Options<I, O, E>, lane: u32) -> usize {
        let lane = &self.lanes.lanes[lane as usize];
        let (seal_at, _) = self.patience(options);
        if seal_at <= 1 {
            return if self.permits >= self.limit(options) { usize::MAX } else { 0 };
        }
        if lane.timer.is_some() { (seal_at - 1).saturating_sub(lane.open()) } else { 0 }
    }

    /// A block stands at the end of the only line.
    pub(super) fn put_block(&mut self, options: &Options<I, O, E>, id: Id, block: Box<Block<I>>) {
        let items = block.items.len();
        let place = self.arena.at(id);
        place.content = Content::Block(block);
        (place.lane, place.level) = (ONLY_LANE, 0);
        self.lanes.lanes[ONLY_LANE as usize].lines[0].push(&mut self.arena, id);
        self.joined(options, ONLY_LANE, items, 0, None);
    }

    /// An item of which nothing is special joins those at the end of the line that are like it, if there is room beside them.
    #[inline]
    pub(super) fn put_to_others(&mut self, options: &Options<I, O, E>, lane_id: u32, arrival: Arrival<I>) -> Taken {
        let Arrival { item, called, level, weight, bytes, .. } = arrival;
        let seat = if called { self.seats.claim(&mut self.inbox.free_seats) } else { NONE };
        let queued = Queued { item, seat, waker: None, epoch: self.epochs.enter(), weight, bytes };
        self.held_bytes += u64::from(bytes);
        let line = self.lanes.lanes[lane_id as usize].lines[usize::from(level)];
        let last = (!line.is_empty()).then(|| self.arena.at(line.last()));
        let place = match last.map(|last| &mut last.content) {
            Some(Content::Block(block))
                if block.items.len() < options.max_batch_items.min(BLOCK)
                    && block.weight + u64::from(weight) <= u64::from(options.max_weight) =>
            {
                block.items.push_back(queued);
                block.weight += u64::from(weight);
                line.last()
            }
            _ => {
                let mut block = self.spare_blocks.pop().unwrap_or_default();
                block.items.push_back(queued);
                block.weight = u64::from(weight);
                let (id, place) = self.arena.claim();
                place.content = Content::Block(block);
                (place.lane, place.level) = (lane_id, level);
                self.lanes.lanes[lane_id as usize].lines[usize::from(level)].push(&mut self.arena, id);
                id
            }
        };
        self.joined(options, lane_id, 1, weight, None);
        if called { Taken::InLine(Ticket { seat, place }) } else { Taken::Forgotten }
    }

    /// Takes one out of those that lie together at a place; nothing if it is not such a place.
    pub(super) fn leave_block(&mut self, id: Id, position: usize, after: &mut Aftermath<I, O, E>) -> Option<Queued<I>> {
        let place = self.arena.at(id);
        let (lane, Content::Block(block)) = (place.lane, &mut place.content) else { return None };
        let queued = block.items.remove(position).expect("it is there");
        block.weight -= u64::from(queued.weight);
        if block.items.is_empty() {
            let block = self.take_block(id);
            self.spare_blocks.push(block);
        }
        self.one_left(lane, queued.weight);
        self.lanes.release_if_empty(lane, after);
        Some(queued)
    }

    /// Takes a whole block out of its line. Its lane's counts are for the caller to keep.
    pub(super) fn take_block(&mut self, id: Id) -> Box<Block<I>> {
        self.step_out(id);
        let content = std::mem::replace(&mut self.arena.at(id).content, Content::Empty);
        self.arena.release(id);
        match content {
            Content::Block(block) => block,
            _ => unreachable!("a block was asked for"),
        }
    }

    /// An item joins the end of its line.
    #[inline]
    pub(super) fn join_line(&mut self, options: &Options<I, O, E>, id: Id, weight: u32, deadline: Option<NonZeroU64>) {
        let place = self.arena.at(id);
        let (lane_id, level) = (place.lane, place.level);
        self.lanes.lanes[lane_id as usize].lines[usize::from(level)].push(&mut self.arena, id);
        self.joined(options, lane_id, 1, weight, deadline);
    }

    /// A lane has more items.
    #[inline]
    fn joined(
        &mut self,
        options: &Options<I, O, E>,
        lane_id: u32,
        items: usize,
        weight: u32,
        deadline: Option<NonZeroU64>,
    ) {
        let (seal_at, linger) = self.patience(options);
        let lane = &mut self.lanes.lanes[lane_id as usize];
        lane.count += items;
        lane.open_weight += u64::from(weight);
        if lane.open() >= seal_at || lane.open_weight >= u64::from(options.max_weight) {
            self.seal(lane_id);
        } else if lane.timer.is_none() || deadline.is_some() {
            self.hasten(options, lane_id, linger, deadline);
        }
    }

    /// What lingers in the lane leaves when `linger` has passed, or half of the time until `deadline`, if that is sooner than it would have.
    pub(super) fn hasten(
        &mut self,
        options: &Options<I, O, E>,
        lane_id: u32,
        linger: u64,
        deadline: Option<NonZeroU64>,
    ) {
        let now = options.now();
        let due = now + deadline.map_or(linger, |deadline| linger.min(deadline.get().saturating_sub(now) / 2));
        let lane = self.lanes.at(lane_id);
        if lane.open() > 0 && lane.timer.is_none_or(|timer| due < timer) {
            if let Some(timer) = lane.timer.replace(due) {
                self.timers.remove(&(timer, Due::Lane(lane_id)));
            }
            self.add_timer(options, due, Due::Lane(lane_id));
        }
    }

    /// Takes an item out of its line, wherever it stands.
    pub(super) fn leave_line(&mut self, id: Id, after: &mut Aftermath<I, O, E>) -> I {
        let place = self.arena.at(id);
        let Content::Item(item) = std::mem::replace(&mut place.content, Content::Empty) else {
            unreachable!("an item in line is there")
        };
        let (lane_id, level, weight) = (place.lane, place.level, place.weight);
        self.lanes.lanes[lane_id as usize].lines[usize::from(level)].remove(&mut self.arena, id);
        self.one_left(lane_id, weight);
        self.unshare(id, after);
        self.lanes.release_if_empty(lane_id, after);
        item
    }

    /// A lane has one fewer item. Which part it stood in is not known: taken for one of the open ones, others leave earlier, never later.
    fn one_left(&mut self, lane_id: u32, weight: u32) {
        let lane = self.lanes.at(lane_id);
        if lane.open() > 0 {
            lane.open_weight = lane.open_weight.saturating_sub(u64::from(weight));
        } else {
            lane.sealed -= 1;
        }
        lane.count -= 1;
        if lane.open() == 0 {
            self.stop_lingering(lane_id);
        }
    }

    /// A batch has taken `taken` items out of the lane, of which the sealed ones went first; but where there are levels, open ones may have
    /// overtaken them: taken for those, others leave earlier, never later.
    pub(super) fn left(&mut self, lane_id: u32, taken: usize) {
        let overtakes = self.lanes.levels > 1;
        let lane = self.lanes.at(lane_id);
        let sealed = if overtakes { taken.saturating_sub(lane.open()) } else { taken };
        lane.count -= taken;
        lane.sealed = lane.sealed.saturating_sub(sealed);
        if lane.open() == 0 {
            self.stop_lingering(lane_id);
        }
    }

    /// Takes an item out of its line while its lane's counts are kept by the caller.
    #[inline]
    pub(super) fn step_out(&mut self, id: Id) {
        let place = self.arena.at(id);
        let (lane, level) = (place.lane, place.level);
        self.lanes.lanes[lane as usize].lines[usize::from(level)].remove(&mut self.arena, id);
    }

    fn stop_lingering(&mut self, lane_id: u32) {
        let lane = self.lanes.at(lane_id);
        lane.open_weight = 0;
        if let Some(timer) = lane.timer.take() {
            self.timers.remove(&(timer, Due::Lane(lane_id)));
        }
    }

    /// What lingers in the lane may leave.
    pub(super) fn seal(&mut self, lane_id: u32) {
        let lane = self.lanes.at(lane_id);
        lane.sealed = lane.count;
        self.stop_lingering(lane_id);
        self.lanes.line_up(lane_id);
    }

    /// Nothing lingers.
    pub(super) fn seal_all(&mut self) {
        for lane in 0..self.lanes.lanes.len() {
            self.seal(lane as u32);
        }
    }
}
