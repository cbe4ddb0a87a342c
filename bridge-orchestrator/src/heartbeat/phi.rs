//! The phi-accrual failure detector.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::HeartbeatError;
use super::tail::{deviations_at, phi_of};
use crate::time::nanos_since;

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
/// compares, and computes no φ. With ids of 8 bytes a node takes 24 bytes and one of the table's, which is half to seven eighths full.
pub struct PhiDetector<K> {
    nodes: HashTable<Node<K>>,
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

/// 24 bytes with an id of 8. Times are nanoseconds.
struct Node<K> {
    key: K,
    /// The last heartbeat, twice, and one if the node is down: 292 years fit.
    last_and_down: u64,
    mean: f32,
    variance: f32,
}

impl<K> Node<K> {
    fn last(&self) -> u64 {
        self.last_and_down >> 1
    }

    fn status(&self) -> NodeStatus {
        if self.last_and_down & 1 == 0 { NodeStatus::Up } else { NodeStatus::Down }
    }

    fn set_last(&mut self, last: u64) {
        self.last_and_down = last << 1 | self.last_and_down & 1;
    }

    fn set_status(&mut self, status: NodeStatus) {
        self.last_and_down = self.last_and_down & !1 | u64::from(status == NodeStatus::Down);
    }
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
            nodes: HashTable::new(),
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
        let rhythm = self.rhythm();
        let Some(node) = self.nodes.find_mut(hash, |known| known.key == *node) else {
            return self.join(hash, node.clone(), at);
        };
        if at <= node.last() {
            return Ok(());
        }
        let weight = self.weight;
        let mut interval = (at - node.last()) as f32;
        if rhythm.is_silence(node, interval) {
            interval = rhythm.longest_silence(node);
        }
        let difference = interval - node.mean;
        let step = weight * difference;
        node.mean += step;
        // Numbers near the smallest ones take a processor a hundred times as long.
        node.variance = ((1.0 - weight) * (node.variance + difference * step)).max(1.0);
        node.set_last(at);
        Ok(())
    }

    /// φ of the node's silence at `now`; `None` for a node that is not known.
    #[must_use]
    pub fn phi(&self, node: &K, now: Instant) -> Option<f64> {
        let node = self.find(node)?;
        Some(self.phi_of(node, self.nanos(now).saturating_sub(node.last())))
    }

    /// What the last sweep took the node for; `None` for a node that is not known.
    #[must_use]
    pub fn status(&self, node: &K) -> Option<NodeStatus> {
        self.find(node).map(Node::status)
    }

    /// Declares nodes down that have been silent for too long at `now`, and up that have been heard from since; tells which, in no
    /// particular order.
    pub fn sweep(&mut self, now: Instant) -> Vec<Transition<K>> {
        let now = self.nanos(now);
        let rhythm = self.rhythm();
        let (mut silent, mut returned, mut lately_down) = (Vec::new(), Vec::new(), 0);
        for node in &self.nodes {
            let silence = now.saturating_sub(node.last()) as f32;
            match (node.status(), rhythm.is_silence(node, silence)) {
                (NodeStatus::Up, true) => silent.push(node.key.clone()),
                (NodeStatus::Down, false) => returned.push(node.key.clone()),
                (NodeStatus::Down, true) if !rhythm.is_silence(node, silence / 2.0) => lately_down += 1,
                _ => {}
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
        let declared = silent.into_iter().map(|node| (node, NodeStatus::Down));
        let declared = declared.chain(returned.into_iter().map(|node| (node, NodeStatus::Up)));
        declared.filter_map(|(node, to)| self.declare(node, to, now)).collect()
    }

    /// Nodes that the last sweep would have declared down, had not more than half of all been silent.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Nodes that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no node is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Forgets a node that has left. False if it is not known.
    pub fn forget(&mut self, node: &K) -> bool {
        let hash = self.hasher.hash_one(node);
        let Ok(entry) = self.nodes.find_entry(hash, |known| known.key == *node) else { return false };
        let (gone, _) = entry.remove();
        self.up -= u32::from(gone.status() == NodeStatus::Up);
        true
    }

    fn declare(&mut self, node: K, to: NodeStatus, now: u64) -> Option<Transition<K>> {
        let hash = self.hasher.hash_one(&node);
        let known = self.nodes.find_mut(hash, |known| known.key == node)?;
        known.set_status(to);
        let silence = now.saturating_sub(known.last());
        let phi = self.phi_of(self.find(&node)?, silence);
        Some(Transition { node, to, silence: Duration::from_nanos(silence), phi })
    }

    #[cold]
    fn join(&mut self, hash: u64, key: K, at: u64) -> Result<(), HeartbeatError> {
        if self.nodes.len() >= u32::MAX as usize {
            return Err(HeartbeatError::TooManyNodes);
        }
        let deviation = self.expected / 4.0;
        let node = Node { key, last_and_down: at << 1, mean: self.expected, variance: deviation * deviation };
        let hasher = &self.hasher;
        self.nodes.insert_unique(hash, node, |node| hasher.hash_one(&node.key));
        self.up += 1;
        Ok(())
    }

    fn find(&self, node: &K) -> Option<&Node<K>> {
        let hash = self.hasher.hash_one(node);
        self.nodes.find(hash, |known| known.key == *node)
    }

    #[inline]
    fn rhythm(&self) -> Rhythm {
        Rhythm { deviations: self.deviations, least_variance: self.least_deviation * self.least_deviation }
    }

    fn phi_of(&self, node: &Node<K>, silence: u64) -> f64 {
        phi_of((silence as f64 - f64::from(node.mean)) / f64::from(self.rhythm().deviation(node)))
    }

    #[inline]
    fn nanos(&self, time: Instant) -> u64 {
        nanos_since(self.epoch, time)
    }
}

/// What all nodes are judged by.
#[derive(Clone, Copy)]
struct Rhythm {
    deviations: f32,
    least_variance: f32,
}

impl Rhythm {
    /// Whether φ of a silence is the threshold or above. Squares are compared: a root takes longer than all the rest.
    #[inline]
    fn is_silence<K>(self, node: &Node<K>, silence: f32) -> bool {
        let above = silence - node.mean;
        above > 0.0 && above * above >= self.deviations * self.deviations * node.variance.max(self.least_variance)
    }

    /// The silence at which φ is the threshold.
    fn longest_silence<K>(self, node: &Node<K>) -> f32 {
        node.mean + self.deviations * self.deviation(node)
    }

    fn deviation<K>(self, node: &Node<K>) -> f32 {
        node.variance.max(self.least_variance).sqrt()
    }
}

impl<K> fmt::Debug for PhiDetector<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PhiDetector")
            .field("nodes", &self.nodes.len())
            .field("up", &self.up)
            .field("threshold", &self.threshold)
            .finish_non_exhaustive()
    }
}
