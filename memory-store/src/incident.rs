//! Memories that belong together.

use std::sync::Arc;

use crate::clock::{Clock, Timestamp};
use crate::memory::{MemoryId, Recalled};
use crate::store::MemoryStore;

/// The memories of an incident.
#[derive(Debug)]
pub struct Incident<P> {
    /// Its name.
    pub name: Arc<str>,
    /// Its memories, in the order in which they were first seen.
    pub timeline: Vec<Recalled<P>>,
}

impl<P> Incident<P> {
    /// When its first memory was first seen.
    #[must_use]
    pub fn began(&self) -> Option<Timestamp> {
        self.timeline.first().map(|memory| memory.first_seen)
    }
}

/// An incident that is like another.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentHit {
    /// Its name.
    pub name: Arc<str>,
    /// The highest cosine of one of its memories with the mean of the other's, all taken as unit vectors.
    pub similarity: f64,
    /// That memory.
    pub closest: MemoryId,
    /// How many memories it has.
    pub memories: usize,
}

impl<P: Send + Sync, C: Clock> MemoryStore<P, C> {
    /// The memories of an incident, if there are any.
    #[must_use]
    pub fn incident(&self, name: &str) -> Option<Incident<P>> {
        let (name, ids) = {
            let incidents = self.shared.incidents();
            let members = incidents.members(incidents.find(name)?)?;
            (Arc::clone(&members.name), members.ids.clone())
        };
        let mut timeline: Vec<_> = ids.into_iter().filter_map(|id| self.get(MemoryId(id))).collect();
        timeline.sort_by_key(|memory| (memory.first_seen, memory.id));
        (!timeline.is_empty()).then_some(Incident { name, timeline })
    }

    /// The `k` incidents that are most like `name`, most similar first; of equals the first by name. Empty if there is no such incident.
    ///
    /// Costs a look at every row and a product with the vector of each that belongs to an incident.
    #[must_use]
    pub fn similar_incidents(&self, name: &str, k: usize) -> Vec<IncidentHit> {
        let shared = &*self.shared;
        let Some(number) = shared.incidents().find(name) else { return Vec::new() };
        let view = shared.view.load();
        let mut mean = vec![0f64; shared.config.dimensions];
        for (rows, row) in view.now().iter().filter(|(rows, row)| rows.incident(*row) == number) {
            let vector = rows.vector(row);
            let length = shared.kernel.dot_and_square(vector, vector).1.sqrt();
            if length > 0.0 {
                mean.iter_mut().zip(vector).for_each(|(sum, &x)| *sum += f64::from(x) / length);
            }
        }
        let mean: Vec<f32> = mean.into_iter().map(|x| x as f32).collect();
        let length = shared.kernel.dot_and_square(&mean, &mean).1.sqrt();
        let mut best = std::collections::HashMap::<u32, (f64, u64)>::new();
        for (rows, row) in view.now().iter() {
            let other = rows.incident(row);
            if other == 0 || other == number {
                continue;
            }
            let (dot, square) = shared.kernel.dot_and_square(&mean, rows.vector(row));
            let cosine = if length > 0.0 && square > 0.0 { dot / (length * square.sqrt()) } else { 0.0 };
            let found = best.entry(other).or_insert((f64::NEG_INFINITY, 0));
            if cosine > found.0 {
                *found = (cosine, rows.id(row));
            }
        }
        let incidents = shared.incidents();
        let mut hits: Vec<_> = best
            .into_iter()
            .filter_map(|(number, (similarity, id))| {
                let members = incidents.members(number)?;
                let (name, memories) = (Arc::clone(&members.name), members.ids.len());
                Some(IncidentHit { name, similarity, closest: MemoryId(id), memories })
            })
            .collect();
        hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then_with(|| a.name.cmp(&b.name)));
        hits.truncate(k);
        hits
    }
}
