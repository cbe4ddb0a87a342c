//! Whose turn it is to make a call, and the groups of those who wait.
//!
//! One call is under way at a time: the head's lock would let no second one go on. An append that finds nobody at work is a call of its own,
//! made by its own future, without a task in between. What comes meanwhile waits, and is a group in one call of a task of the store. A future
//! that has the turn and is not polled cannot end it: whoever has waited for a while takes the turn from it.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::Shared;
use super::append::parameter_bytes;
use super::call::{Judged, Match};
use crate::append::Append;
use crate::batch::Header;
use crate::error::AppendError;
use crate::event::EventId;
use crate::sync::HashSeed;

/// Appends, events and bytes of a group at most, but for one append that is larger.
const GROUP_APPENDS: usize = 1_024;
const GROUP_EVENTS: usize = 8_192;
const GROUP_BYTES: u64 = 8 << 20;
/// Events that are held against the conditions of a group at most.
const GROUP_COMPARISONS: usize = 20_000;

/// How long an append waits for another's future before it takes the turn from it.
const PATIENCE: Duration = Duration::from_millis(250);

/// What an append that waits for its turn will be told.
pub(super) type Answer = Result<Judged, AppendError>;

/// The appends that wait, and whether somebody is at work.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct QueueState {
    holder: Holder,
    /// Counts the turns of futures.
    turns: u64,
    waiting: VecDeque<Waiting>,
}

/// Who makes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Holder {
    #[default]
    Nobody,
    /// The future of an append, with the number of its turn.
    Future(u64),
    /// A task, which goes on until nobody waits.
    Task,
}

#[derive(Debug)]
struct Waiting {
    append: Arc<Append>,
    answer: oneshot::Sender<Answer>,
    _place: OwnedSemaphorePermit,
}

impl Queue {
    pub(super) fn new(room: usize) -> Self {
        Self { state: Mutex::default(), room: Arc::new(Semaphore::new(room)) }
    }

    /// Lets an append wait; who is at work. If nobody is, a task has to be.
    fn push(&self, waiting: Waiting) -> Holder {
        let mut queue = self.lock();
        queue.waiting.push_back(waiting);
        let holder = queue.holder;
        if holder == Holder::Nobody {
            queue.holder = Holder::Task;
        }
        holder
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        // Nothing under this lock can break off half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make calls: there is one, unless it was taken away.
pub(super) struct Turn<'a> {
    shared: &'a Arc<Shared>,
    number: u64,
}

impl<'a> Turn<'a> {
    /// The turn if nobody is at work and nobody waits.
    pub(super) fn take(shared: &'a Arc<Shared>) -> Option<Self> {
        let mut queue = shared.queue.lock();
        if queue.holder != Holder::Nobody || !queue.waiting.is_empty() {
            return None;
        }
        queue.turns += 1;
        queue.holder = Holder::Future(queue.turns);
        Some(Self { shared, number: queue.turns })
    }
}

impl Drop for Turn<'_> {
    /// Hands the turn to those who wait, also if the append was given up half-way.
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        if queue.holder != Holder::Future(self.number) {
            return;
        }
        queue.holder = if queue.waiting.is_empty() { Holder::Nobody } else { Holder::Task };
        let is_needed = queue.holder == Holder::Task;
        drop(queue);
        if is_needed {
            self.shared.begin_rounds();
        }
    }
}

/// The turn in the hands of a task.
struct Rounds {
    shared: Arc<Shared>,
    is_done: bool,
}

impl Rounds {
    /// Makes a call for each group until nobody waits.
    async fn run(mut self) {
        while let Some(group) = self.next_group() {
            let appends: Vec<&Append> = group.appends.iter().map(|waiting| &*waiting.append).collect();
            let answers = self.shared.judge_all(&appends, &group.matches).await;
            for (waiting, answer) in group.appends.into_iter().zip(answers) {
                let _ = waiting.answer.send(answer);
            }
        }
    }

    /// Those who waited longest and may share a call; `None` ends the turn.
    fn next_group(&mut self) -> Option<Group> {
        let mut queue = self.shared.queue.lock();
        let mut group = Group::default();
        let mut given_up = Vec::new();
        while let Some(waiting) = queue.waiting.pop_front() {
            if waiting.answer.is_closed() {
                given_up.push(waiting);
            } else if let Err(waiting) = group.add(waiting) {
                queue.waiting.push_front(waiting);
                break;
            }
        }
        if group.appends.is_empty() {
            queue.holder = Holder::Nobody;
            self.is_done = true;
        }
        drop(queue);
        drop(given_up);
        (!self.is_done).then_some(group)
    }
}

impl Drop for Rounds {
    /// Where the runtime ends in between, nobody is left to make calls.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut queue = self.shared.queue.lock();
        queue.holder = Holder::Nobody;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        for waiting in waiting {
            let _ = waiting.answer.send(Err(AppendError::Unavailable("the runtime has ended".to_owned())));
        }
    }
}

/// Appends that share a call.
#[derive(Default)]
struct Group {
    appends: Vec<Waiting>,
    /// For each, what matches its condition among those before.
    matches: Vec<Vec<Match>>,
    ids: HashSet<EventId, HashSeed>,
    events: usize,
    bytes: u64,
    comparisons: usize,
}

impl Group {
    /// Adds an append, or gives it back if it has to wait for the next group: the group is full, or an earlier append of it has one of
    /// its ids, which is then recorded.
    fn add(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        let append = &*waiting.append;
        let comparisons = if append.condition.is_some() { self.events } else { 0 };
        let is_full = self.appends.len() >= GROUP_APPENDS
            || self.events + append.len() > GROUP_EVENTS
            || self.bytes + parameter_bytes(append) > GROUP_BYTES
            || self.comparisons + comparisons > GROUP_COMPARISONS;
        let ids = || append.batch.headers.iter().map(Header::event_id);
        if !self.appends.is_empty() && (is_full || ids().any(|id| self.ids.contains(&id))) {
            return Err(waiting);
        }
        self.ids.extend(ids());
        self.events += append.len();
        self.bytes += parameter_bytes(append);
        self.comparisons += comparisons;
        self.matches.push(self.matches_of(append));
        self.appends.push(waiting);
        Ok(())
    }

    /// The events of earlier appends that match the condition of `append`.
    fn matches_of(&self, append: &Append) -> Vec<Match> {
        let Some(condition) = append.condition.as_deref() else { return Vec::new() };
        let clauses = [(false, condition.boundary().map(|(query, _)| query)), (true, condition.existence())];
        let mut matches = Vec::new();
        for (is_existence, query) in
            clauses.into_iter().filter_map(|(is_existence, query)| Some((is_existence, query?)))
        {
            for (index, earlier) in self.appends.iter().enumerate() {
                let batch = &earlier.append.batch;
                let found = batch.headers.iter().enumerate().filter(|(_, header)| {
                    query.matches(&batch.types[header.event_type as usize], &batch.tag_sets[header.tag_set as usize])
                });
                matches.extend(found.map(|(event, _)| Match { append: index, event, is_existence }));
            }
        }
        matches
    }
}

impl Shared {
    /// The answer to an append that somebody else sends, together with others.
    pub(super) async fn wait_for_turn(self: &Arc<Self>, append: Arc<Append>) -> Answer {
        let gone = |_| AppendError::Unavailable("the store is closed".to_owned());
        let place = Arc::clone(&self.queue.room).acquire_owned().await.map_err(gone)?;
        let (answer, mut answered) = oneshot::channel();
        match self.queue.push(Waiting { append, answer, _place: place }) {
            Holder::Nobody => self.begin_rounds(),
            Holder::Task => {}
            holder @ Holder::Future(_) => match timeout(PATIENCE, &mut answered).await {
                Ok(answer) => return answer.unwrap_or_else(broken_off),
                Err(_) => self.take_from(holder),
            },
        }
        answered.await.unwrap_or_else(broken_off)
    }

    /// Takes the turn from `holder`, if it still has it. The head's lock keeps its call and the next ones apart.
    fn take_from(self: &Arc<Self>, holder: Holder) {
        let mut queue = self.queue.lock();
        let is_held = queue.holder == holder;
        if is_held {
            queue.holder = Holder::Task;
        }
        drop(queue);
        if is_held {
            self.begin_rounds();
        }
    }

    fn begin_rounds(self: &Arc<Self>) {
        let rounds = Rounds { shared: Arc::clone(self), is_done: false };
        self.runtime.spawn(rounds.run());
    }
}

/// What an append is told whose call nobody answers for.
fn broken_off(_: oneshot::error::RecvError) -> Answer {
    Err(AppendError::Unknown("the call was broken off".to_owned()))
}
