//! The phi-accrual failure detector.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::HeartbeatError;
use super::tail::{deviations_at, phi_of};

/// Suspects nodes that have fallen silent, each by the rhythm of its own heartbeats.
///
/// φ of a silence is `−log₁₀` of the probability that a heartbeat comes later than that, with intervals taken as normally distributed: at φ
/// = 8 one such silence in 10⁸ is a mistake (Hayashibara, Défago, Yared, Katayama, "The φ Accrual Failure Detector", 2004). Mean and variance
/// are exponentially weighted (Finch, "Incremental calculation of weighted mean and variance", 2009) instead of those of a sampling
/// window: they forget at the same pace and need no window a node. An interval that is longer than what counts as silence is taken in as
/// just that long: one pause or absence does not blunt the detector, and a node that has become slower is learned all the same.
///
/// A detector belongs to one thread or task; [`PhiDetector::sweep`] tells what has changed.
///
/// # Consistency
/// If more than half of the nodes are silent at once, nobody is declared down: it was this process or its network. A sweep counts as silent
/// who is silent beyond the threshold and up, or was declared down less than another such silence ago, among these and all who are up. Nodes
/// stay up until heartbeats come again, or until no more than half are silent.
///
/// # Cost
/// A heartbeat is one look-up by hash, O(1), and allocates nothing for a known node. A sweep goes over all nodes; it multiplies and
/// compares, and computes no φ. With ids of 8 bytes a node takes 32 bytes and its place in the index, which is 6 to 12.
pub struct PhiDetector<K> {
    /// Places in `nodes`, by hash of the node's id.
    index: HashTable<u32>,
    nodes: Blocks<Node<K>>,
    hasher: RandomState,
    epoch: Instant,
    threshold: f64,
    /// Standard deviations above the mean at which φ is the threshold.
    deviations: f32,
    weight: f32,
    least_deviation: f32,
    expected: f32,
    up: u32,
    held: u64,
}

/// 32 bytes with an id of 8. Times are nanoseconds.
struct Node<K> {
    key: K,
    last: u64,
    mean: f32,
    variance: f32,
    status: NodeStatus,
}

/// Whether a node is thought to be alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeStatus {
    /// It has been heard from, and its silence is no longer than usual.
    Up,
    /// It has been silent for longer than the threshold allows.
    Down,
}

/// A node that is no longer what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition<K> {
    /// The node's id.
    pub node: K,
    /// What it is now.
    pub to: NodeStatus,
    /// How long it has been silent.
    pub silence: Duration,
    /// φ of that silence.
    pub phi: f64,
}

/// What a [`PhiDetector`] takes for silence.
#[derive(Debug, Clone)]
pub struct PhiBuilder {
    threshold: f64,
    expected: Duration,
    least_deviation: Duration,
    weight: f32,
}

impl Default for PhiBuilder {
    fn default() -> Self {
        Self {
            threshold: 8.0,
            expected: Duration::from_secs(30),
            least_deviation: Duration::from_millis(100),
            weight: 0.1,
        }
    }
}

impl PhiBuilder {
    /// φ from which on a node is down: 8 unless set, 0.5 to 100.
    #[must_use]
    pub fn threshold(mut self, phi: f64) -> Self {
        self.threshold = phi;
        self
    }

    /// The interval of a node of which nothing is known yet: 30 s unless set, 1 ms to a day. Its standard deviation is taken as a quarter.
    #[must_use]
    pub fn expected_interval(mut self, interval: Duration) -> Self {
        self.expected = interval;
        self
    }

    /// The least standard deviation, since a node that beats like a clock would be suspected for a moment's delay: 100 ms unless set, 1 µs
    /// to a day.
    #[must_use]
    pub fn least_deviation(mut self, deviation: Duration) -> Self {
        self.least_deviation = deviation;
        self
    }

    /// The weight of the newest interval: 0.1 unless set, above 0 and at most 1.
    #[must_use]
    pub fn weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }

    /// A detector that knows no node. Times before `now` count as `now`.
    ///
    /// # Errors
    /// [`HeartbeatError::OutOfRange`] names the option.
    pub fn build<K: Hash + Eq + Clone>(self, now: Instant) -> Result<PhiDetector<K>, HeartbeatError> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        if !(0.5..=100.0).contains(&self.threshold) {
            return Err(HeartbeatError::out_of_range("threshold", self.threshold, "0.5 to 100"));
        }
        if !(Duration::from_millis(1)..=DAY).contains(&self.expected) {
            return Err(HeartbeatError::out_of_range("expected_interval", self.expected, "1 ms to a day"));
        }
        if !(Duration::from_micros(1)..=DAY).contains(&self.least_deviation) {
            return Err(HeartbeatError::out_of_range("least_deviation", self.least_deviation, "1 us to a day"));
        }
        if !(self.weight > 0.0 && self.weight <= 1.0) {
            return Err(HeartbeatError::out_of_range("weight", self.weight, "above 0 and at most 1"));
        }
        Ok(PhiDetector {
            index: HashTable::new(),
            nodes: Blocks::new(),
            hasher: RandomState::default(),
            epoch: now,
            threshold: self.threshold,
            deviations: deviations_at(self.threshold) as f32,
            weight: self.weight,
            least_deviation: self.least_deviation.as_nanos() as f32,
            expected: self.expected.as_nanos() as f32,
            up: 0,
            held: 0,
        })
    }
}

impl PhiDetector<()> {
    /// Options before the detector, whose nodes may have ids of any type.
    #[must_use]
    pub fn builder() -> PhiBuilder {
        PhiBuilder::default()
    }
}

impl<K: Hash + Eq + Clone> PhiDetector<K> {
    /// A heartbeat of `node` that came at `at`; the first one makes it known, and up. One that is older than the last is ignored.
    ///
    /// # Errors
    /// [`HeartbeatError::TooManyNodes`] from 2³² nodes on.
    #[inline]
    pub fn heartbeat(&mut self, node: &K, at: Instant) -> Result<(), HeartbeatError> {
        let at = self.nanos(at);
        let hash = self.hasher.hash_one(node);
        let Some(&place) = self.index.find(hash, |&place| self.nodes.get(place).key == *node) else {
            return self.join(hash, node.clone(), at);
        };
        let (longest, weight) = (self.longest_silence(self.nodes.get(place)), self.weight);
        let node = self.nodes.get_mut(place);
        if at <= node.last {
            return Ok(());
        }
        let interval = ((at - node.last) as f32).min(longest);
        let difference = interval - node.mean;
        let step = weight * difference;
        node.mean += step;
        node.variance = (1.0 - weight) * (node.variance + difference * step);
        node.last = at;
        Ok(())
    }

    /// φ of the node's silence at `now`; `None` for a node that is not known.
    #[must_use]
    pub fn phi(&self, node: &K, now: Instant) -> Option<f64> {
        let node = self.find(node)?;
        Some(self.phi_of(node, self.nanos(now).saturating_sub(node.last)))
    }

    /// What the last sweep took the node for; `None` for a node that is not known.
    #[must_use]
    pub fn status(&self, node: &K) -> Option<NodeStatus> {
        self.find(node).map(|node| node.status)
    }

    /// Declares nodes down that have been silent for too long at `now`, and up that have been heard from since; tells which.
    pub fn sweep(&mut self, now: Instant) -> Vec<Transition<K>> {
        let now = self.nanos(now);
        let (mut silent, mut returned, mut lately_down) = (Vec::new(), Vec::new(), 0);
        for (place, node) in self.nodes.iter() {
            let (silence, longest) = (now.saturating_sub(node.last) as f32, self.longest_silence(node));
            match node.status {
                NodeStatus::Up if silence >= longest => silent.push(place),
                NodeStatus::Down if silence < longest => returned.push(place),
                NodeStatus::Down if silence < 2.0 * longest => lately_down += 1,
                NodeStatus::Up | NodeStatus::Down => {}
            }
        }
        let all = self.up as usize + lately_down + returned.len();
        self.held = 0;
        if 2 * (silent.len() + lately_down) > all {
            self.held = silent.len() as u64;
            silent.clear();
        }
        self.up -= silent.len() as u32;
        self.up += returned.len() as u32;
        let declared = silent.iter().map(|&place| (place, NodeStatus::Down));
        let declared = declared.chain(returned.iter().map(|&place| (place, NodeStatus::Up)));
        let mut transitions = Vec::with_capacity(silent.len() + returned.len());
        for (place, to) in declared {
            let node = self.nodes.get_mut(place);
            node.status = to;
            let (node, silence) = (node.key.clone(), now.saturating_sub(node.last));
            let phi = self.phi_of(self.nodes.get(place), silence);
            transitions.push(Transition { node, to, silence: Duration::from_nanos(silence), phi });
        }
        transitions
    }

    /// Nodes that the last sweep would have declared down, had not more than half of all been silent.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Nodes that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether no node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Forgets a node that has left. False if it is not known.
    pub fn forget(&mut self, node: &K) -> bool {
        let hash = self.hasher.hash_one(node);
        let Ok(entry) = self.index.find_entry(hash, |&place| self.nodes.get(place).key == *node) else { return false };
        let (place, _) = entry.remove();
        let last = self.nodes.len() - 1;
        if place != last {
            let hash = self.hasher.hash_one(&self.nodes.get(last).key);
            if let Some(moved) = self.index.find_mut(hash, |&found| found == last) {
                *moved = place;
            }
        }
        let gone = self.nodes.swap_remove(place);
        self.up -= u32::from(gone.status == NodeStatus::Up);
        true
    }

    #[cold]
    fn join(&mut self, hash: u64, key: K, at: u64) -> Result<(), HeartbeatError> {
        let place = self.nodes.len();
        if place == u32::MAX {
            return Err(HeartbeatError::TooManyNodes);
        }
        let deviation = self.expected / 4.0;
        let status = NodeStatus::Up;
        self.nodes.push(Node { key, last: at, mean: self.expected, variance: deviation * deviation, status });
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.index.insert_unique(hash, place, |&place| hasher.hash_one(&nodes.get(place).key));
        self.up += 1;
        Ok(())
    }

    fn find(&self, node: &K) -> Option<&Node<K>> {
        let hash = self.hasher.hash_one(node);
        let place = self.index.find(hash, |&place| self.nodes.get(place).key == *node)?;
        Some(self.nodes.get(*place))
    }

    /// The silence from which on φ is the threshold.
    #[inline]
    fn longest_silence(&self, node: &Node<K>) -> f32 {
        node.mean + self.deviations * self.deviation(node)
    }

    #[inline]
    fn deviation(&self, node: &Node<K>) -> f32 {
        node.variance.sqrt().max(self.least_deviation)
    }

    fn phi_of(&self, node: &Node<K>, silence: u64) -> f64 {
        phi_of((silence as f64 - f64::from(node.mean)) / f64::from(self.deviation(node)))
    }

    #[inline]
    fn nanos(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.epoch).as_nanos() as u64
    }
}

impl<K> fmt::Debug for PhiDetector<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PhiDetector")
            .field("nodes", &self.index.len())
            .field("up", &self.up)
            .field("threshold", &self.threshold)
            .finish_non_exhaustive()
    }
}

/// A list in blocks, which grows without moving what it holds and without room for twice as much.
struct Blocks<T>(Vec<Vec<T>>);

const BLOCK: usize = 4096;

impl<T> Blocks<T> {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn len(&self) -> u32 {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * BLOCK + last.len()) as u32
    }

    #[inline]
    fn get(&self, place: u32) -> &T {
        &self.0[place as usize / BLOCK][place as usize % BLOCK]
    }

    #[inline]
    fn get_mut(&mut self, place: u32) -> &mut T {
        &mut self.0[place as usize / BLOCK][place as usize % BLOCK]
    }

    fn push(&mut self, value: T) {
        match self.0.last_mut() {
            Some(last) if last.len() < BLOCK => {
                // The first block grows with what it holds; the others are made whole.
                last.push(value);
            }
            _ => {
                let mut block = if self.0.is_empty() { Vec::new() } else { Vec::with_capacity(BLOCK) };
                block.push(value);
                self.0.push(block);
            }
        }
    }

    fn swap_remove(&mut self, place: u32) -> T {
        let last = self.0.last_mut().expect("there is something at the place");
        let mut value = last.pop().expect("no block is empty");
        if last.is_empty() {
            self.0.pop();
        }
        if place < self.len() {
            std::mem::swap(self.get_mut(place), &mut value);
        }
        value
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.0.iter().flatten())
    }
}
