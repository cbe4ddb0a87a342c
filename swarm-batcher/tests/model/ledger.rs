//! What has become of every item, written down from what handlers, callers and sinks are seen to get, and what of it is allowed. Where time
//! decides, or the order of lanes, the ledger follows; it says what may happen, and what may not be left undone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use swarm_batcher::{BatchError, OnFull, Policy, Reason, Stats};

use crate::configuration::{Configuration, bytes_of, is_retryable, weight_of};
use crate::support::End;

pub(crate) type Reply = Result<u64, BatchError<String>>;
/// What a caller was told: nothing but that there is room, if it pushed.
pub(crate) type Told = Result<Option<u64>, BatchError<String>>;

/// An item as it was given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    pub(crate) item: u64,
    pub(crate) called: bool,
    /// Whether whoever gives it waits if there is no room.
    pub(crate) waits: bool,
    pub(crate) level: u8,
    /// Its deadline is so near that it may pass at any time.
    pub(crate) hasty: bool,
    /// Before it was given.
    pub(crate) at: Instant,
}

/// What runs: an item, and the callers that share it.
#[derive(Debug)]
struct Entry {
    given: Given,
    /// Who waits for its reply, and those of them whose deadline is near.
    callers: BTreeSet<u64>,
    hasty: BTreeSet<u64>,
    stage: Stage,
    runs: u32,
    /// How often it was retried; halves do not count.
    retried: u32,
    /// May leave, however few there are.
    hastened: bool,
}

impl Entry {
    /// Its time in line is nearly over, for one of its callers at least.
    fn is_hasty(&self) -> bool {
        !self.hasty.is_empty() || (!self.given.called && self.given.hasty)
    }

    fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Over(_) | Stage::Gone)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    InLine,
    Running,
    /// It failed, and runs again.
    Rests,
    Over(Reply),
    /// It never ran, or was given up before it ran again.
    Gone,
}

/// Items that failed and run again.
#[derive(Debug)]
enum Group {
    Retried(Vec<u64>),
    /// The rest of a batch that is halved: no part has more than so many.
    Halved(Vec<u64>, usize),
}

impl Group {
    fn items(&self) -> &[u64] {
        match self {
            Self::Retried(items) | Self::Halved(items, _) => items,
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    accepted: u64,
    well: u64,
    expired: u64,
    shed: u64,
    letters: u64,
    /// Left in line; and left at all, or told of a deadline and not waited any longer.
    left_in_line: u64,
    left: u64,
    started: u64,
    retried: u64,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    configuration: Configuration,
    entries: BTreeMap<u64, Entry>,
    /// Whose entry a caller shares.
    shares: BTreeMap<u64, u64>,
    /// By lane and level.
    lines: BTreeMap<u64, Vec<VecDeque<u64>>>,
    running: Vec<Vec<u64>>,
    groups: Vec<Group>,
    /// Pushes that wait for room, in order.
    waiting: VecDeque<u64>,
    /// Letters that the sink has to get.
    letters_due: BTreeSet<u64>,
    counts: Counts,
    draining: bool,
    closed: bool,
    /// Items or callers have left their lines otherwise than for a batch: others may then leave earlier than they would have.
    disturbed: bool,
}

impl Ledger {
    pub(crate) fn new(configuration: Configuration) -> Self {
        Self {
            configuration,
            entries: BTreeMap::new(),
            shares: BTreeMap::new(),
            lines: BTreeMap::new(),
            running: Vec::new(),
            groups: Vec::new(),
            waiting: VecDeque::new(),
            letters_due: BTreeSet::new(),
            counts: Counts::default(),
            draining: false,
            closed: false,
            disturbed: false,
        }
    }

    pub(crate) fn draining(&mut self) {
        self.draining = true;
    }

    pub(crate) fn closed(&mut self) {
        (self.draining, self.closed) = (true, true);
    }

    /// Nothing that is in line lingers on.
    pub(crate) fn flushed(&mut self) -> Vec<u64> {
        let in_line: Vec<_> = self.in_line().collect();
        for item in in_line {
            self.entry(item).hastened = true;
        }
        self.entries.keys().chain(self.shares.keys()).copied().filter(|&item| !self.is_over(item)).collect()
    }

    /// Whether nothing more becomes of an item, so that who waits for that is told.
    pub(crate) fn is_over(&self, item: u64) -> bool {
        let entry = &self.entries[self.shares.get(&item).unwrap_or(&item)];
        !entry.callers.contains(&item) && !self.waiting.contains(&item) && entry.has_ended()
    }

    /// Whether who waits for that may be told: what is shared may run on for others, and what was to run again and is not wanted any more is
    /// given up at a time that is not seen.
    pub(crate) fn may_be_over(&self, item: u64) -> bool {
        let entry = &self.entries[self.shares.get(&item).unwrap_or(&item)];
        let answered = entry.given.called && !entry.callers.contains(&item);
        let given_up = entry.stage == Stage::Rests && entry.callers.is_empty();
        self.is_over(item) || (answered && (given_up || self.configuration.shares.is_some()))
    }

    fn entry(&mut self, item: u64) -> &mut Entry {
        self.entries.get_mut(&item).expect("it was given")
    }

    fn in_line(&self) -> impl Iterator<Item = u64> {
        self.lines.values().flatten().flatten().copied()
    }

    fn bytes_held(&self) -> u64 {
        let held = self.entries.iter().filter(|(item, entry)| !entry.has_ended() && !self.waiting.contains(item));
        held.map(|(&item, _)| u64::from(bytes_of(item))).sum()
    }

    /// Whether there is room for an item, as far as that is told: how the bytes of shared items count is not.
    fn has_room(&self, item: u64, stats: Stats) -> Option<bool> {
        let held = (stats.queued + stats.in_flight) as usize - self.waiting.len();
        let Some(max_bytes) = self.configuration.max_bytes else { return Some(held < self.configuration.max_items) };
        if self.configuration.shares.is_some() || self.groups.iter().any(|group| !self.is_wanted(group)) {
            return None;
        }
        let bytes = self.bytes_held();
        let fits = bytes == 0 || bytes + u64::from(bytes_of(item)) <= max_bytes;
        Some(held < self.configuration.max_items && fits)
    }

    /// An item was given. `before` is what the batcher counted then; `shed` are those that it shed for this one.
    pub(crate) fn give(&mut self, given: Given, outcome: Result<(), Reason>, before: Stats, shed: Vec<u64>) {
        let Given { item, level, called, .. } = given;
        let lane = self.configuration.key_of(item);
        let too_heavy = self.configuration.max_weight.is_some_and(|max| weight_of(item) > max);
        let room = self.has_room(item, before).map(|room| room && self.waiting.is_empty());
        let none_in_line = self.in_line().next().is_none();
        let sheds = self.configuration.on_full == OnFull::ShedOldest;
        let may_wait = self.configuration.on_full == OnFull::Wait && given.waits;
        assert!(shed.is_empty() || (sheds && outcome.is_ok() && room != Some(true)), "{shed:?} were shed");
        match outcome {
            Ok(()) if sheds && room == Some(false) => assert!(!shed.is_empty(), "nothing was shed for {item}"),
            Ok(()) => assert!(room != Some(false) || may_wait, "there is no room for {item}"),
            Err(Reason::Closed) => assert!(self.draining, "it is open"),
            Err(Reason::TooHeavy) => assert!(too_heavy, "{item} is not too heavy"),
            Err(Reason::Full) => {
                assert!(room != Some(true), "there is room for {item}");
                assert!(!may_wait, "{item} waits");
                let only_items = self.configuration.max_bytes.is_none() && self.configuration.shares.is_none();
                let could_shed = sheds && !none_in_line && only_items && self.groups.is_empty();
                assert!(!could_shed || before.in_flight as usize >= self.configuration.max_items, "none was shed");
            }
            Err(reason) => panic!("{item} is refused: {reason}"),
        }
        if outcome.is_err() {
            return;
        }
        assert!(!too_heavy && !self.draining, "{item} was taken");
        self.shed(lane, shed);
        self.counts.accepted += 1;
        if called && let Some(first) = self.shared_with(lane, item) {
            self.shares.insert(item, first);
            let entry = self.entry(first);
            entry.callers.insert(item);
            entry.hasty.extend(given.hasty.then_some(item));
            return;
        }
        let levels = usize::from(self.configuration.levels);
        let lines = self.lines.entry(lane).or_insert_with(|| vec![VecDeque::new(); levels]);
        lines[usize::from(level)].push_back(item);
        let entry = Entry {
            given,
            callers: called.then_some(item).into_iter().collect(),
            hasty: (called && given.hasty).then_some(item).into_iter().collect(),
            stage: Stage::InLine,
            runs: 0,
            retried: 0,
            hastened: false,
        };
        self.entries.insert(item, entry);
    }

    /// The entry in line that a call shares.
    fn shared_with(&self, lane: u64, item: u64) -> Option<u64> {
        let share = self.configuration.share_of(item)?;
        let lines = self.lines.get(&lane)?;
        let alike =
            |&first: &u64| self.entries[&first].given.called && self.configuration.share_of(first) == Some(share);
        lines.iter().flatten().copied().find(alike)
    }

    /// A push waits for room.
    pub(crate) fn waits(&mut self, item: u64) {
        self.waiting.push_back(item);
    }

    /// What is shed is the oldest of the lowest level, of the lane that needs the room if it has any.
    fn shed(&mut self, lane: u64, mut shed: Vec<u64>) {
        let oldest = |lines: &Vec<VecDeque<u64>>| lines.iter().find_map(|line| line.front().copied());
        while !shed.is_empty() {
            let own = self.lines.get(&lane).and_then(oldest);
            let candidates: Vec<_> =
                own.map_or_else(|| self.lines.values().filter_map(oldest).collect(), |own| vec![own]);
            let place = shed.iter().position(|item| candidates.contains(self.shares.get(item).unwrap_or(item)));
            let item = shed.swap_remove(place.unwrap_or_else(|| panic!("{shed:?} are shed, not {candidates:?}")));
            let first = *self.shares.get(&item).unwrap_or(&item);
            self.counts.shed += 1;
            let callers = std::mem::take(&mut self.entry(first).callers);
            for other in callers.into_iter().filter(|&other| other != item) {
                let place = shed.iter().position(|&shed| shed == other);
                shed.swap_remove(place.unwrap_or_else(|| panic!("{other} shares {first}, which was shed")));
                self.counts.shed += 1;
            }
            self.leaves_line(first);
        }
    }

    fn leaves_line(&mut self, item: u64) {
        let lines = self.lines.values_mut().flatten();
        lines.for_each(|line| line.retain(|&other| other != item));
        self.waiting.retain(|&waiting| waiting != item);
        self.entry(item).stage = Stage::Gone;
        self.disturbed = true;
    }

    /// A batch has started.
    pub(crate) fn start(&mut self, items: &[u64]) {
        let limit = self.configuration.max_in_flight;
        assert!(self.running.len() < limit, "{items:?} run beside {:?}", self.running);
        assert!((1..=self.configuration.max_batch).contains(&items.len()), "{items:?}");
        if let Some(max) = self.configuration.max_weight {
            assert!(items.iter().map(|&item| weight_of(item)).sum::<u32>() <= max, "{items:?} weigh too much");
        }
        let lane = self.configuration.key_of(items[0]);
        assert!(items.iter().all(|&item| self.configuration.key_of(item) == lane), "{items:?} are of several keys");
        match self.entries[&items[0]].stage {
            Stage::InLine => self.start_line(lane, items),
            _ => self.start_group(items),
        }
        for item in items {
            let entry = self.entry(*item);
            entry.stage = Stage::Running;
            entry.runs += 1;
        }
        self.counts.started += 1;
        self.running.push(items.to_vec());
    }

    /// Those that have waited longest in the highest levels of a lane.
    fn start_line(&mut self, lane: u64, items: &[u64]) {
        let lines = self.lines.get_mut(&lane).expect("it has items in line");
        let there: Vec<_> = lines.iter().rev().flatten().copied().collect();
        assert!(there.starts_with(items), "{items:?} start, first in line are {there:?}");
        lines.iter_mut().for_each(|line| line.retain(|item| !items.contains(item)));
        self.waiting.retain(|waiting| !items.contains(waiting));
        let most = there.len().min(self.configuration.max_batch);
        let least = match &self.configuration.policy {
            Policy::Preferred { sizes, .. } => sizes.iter().rfind(|&&size| size <= most).copied().unwrap_or(most),
            _ => most,
        };
        assert!(self.configuration.max_weight.is_some() || items.len() >= least, "{items:?} of {there:?}");
        let (enough, linger) = self.configuration.patience();
        let oldest = items.iter().map(|item| self.entries[item].given.at).min().expect("a batch has items");
        let hastened = items.iter().any(|item| self.entries[item].hastened || self.entries[item].is_hasty());
        // Behind a batch that ran, some may have been enough before this one took the rest.
        let may_leave = self.draining || self.disturbed || hastened || self.configuration.max_weight.is_some();
        let lingered = oldest.elapsed() >= linger;
        assert!(
            may_leave || items.len() >= enough || lingered || self.counts.started > 0,
            "{items:?} did not linger: {:?}",
            self.configuration
        );
    }

    /// Items that ran before, and whose policy says that they run again.
    fn start_group(&mut self, items: &[u64]) {
        let wanted = |ledger: &Self, group: &[u64]| -> Vec<u64> {
            group.iter().copied().filter(|&item| ledger.entry_is_wanted(item)).collect()
        };
        let place = self.groups.iter().position(|group| match group {
            Group::Retried(all) => wanted(self, all) == items,
            Group::Halved(all, most) => items.len() <= *most && items.iter().all(|item| all.contains(item)),
        });
        let place = place.unwrap_or_else(|| panic!("{items:?} ran before, and may not run again"));
        match &mut self.groups[place] {
            Group::Retried(all) => {
                let unwanted: Vec<_> = all.iter().copied().filter(|item| !items.contains(item)).collect();
                self.groups.remove(place);
                for item in unwanted {
                    self.entry(item).stage = Stage::Gone;
                }
            }
            Group::Halved(all, _) => all.retain(|item| !items.contains(item)),
        }
    }

    fn entry_is_wanted(&self, item: u64) -> bool {
        let entry = &self.entries[&item];
        entry.stage == Stage::Rests && (!entry.given.called || !entry.callers.is_empty())
    }

    fn is_wanted(&self, group: &Group) -> bool {
        group.items().iter().all(|&item| self.entry_is_wanted(item))
    }

    /// A batch has ended.
    pub(crate) fn end(&mut self, items: &[u64], end: &End) {
        let place = self.running.iter().position(|running| running == items).expect("it runs");
        self.running.remove(place);
        let outcomes = end.outcomes(items);
        let whole = outcomes.iter().all(Result::is_err);
        for (&item, outcome) in items.iter().zip(outcomes) {
            self.entry(item).stage = Stage::Over(outcome);
        }
        let retried = self.retried(items);
        if !retried.is_empty() {
            self.counts.retried += retried.len() as u64;
            for &item in &retried {
                self.entry(item).retried += 1;
            }
            self.rest(Group::Retried(retried));
        } else if self.configuration.bisect && whole && items.len() > 1 && !self.closed {
            self.rest(Group::Halved(items.to_vec(), items.len().div_ceil(2)));
        }
        for &item in items {
            let entry = &self.entries[&item];
            match &entry.stage {
                Stage::Over(Ok(_)) if !entry.given.called => self.counts.well += 1,
                Stage::Over(Err(_)) if !entry.given.called => drop(self.letters_due.insert(item)),
                _ => {}
            }
        }
    }

    /// Those of a batch that are retried: the policy says so, and the budget is not exhausted.
    fn retried(&self, items: &[u64]) -> Vec<u64> {
        let Some(retry) = self.configuration.retry.filter(|_| !self.closed) else { return Vec::new() };
        let allowed = 10.0 + retry.budget * self.counts.accepted as f64 - self.counts.retried as f64;
        let is_retried = |item: &u64| {
            let entry = &self.entries[item];
            let may = match &entry.stage {
                Stage::Over(Err(BatchError::Handler(error))) => is_retryable(error),
                Stage::Over(Err(_)) => retry.faults,
                _ => false,
            };
            may && self.attempts(items) < retry.retries
        };
        items.iter().copied().filter(is_retried).take(allowed as usize).collect()
    }

    /// How often a batch was retried: those in it always were so together.
    fn attempts(&self, items: &[u64]) -> u32 {
        self.entries[&items[0]].retried
    }

    fn rest(&mut self, group: Group) {
        for &item in group.items() {
            self.entries.get_mut(&item).expect("it was given").stage = Stage::Rests;
        }
        self.groups.push(group);
    }

    /// The runtime was dropped: nothing is left that would run anything.
    pub(crate) fn runtime_dropped(&mut self) {
        let closed = |started| Err(BatchError::Closed { started });
        for (&item, entry) in &mut self.entries {
            let stage = match entry.stage {
                Stage::InLine => Stage::Over(closed(false)),
                Stage::Running | Stage::Rests => Stage::Over(closed(true)),
                Stage::Over(_) | Stage::Gone => continue,
            };
            entry.stage = stage;
            if !entry.given.called && !self.waiting.contains(&item) {
                self.letters_due.insert(item);
            }
        }
        self.lines.clear();
        self.running.clear();
        self.groups.clear();
    }

    /// A caller was told something.
    pub(crate) fn told(&mut self, item: u64, told: Told) {
        let first = *self.shares.get(&item).unwrap_or(&item);
        let (closed, entry) = (self.closed, self.entries.get_mut(&first).expect("it was given"));
        if !entry.given.called {
            return self.told_of_room(item, &told);
        }
        assert!(entry.callers.remove(&item), "{item} is told twice");
        let started = entry.runs > 0;
        let hasty = entry.hasty.remove(&item);
        match (told, &entry.stage) {
            (Ok(reply), Stage::Over(Ok(own))) if reply == Some(*own) => self.counts.well += 1,
            (Err(error), Stage::Over(Err(own))) if error == *own => {}
            (Err(BatchError::Deadline { started: told }), _) if hasty && told == started => {
                self.counts.expired += u64::from(!started);
                self.disturbed = true;
            }
            (Err(BatchError::Closed { started: told }), _) if closed && told == started => {}
            (told, stage) => panic!("{item} is told {told:?}, but it is {stage:?}"),
        }
        if entry.callers.is_empty() && entry.stage == Stage::InLine {
            self.leaves_line(first);
        }
    }

    /// Who pushed was let in, or not.
    fn told_of_room(&mut self, item: u64, told: &Told) {
        let place = self.waiting.iter().position(|&waiting| waiting == item);
        match told {
            Ok(None) => {
                assert!(place.unwrap_or(0) == 0, "{item} is let in before {:?}", self.waiting);
                self.waiting.retain(|&waiting| waiting != item);
                if matches!(self.entries[&item].stage, Stage::Over(Err(_))) {
                    self.letters_due.insert(item);
                }
            }
            Err(BatchError::Rejected(Reason::Full)) => {
                assert!(place.is_some() && self.entries[&item].given.hasty, "{item} need not wait");
                self.counts.expired += 1;
                self.leaves_line(item);
            }
            Err(BatchError::Rejected(Reason::Closed)) => {
                let gone = self.closed || matches!(self.entries[&item].stage, Stage::Over(_));
                assert!(place.is_some() && gone, "it is open");
                self.leaves_line(item);
            }
            told => panic!("{item} was pushed, and is told {told:?}"),
        }
    }

    /// The sink got an item.
    pub(crate) fn letter(&mut self, item: u64, error: BatchError<String>) {
        self.counts.letters += 1;
        // Who waited for room may be let in by the very end of what ran before, and be told so later.
        let waits = self.waiting.contains(&item);
        let (due, closed) = (self.letters_due.remove(&item), self.closed);
        let entry = self.entry(item);
        assert!(!entry.given.called, "{item} has a caller");
        match (&entry.stage, error) {
            (Stage::Over(Err(own)), error) if (due || waits) && *own == error => entry.stage = Stage::Gone,
            (Stage::InLine, BatchError::Deadline { started: false }) if entry.given.hasty => {
                self.counts.expired += 1;
                self.leaves_line(item);
            }
            (Stage::InLine, BatchError::Closed { started: false }) if closed => self.leaves_line(item),
            (Stage::Rests, BatchError::Closed { started: true }) if closed => entry.stage = Stage::Gone,
            (stage, error) => panic!("{item} is buried for {error:?}, but it is {stage:?}"),
        }
    }

    /// An item that was shed, of which nobody hears but the sink.
    pub(crate) fn shed_letter(&mut self) {
        self.counts.letters += 1;
    }

    /// A caller has left.
    pub(crate) fn left(&mut self, item: u64) {
        self.counts.left += 1;
        self.disturbed = true;
        let first = *self.shares.get(&item).unwrap_or(&item);
        let entry = self.entry(first);
        entry.callers.remove(&item);
        entry.hasty.remove(&item);
        let unwanted = if entry.given.called { entry.callers.is_empty() } else { self.waiting.contains(&item) };
        let in_line = self.entries[&first].stage == Stage::InLine;
        if in_line && (unwanted || self.entries[&first].given.called) {
            self.counts.left_in_line += 1;
        }
        if in_line && unwanted {
            self.leaves_line(first);
        }
    }

    /// What is still to happen, if anything is that needs nobody's help.
    pub(crate) fn undone(&self, stats: Stats) -> Option<String> {
        let untold = self.entries.values().find(|entry| match entry.stage {
            Stage::Over(_) | Stage::Gone => !entry.callers.is_empty(),
            Stage::InLine => entry.is_hasty() || self.closed,
            Stage::Running | Stage::Rests => !entry.hasty.is_empty() || (self.closed && !entry.callers.is_empty()),
        });
        if let Some(entry) = untold {
            return Some(format!("an answer to {entry:?}"));
        }
        if !self.letters_due.is_empty() {
            return Some(format!("dead letters {:?}", self.letters_due));
        }
        if let Some(&first) = self.waiting.front()
            && self.has_room(first, stats) == Some(true)
        {
            return Some(format!("there is room for {first}"));
        }
        let adaptive = matches!(self.configuration.policy, Policy::Adaptive { .. });
        let most = if adaptive { 1 } else { self.configuration.max_in_flight };
        if self.running.len() >= most {
            return None;
        }
        let rests = |group: &&Group| group.items().iter().any(|&item| self.entry_is_wanted(item));
        if let Some(group) = self.groups.iter().find(rests) {
            return Some(format!("{group:?} runs again"));
        }
        self.lines.values().find(|lines| self.may_leave(lines)).map(|lines| format!("a batch of {lines:?}"))
    }

    fn may_leave(&self, lines: &[VecDeque<u64>]) -> bool {
        let items: Vec<_> = lines.iter().flatten().copied().collect();
        let weight: u32 = items.iter().map(|&item| weight_of(item)).sum();
        let (enough, _) = self.configuration.patience();
        let full = items.len() >= enough || self.configuration.max_weight.is_some_and(|max| weight >= max);
        let waits = self.configuration.lingers_for_ever() && !self.draining;
        !items.is_empty() && (!waits || full || items.iter().any(|item| self.entries[item].hastened))
    }

    /// What the batcher has counted is what was seen, at any time.
    pub(crate) fn check(&self, stats: Stats) {
        assert!(stats.is_balanced(), "{stats:?}");
        assert_eq!(stats.accepted, self.counts.accepted, "{stats:?}");
        assert_eq!((stats.shed, stats.expired), (self.counts.shed, self.counts.expired), "{stats:?}");
        assert_eq!((stats.dead_lettered, stats.unclaimed), (self.counts.letters, 0), "{stats:?}");
        assert_eq!(stats.batches, self.counts.started - self.running.len() as u64, "{stats:?}");
        assert!(
            self.configuration.on_full == OnFull::Wait
                || (stats.queued + stats.in_flight) as usize <= self.configuration.max_items,
            "{stats:?}"
        );
    }

    /// The same, when everything has ended. An answer that its caller did not stay for may have been any.
    pub(crate) fn check_end(&self, stats: Stats) {
        self.check(stats);
        for &item in self.entries.keys().chain(self.shares.keys()) {
            assert!(self.may_be_over(item), "{item} has not ended");
        }
        assert_eq!(stats.queued + stats.in_flight, 0, "{stats:?}");
        assert!((self.counts.left_in_line..=self.counts.left).contains(&stats.cancelled), "{stats:?}");
        let unseen = self.entries.values().any(|entry| entry.given.hasty) || self.counts.left > 0 || self.closed;
        assert!(
            stats.succeeded == self.counts.well || (unseen && stats.succeeded > self.counts.well),
            "{stats:?} {self:?}"
        );
    }
}
