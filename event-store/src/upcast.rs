//! Events that were recorded in older forms, read as if they had been recorded in today's.

mod build;
mod feed;
mod reading;
mod store;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

pub use self::build::{UpcastersBuilder, UpcastersError};
pub use self::store::Upcasting;
use crate::aggregate::BoxError;
use crate::append::AppendCondition;
use crate::error::ReadError;
use crate::name::EventType;
use crate::panics::caught;
use crate::query::{Query, QueryItem};
use crate::recorded::RecordedEvent;

/// A form of events: a type in a version of its schema.
pub(crate) type Form = (EventType, u16);

/// How events of older forms become events of today's: a graph that was checked when it was built.
///
/// Whatever form is reached by an upcaster has to lead to a current form, and each has at most one way on. Types that are not mentioned at
/// all pass as they are.
///
/// ```
/// use event_store::{EventType, Upcasters};
///
/// let (placed, submitted) = (EventType::new("OrderPlaced")?, EventType::new("OrderSubmitted")?);
/// let upcasters = Upcasters::builder()
///     .current(submitted.clone(), 3)
///     // A payload that was cents became an object, and then the type got a better name.
///     .step(placed.clone(), 1, 2, |cents| Ok(format!(r#"{{"cents":{}}}"#, std::str::from_utf8(cents)?)))
///     .rename((placed, 2), (submitted.clone(), 1))
///     .step(submitted.clone(), 1, 3, |payload| Ok(payload.to_vec()))
///     .never_recorded(submitted, 2)
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Upcasters {
    graph: Arc<Graph>,
}

struct Graph {
    /// The one way on from each form that is not current.
    ways: HashMap<EventType, HashMap<u16, Way>>,
    /// The version of each type that is read as it is.
    current: HashMap<EventType, u16>,
    /// For each type, the other types that may become it.
    older_names: HashMap<EventType, Vec<EventType>>,
    /// Whether every recorded event becomes exactly one.
    keeps_count: bool,
}

enum Way {
    Step { to: u16, payload: Box<Step> },
    Rename { to: Form },
    Split { to: Vec<Form>, pieces: Box<Split> },
    Drop,
}

type Step = dyn Fn(&[u8]) -> Result<Bytes, BoxError> + Send + Sync;
type Split = dyn Fn(&[u8]) -> Result<Vec<Piece>, BoxError> + Send + Sync;

/// A part of an event that was split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    target: usize,
    payload: Bytes,
}

impl Piece {
    /// A piece of the form at place `target`, from 0, in the list of the split's targets.
    #[must_use]
    pub fn new(target: usize, payload: impl Into<Bytes>) -> Self {
        Self { target, payload: payload.into() }
    }
}

impl Upcasters {
    /// No upcasters yet.
    pub fn builder() -> UpcastersBuilder {
        UpcastersBuilder::default()
    }

    /// What `event` is today: itself, another event, several, or none. Position, stream, version, id, time, tags, metadata and ids of what it
    /// follows from are those of the recorded event.
    ///
    /// Cost: for an event of a current form or of a type that is not mentioned, one hash look-up and no copy; otherwise its upcasters and a
    /// copy of its content.
    ///
    /// # Errors
    /// [`ReadError::Upcast`] if an upcaster fails or panics, or if the event is of a form that is not known, such as a version above the
    /// current one.
    pub fn upcast(&self, event: RecordedEvent) -> Result<Upcast, ReadError> {
        let (event_type, version) = (event.event_type(), event.schema_version());
        let ways = self.graph.ways.get(event_type);
        let current = self.graph.current.get(event_type);
        if ways.is_none() && current.is_none() || current == Some(&version) {
            return Ok(Upcast::One(event));
        }
        let mut finished = Vec::new();
        // Depth first and in order: what a piece becomes stands where the piece would.
        let mut open = vec![((event_type.clone(), version), event.payload_bytes())];
        while let Some((form, payload)) = open.pop() {
            if self.graph.current.get(&form.0) == Some(&form.1) {
                finished.push(event.in_form(form.0, form.1, payload));
                continue;
            }
            let failed = |reason: String| ReadError::Upcast {
                position: event.position(),
                event_type: form.0.clone(),
                schema_version: form.1,
                reason,
            };
            let Some(way) = self.graph.ways.get(&form.0).and_then(|ways| ways.get(&form.1)) else {
                return Err(failed("no such version of this type is known".to_owned()));
            };
            match way {
                Way::Drop => {}
                Way::Rename { to } => open.push((to.clone(), payload)),
                Way::Step { to, payload: step } => {
                    open.push(((form.0.clone(), *to), run(|| step(&payload)).map_err(failed)?));
                }
                Way::Split { to, pieces } => {
                    let pieces = run(|| pieces(&payload)).map_err(failed)?;
                    for Piece { target, payload } in pieces.into_iter().rev() {
                        let Some(form) = to.get(target) else {
                            return Err(failed(format!(
                                "a split into {} forms made a piece of form {target}",
                                to.len()
                            )));
                        };
                        open.push((form.clone(), payload));
                    }
                }
            }
        }
        Ok(Upcast::Changed(finished))
    }

    /// `query` for a store that holds older forms: it names, beside each type, those that may become it.
    #[must_use]
    pub fn widen(&self, query: &Query) -> Query {
        let Query::Items(items) = query else { return Query::All };
        let older = |event_type: &EventType| self.graph.older_names.get(event_type).into_iter().flatten().cloned();
        let widen = |item: &QueryItem| {
            let added: Vec<EventType> = item.event_types().iter().flat_map(older).collect();
            item.clone().of_types(added)
        };
        Query::items(items.as_slice().iter().map(widen)).unwrap_or(Query::All)
    }

    /// `condition`, widened like its queries.
    fn widen_condition(&self, condition: &AppendCondition) -> AppendCondition {
        AppendCondition {
            boundary: condition.boundary.as_ref().map(|(query, after)| (self.widen(query), *after)),
            existence: condition.existence.as_ref().map(|query| self.widen(query)),
        }
    }

    /// Whether a read of `query` yields one event for each that the store yields for the widened query.
    fn keeps_count(&self, query: &Query) -> bool {
        self.graph.keeps_count
            && match query {
                Query::All => true,
                Query::Items(items) => {
                    let types = items.as_slice().iter().flat_map(|item| item.event_types());
                    types
                        .clone()
                        .all(|name| !self.graph.older_names.contains_key(name) && !self.graph.ways.contains_key(name))
                }
            }
    }
}

/// What a recorded event is today.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upcast {
    /// Itself.
    One(RecordedEvent),
    /// These events, in this order, each at the place of the recorded one.
    Changed(Vec<RecordedEvent>),
}

impl Upcast {
    /// The events that match `query`.
    fn matching(self, query: &Query) -> Self {
        let is_match = |event: &RecordedEvent| query.matches(event.event_type(), event.tags());
        match self {
            Self::One(event) if is_match(&event) => Self::One(event),
            Self::One(_) => Self::Changed(Vec::new()),
            Self::Changed(mut events) => {
                events.retain(is_match);
                Self::Changed(events)
            }
        }
    }
}

fn run<T>(upcaster: impl FnOnce() -> Result<T, BoxError>) -> Result<T, String> {
    caught(upcaster)
        .map_err(|message| format!("the upcaster panicked: {message}"))?
        .map_err(|error| format!("the upcaster failed: {error}"))
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways: usize = self.graph.ways.values().map(HashMap::len).sum();
        f.debug_struct("Upcasters")
            .field("current", &self.graph.current)
            .field("upcasters", &ways)
            .finish_non_exhaustive()
    }
}
