//! Puts upcasters together, and refuses those that do not lead each event to one current form.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::{Form, Graph, Piece, Upcasters, Way};
use crate::aggregate::BoxError;
use crate::name::EventType;

/// Collects upcasters: see [`Upcasters`].
#[derive(Default)]
#[must_use = "upcasters are checked and made by `build`"]
pub struct UpcastersBuilder {
    ways: Vec<(Form, Way)>,
    current: Vec<Form>,
    never_recorded: BTreeSet<Form>,
}

/// Why upcasters cannot be used: some event would have no way to a current form, or two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpcastersError {
    /// A version that may have been recorded leads nowhere: it is neither current, nor does an upcaster begin at it, nor is it said never to
    /// have been recorded.
    #[error("{event_type} in version {version} has no way on, and is not current")]
    Hole {
        /// The type.
        event_type: EventType,
        /// The version that leads nowhere.
        version: u16,
    },
    /// Following the upcasters never ends.
    #[error("the upcasters from {event_type} in version {version} lead back to it")]
    Cycle {
        /// A type on the cycle.
        event_type: EventType,
        /// Its version there.
        version: u16,
    },
    /// There are two ways on: two upcasters begin at one version, or one begins at a version that is current, or two versions of one type
    /// are current, or a version that was never recorded is current or has a way on.
    #[error("{event_type} in version {version} has two ways on")]
    Ambiguous {
        /// The type.
        event_type: EventType,
        /// The version that has two ways on.
        version: u16,
    },
    /// An upcaster leads to a type that nothing else is known of.
    #[error(
        "the upcaster from {from_type} in version {from_version} leads to {event_type} in version {version}, which is not known"
    )]
    UnknownTarget {
        /// The type that it begins at.
        from_type: EventType,
        /// The version that it begins at.
        from_version: u16,
        /// The type that it leads to.
        event_type: EventType,
        /// The version that it leads to.
        version: u16,
    },
    /// A version is 0; they are counted from 1.
    #[error("{event_type} has no version 0")]
    VersionZero {
        /// The type.
        event_type: EventType,
    },
}

impl UpcastersBuilder {
    /// Events of `event_type` in `version` are read as they are.
    pub fn current(mut self, event_type: EventType, version: u16) -> Self {
        self.current.push((event_type, version));
        self
    }

    /// The payload of `event_type` in version `from` becomes one in version `to`. Every version between them needs a way of its own, or to be
    /// one that was [never recorded](Self::never_recorded).
    pub fn step<P: Into<Bytes>>(
        mut self,
        event_type: EventType,
        from: u16,
        to: u16,
        payload: impl Fn(&[u8]) -> Result<P, BoxError> + Send + Sync + 'static,
    ) -> Self {
        let payload = Box::new(move |old: &[u8]| payload(old).map(Into::into));
        self.ways.push(((event_type, from), Way::Step { to, payload }));
        self
    }

    /// Events of type and version `from` have the type and version `to`, and the payload that they had.
    pub fn rename(mut self, from: (EventType, u16), to: (EventType, u16)) -> Self {
        self.ways.push((from, Way::Rename { to }));
        self
    }

    /// Events of type and version `from` become as many events as `pieces` makes of their payload, each of one of the types and versions in
    /// `to`; none is allowed.
    pub fn split(
        mut self,
        from: (EventType, u16),
        to: impl IntoIterator<Item = (EventType, u16)>,
        pieces: impl Fn(&[u8]) -> Result<Vec<Piece>, BoxError> + Send + Sync + 'static,
    ) -> Self {
        let way = Way::Split { to: to.into_iter().collect(), pieces: Box::new(pieces) };
        self.ways.push((from, way));
        self
    }

    /// Events of `event_type` in `version` are not read any more. Their positions and versions stay theirs.
    pub fn drop(mut self, event_type: EventType, version: u16) -> Self {
        self.ways.push(((event_type, version), Way::Drop));
        self
    }

    /// No event of `event_type` in `version` was ever recorded: it needs no way on. One that is found all the same fails to be read.
    pub fn never_recorded(mut self, event_type: EventType, version: u16) -> Self {
        self.never_recorded.insert((event_type, version));
        self
    }

    /// The upcasters, if each version from 1 of each type that is mentioned leads to current ones, in one way.
    ///
    /// # Errors
    /// [`UpcastersError`], the first one found.
    pub fn build(self) -> Result<Upcasters, UpcastersError> {
        self.check_versions()?;
        let mut ways: BTreeMap<Form, Way> = BTreeMap::new();
        let mut current: HashMap<EventType, u16> = HashMap::new();
        for (event_type, version) in self.current {
            if current.insert(event_type.clone(), version).is_some_and(|other| other != version) {
                return Err(UpcastersError::Ambiguous { event_type, version });
            }
        }
        for (form, way) in self.ways {
            if current.get(&form.0) == Some(&form.1) || ways.insert(form.clone(), way).is_some() {
                return Err(ambiguous(&form));
            }
        }
        let is_current = |form: &Form| current.get(&form.0) == Some(&form.1);
        if let Some(form) = self.never_recorded.iter().find(|form| ways.contains_key(form) || is_current(form)) {
            return Err(ambiguous(form));
        }
        check_targets(&ways, &current)?;
        check_holes(&ways, &current, &self.never_recorded)?;
        check_cycles(&ways)?;

        let older_names = older_names(&ways);
        let keeps_count = !ways.values().any(|way| matches!(way, Way::Split { .. } | Way::Drop));
        let mut by_type: HashMap<EventType, HashMap<u16, Way>> = HashMap::new();
        for ((event_type, version), way) in ways {
            by_type.entry(event_type).or_default().insert(version, way);
        }
        Ok(Upcasters { graph: Arc::new(Graph { ways: by_type, current, older_names, keeps_count }) })
    }

    fn check_versions(&self) -> Result<(), UpcastersError> {
        let sources = self.ways.iter().flat_map(|(from, way)| [from.clone()].into_iter().chain(way.targets(&from.0)));
        let mut forms = sources.chain(self.current.iter().chain(&self.never_recorded).cloned());
        match forms.find(|(_, version)| *version == 0) {
            Some((event_type, _)) => Err(UpcastersError::VersionZero { event_type }),
            None => Ok(()),
        }
    }
}

impl Way {
    /// The forms that it leads events of `event_type` to.
    fn targets(&self, event_type: &EventType) -> Vec<Form> {
        match self {
            Self::Step { to, .. } => vec![(event_type.clone(), *to)],
            Self::Rename { to } => vec![to.clone()],
            Self::Split { to, .. } => to.clone(),
            Self::Drop => Vec::new(),
        }
    }
}

fn ambiguous((event_type, version): &Form) -> UpcastersError {
    UpcastersError::Ambiguous { event_type: event_type.clone(), version: *version }
}

/// Every upcaster leads to a form that is current or leads on.
fn check_targets(ways: &BTreeMap<Form, Way>, current: &HashMap<EventType, u16>) -> Result<(), UpcastersError> {
    for (from, way) in ways {
        for (event_type, version) in way.targets(&from.0) {
            let form = (event_type, version);
            if current.get(&form.0) == Some(&version) || ways.contains_key(&form) {
                continue;
            }
            let event_type = form.0;
            let (from_type, from_version) = from.clone();
            // Of a type whose other versions are known, or between the versions of a step's own type, a rung is missing.
            let is_known = current.contains_key(&event_type) || event_type != from_type && is_source(ways, &event_type);
            let is_below = current.get(&event_type).is_none_or(|current| version < *current);
            return Err(if is_known && is_below {
                UpcastersError::Hole { event_type, version }
            } else {
                UpcastersError::UnknownTarget { from_type, from_version, event_type, version }
            });
        }
    }
    Ok(())
}

fn is_source(ways: &BTreeMap<Form, Way>, event_type: &EventType) -> bool {
    ways.range((event_type.clone(), 0)..=(event_type.clone(), u16::MAX)).next().is_some()
}

/// Every version from 1 to the last one that is known of a type leads on.
fn check_holes(
    ways: &BTreeMap<Form, Way>,
    current: &HashMap<EventType, u16>,
    never_recorded: &BTreeSet<Form>,
) -> Result<(), UpcastersError> {
    let mut last: BTreeMap<&EventType, u16> =
        current.iter().map(|(event_type, version)| (event_type, *version)).collect();
    for (event_type, version) in ways.keys() {
        let last = last.entry(event_type).or_default();
        *last = (*last).max(*version);
    }
    for (event_type, last) in last {
        for version in 1..=last {
            let form = (event_type.clone(), version);
            let leads_on = current.get(event_type) == Some(&version) || ways.contains_key(&form);
            if !leads_on && !never_recorded.contains(&form) {
                return Err(UpcastersError::Hole { event_type: form.0, version });
            }
        }
    }
    Ok(())
}

/// No form leads back to itself. Depth first, with the path marked.
fn check_cycles(ways: &BTreeMap<Form, Way>) -> Result<(), UpcastersError> {
    let mut done: BTreeSet<Form> = BTreeSet::new();
    for start in ways.keys() {
        let mut path: Vec<(Form, Vec<Form>)> = vec![(start.clone(), ways[start].targets(&start.0))];
        while let Some((form, targets)) = path.last_mut() {
            let Some(next) = targets.pop() else {
                done.insert(form.clone());
                path.pop();
                continue;
            };
            if path.iter().any(|(form, _)| *form == next) {
                return Err(UpcastersError::Cycle { event_type: next.0, version: next.1 });
            }
            if let Some(way) = ways.get(&next).filter(|_| !done.contains(&next)) {
                let targets = way.targets(&next.0);
                path.push((next, targets));
            }
        }
    }
    Ok(())
}

/// For each type, the other types that may become it over any number of upcasters.
fn older_names(ways: &BTreeMap<Form, Way>) -> HashMap<EventType, Vec<EventType>> {
    let mut older: BTreeMap<EventType, BTreeSet<EventType>> = BTreeMap::new();
    for start in ways.keys() {
        let (mut open, mut seen) = (vec![start.clone()], BTreeSet::new());
        while let Some(form) = open.pop() {
            let targets = ways.get(&form).map_or_else(Vec::new, |way| way.targets(&form.0));
            open.extend(targets.into_iter().filter(|target| seen.insert(target.clone())));
        }
        for (event_type, _) in seen.into_iter().filter(|(event_type, _)| *event_type != start.0) {
            older.entry(event_type).or_default().insert(start.0.clone());
        }
    }
    older.into_iter().map(|(event_type, older)| (event_type, older.into_iter().collect())).collect()
}

impl fmt::Debug for UpcastersBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from: Vec<&Form> = self.ways.iter().map(|(from, _)| from).collect();
        f.debug_struct("UpcastersBuilder").field("current", &self.current).field("from", &from).finish_non_exhaustive()
    }
}
