//! A read model in memory.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ParkedEvent, Progress, ProjectionId, ReadModel, ReadModelError};
use crate::event::Position;

/// Values of type `T` in memory, one for each version of each projection, with transactions: a copy of the value is changed, and takes the
/// place of the value when it is committed. It goes with its process, and so do its checkpoints.
///
/// Cost: a transaction that changes the value clones it once; readers hold no lock while they look. For a large value choose a `T` that
/// shares what does not change when it is cloned.
///
/// ```
/// use event_store::MemoryReadModel;
///
/// let model = MemoryReadModel::<u64>::new();
/// assert_eq!(model.read("order-count", |count| *count), None, "no version is active yet");
/// ```
pub struct MemoryReadModel<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

struct Shared<T> {
    versions: HashMap<ProjectionId, Arc<Version<T>>>,
    active: HashMap<String, u32>,
}

#[derive(Clone, Default)]
struct Version<T> {
    state: T,
    checkpoint: Option<Position>,
    parked: BTreeMap<Position, ParkedEvent>,
}

/// A transaction of a [`MemoryReadModel`].
pub struct MemoryTx<T> {
    id: ProjectionId,
    /// What it began with; `None` if there was nothing.
    base: Option<Arc<Version<T>>>,
    version: Arc<Version<T>>,
    active: Option<u32>,
    activates: bool,
}

impl<T: Clone> MemoryTx<T> {
    /// The value.
    #[must_use]
    pub fn state(&self) -> &T {
        &self.version.state
    }

    /// The value, to be changed. The first call in a transaction clones it.
    pub fn state_mut(&mut self) -> &mut T {
        &mut Arc::make_mut(&mut self.version).state
    }
}

impl<T> fmt::Debug for MemoryTx<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTx").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<T: Clone + Default + Send + Sync + 'static> MemoryReadModel<T> {
    /// A read model without any version.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Arc::new(Mutex::new(Shared { versions: HashMap::new(), active: HashMap::new() })) }
    }

    /// Shows `look` the value of the active version of the projection `name`; `None` if there is none. What is committed meanwhile does not
    /// change what it sees.
    pub fn read<R>(&self, name: &str, look: impl FnOnce(&T) -> R) -> Option<R> {
        let version = self.active_version(name)?;
        self.read_version(&ProjectionId { name: name.to_owned(), version }, look)
    }

    /// As [`MemoryReadModel::read`], of one version, active or not.
    pub fn read_version<R>(&self, id: &ProjectionId, look: impl FnOnce(&T) -> R) -> Option<R> {
        let version = self.lock().versions.get(id).cloned()?;
        Some(look(&version.state))
    }

    /// The active version of the projection `name`.
    #[must_use]
    pub fn active_version(&self, name: &str) -> Option<u32> {
        self.lock().active.get(name).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Shared<T>> {
        // Under this lock pointers are moved, and nothing else.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Default + Send + Sync + 'static> ReadModel for MemoryReadModel<T> {
    type Tx = MemoryTx<T>;

    async fn begin(&self, id: &ProjectionId) -> Result<MemoryTx<T>, ReadModelError> {
        id.check()?;
        let shared = self.lock();
        let (base, active) = (shared.versions.get(id).cloned(), shared.active.get(&id.name).copied());
        drop(shared);
        let version = base.clone().unwrap_or_default();
        Ok(MemoryTx { id: id.clone(), base, version, active, activates: false })
    }

    async fn load(&self, tx: &mut MemoryTx<T>) -> Result<Progress, ReadModelError> {
        let Version { checkpoint, parked, .. } = &*tx.version;
        Ok(Progress { checkpoint: *checkpoint, parked: parked.len() as u64, active: tx.active })
    }

    async fn save(&self, tx: &mut MemoryTx<T>, checkpoint: Position) -> Result<(), ReadModelError> {
        Arc::make_mut(&mut tx.version).checkpoint = Some(checkpoint);
        Ok(())
    }

    async fn park(&self, tx: &mut MemoryTx<T>, event: ParkedEvent) -> Result<(), ReadModelError> {
        Arc::make_mut(&mut tx.version).parked.insert(event.position, event);
        Ok(())
    }

    async fn unpark(&self, tx: &mut MemoryTx<T>, position: Position) -> Result<bool, ReadModelError> {
        Ok(Arc::make_mut(&mut tx.version).parked.remove(&position).is_some())
    }

    async fn parked(&self, tx: &mut MemoryTx<T>, limit: usize) -> Result<Vec<ParkedEvent>, ReadModelError> {
        Ok(tx.version.parked.values().take(limit).cloned().collect())
    }

    async fn activate(&self, tx: &mut MemoryTx<T>) -> Result<(), ReadModelError> {
        tx.activates = true;
        Ok(())
    }

    async fn remove(&self, id: &ProjectionId) -> Result<(), ReadModelError> {
        let mut shared = self.lock();
        if shared.active.get(&id.name) == Some(&id.version) {
            return Err(ReadModelError::IsActive(id.clone()));
        }
        let removed = shared.versions.remove(id);
        drop(shared);
        drop(removed);
        Ok(())
    }

    async fn commit(&self, tx: MemoryTx<T>) -> Result<(), ReadModelError> {
        let mut shared = self.lock();
        let is_unchanged = match (shared.versions.get(&tx.id), &tx.base) {
            (Some(now), Some(base)) => Arc::ptr_eq(now, base),
            (None, None) => true,
            _ => false,
        };
        if !is_unchanged {
            return Err(ReadModelError::Conflict);
        }
        if tx.activates {
            shared.active.insert(tx.id.name.clone(), tx.id.version);
        }
        let replaced = shared.versions.insert(tx.id, tx.version);
        drop(shared);
        drop(replaced);
        Ok(())
    }
}

impl<T: Clone + Default + Send + Sync + 'static> Default for MemoryReadModel<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for MemoryReadModel<T> {
    /// The same read model.
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for MemoryReadModel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("MemoryReadModel").field("active", &shared.active).finish_non_exhaustive()
    }
}
