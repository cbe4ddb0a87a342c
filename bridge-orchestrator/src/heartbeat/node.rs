//! What a node says about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::resources::{Figures, Resources};
use super::secrets::looks_secret;

/// How a node says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Healthy,
    /// It works, and less well than it should.
    Degraded,
    /// It does not work.
    Unhealthy,
}

impl Health {
    /// `HEALTHY`, `DEGRADED` or `UNHEALTHY`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Degraded => "DEGRADED",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

/// One heartbeat. Texts are shared with the node, so a copy allocates nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// The node's id.
    pub node_id: Arc<str>,
    /// The node's type, such as `orchestrator`.
    pub node_type: Arc<str>,
    /// How the node says it is.
    pub health: Health,
    /// Since the node was made.
    pub uptime: Duration,
    /// Operations under way.
    pub active_operations: u32,
    /// What the node's process uses, as last read.
    pub figures: Figures,
    /// What else is to be known of the node, sorted by key, without what looks like a secret.
    pub metadata: Arc<[(String, String)]>,
}

/// What heartbeats tell of: an identity, a state of health and the operations under way.
#[derive(Debug)]
pub struct Node {
    id: Arc<str>,
    kind: Arc<str>,
    since: Instant,
    health: AtomicU8,
    active: AtomicU32,
    metadata: Arc<[(String, String)]>,
    withheld: usize,
    resources: Arc<Resources>,
}

/// A [`Node`] that is being described.
#[derive(Debug)]
pub struct NodeBuilder {
    id: Arc<str>,
    kind: Arc<str>,
    metadata: Vec<(String, String)>,
    withheld: usize,
}

impl NodeBuilder {
    /// Adds a pair to the metadata, unless the key looks like that of a secret (`password`, `api_key`, `Session-Id`, `github.token`, …).
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let key = key.into();
        if looks_secret(&key) {
            self.withheld += 1;
        } else {
            self.metadata.push((key, value.into()));
        }
        self
    }

    /// The node, healthy, up since `now`. Nodes of one process share its `resources`.
    #[must_use]
    pub fn build(mut self, resources: Arc<Resources>, now: Instant) -> Node {
        self.metadata.sort();
        Node {
            id: self.id,
            kind: self.kind,
            since: now,
            health: AtomicU8::new(0),
            active: AtomicU32::new(0),
            metadata: self.metadata.into(),
            withheld: self.withheld,
            resources,
        }
    }
}

impl Node {
    /// Describes a node by its id and type.
    #[must_use]
    pub fn builder(id: impl Into<Arc<str>>, node_type: impl Into<Arc<str>>) -> NodeBuilder {
        NodeBuilder { id: id.into(), kind: node_type.into(), metadata: Vec::new(), withheld: 0 }
    }

    /// Says how the node is, from the next heartbeat on.
    pub fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Relaxed);
    }

    /// An operation that is under way until the guard is dropped.
    pub fn operation(&self) -> Operation<'_> {
        self.active.fetch_add(1, Ordering::Relaxed);
        Operation(&self.active)
    }

    /// Pairs of metadata that were left out because their keys look like those of secrets.
    #[must_use]
    pub fn withheld(&self) -> usize {
        self.withheld
    }

    /// A heartbeat of `now`. Allocates nothing, unless it is the one that has the process's figures read again.
    pub fn heartbeat(&self, now: Instant) -> Heartbeat {
        let health = match self.health.load(Ordering::Relaxed) {
            0 => Health::Healthy,
            1 => Health::Degraded,
            _ => Health::Unhealthy,
        };
        Heartbeat {
            node_id: Arc::clone(&self.id),
            node_type: Arc::clone(&self.kind),
            health,
            uptime: now.saturating_duration_since(self.since),
            active_operations: self.active.load(Ordering::Relaxed),
            figures: self.resources.figures(now),
            metadata: Arc::clone(&self.metadata),
        }
    }
}

/// An operation under way.
#[derive(Debug)]
#[must_use = "the operation ends when this is dropped"]
pub struct Operation<'a>(&'a AtomicU32);

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
