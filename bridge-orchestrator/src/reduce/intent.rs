//! What a call of a reducer asks for: the reducer does none of it.

use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use super::changes::{Changes, Delta};
use super::intern::Interner;
use super::reducer::Reducer;
use super::summary::{Group, Pane};
use super::window::{Firing, Window};

/// Something to be done, by somebody else. It carries what changed in its call, and nothing that earlier intents carried.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "intent", rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum Intent<'a> {
    /// A reducer that begins with nothing asks for the states of workflows that are known elsewhere: see [`Reducer::recover`].
    RecoverFsmStates,
    /// A workflow went from one state to another.
    PersistFsmTransition {
        /// The workflow.
        workflow: &'a str,
        /// Where it was; `None` when it was first seen.
        from: Option<&'a str>,
        /// Where it is.
        to: &'a str,
    },
    /// Something was added to a group.
    PersistState(StateDelta<'a>),
    /// A pane was fired, and this is a group of it.
    PublishEvent {
        /// The window.
        window: Window,
        /// Why.
        firing: Firing,
        /// The group.
        #[serde(flatten)]
        group: GroupView<'a>,
    },
}

impl Intent<'_> {
    /// Intents of a higher priority are to be done first: 2 for recovery, 1 for what is persisted, 0 for events.
    #[must_use]
    pub fn priority(&self) -> u8 {
        match self {
            Self::RecoverFsmStates => 2,
            Self::PersistFsmTransition { .. } | Self::PersistState(_) => 1,
            Self::PublishEvent { .. } => 0,
        }
    }

    /// `RECOVER_FSM_STATES`, `PERSIST_FSM_TRANSITION`, `PERSIST_STATE` or `PUBLISH_EVENT`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RecoverFsmStates => "RECOVER_FSM_STATES",
            Self::PersistFsmTransition { .. } => "PERSIST_FSM_TRANSITION",
            Self::PersistState(_) => "PERSIST_STATE",
            Self::PublishEvent { .. } => "PUBLISH_EVENT",
        }
    }
}

/// What a call added to a group: whoever keeps the group adds it to what is there. For sliding windows the window is the slice.
#[derive(Clone, Copy)]
pub struct StateDelta<'a> {
    reducer: &'a Reducer,
    delta: &'a Delta,
}

impl<'a> StateDelta<'a> {
    /// The window.
    #[must_use]
    pub fn window(&self) -> Window {
        self.delta.window
    }

    /// The key of the group.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.reducer.keys.get(self.delta.key)
    }

    /// Items that were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.delta.count
    }

    /// Bytes that were added.
    #[must_use]
    pub fn bytes(&self) -> i128 {
        self.delta.bytes
    }

    /// File types that the group did not have before.
    #[must_use]
    pub fn new_file_types(&self) -> Texts<'a> {
        Texts { interner: &self.reducer.types, ids: self.changes().ids(&self.delta.types) }
    }

    /// Workflows that the group did not have before.
    #[must_use]
    pub fn new_workflows(&self) -> Texts<'a> {
        Texts { interner: &self.reducer.workflows.ids, ids: self.changes().ids(&self.delta.workflows) }
    }

    /// Windows of the group that became this one, which holds what they held and what is added: sessions grow and join.
    #[must_use]
    pub fn replaces(&self) -> &'a [Window] {
        self.changes().windows(&self.delta.replaces)
    }

    fn changes(&self) -> &'a Changes {
        &self.reducer.changes
    }
}

impl Serialize for StateDelta<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("StateDelta", 7)?;
        fields.serialize_field("window", &self.window())?;
        fields.serialize_field("key", self.key())?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("bytes", &self.bytes())?;
        fields.serialize_field("new_file_types", &self.new_file_types())?;
        fields.serialize_field("new_workflows", &self.new_workflows())?;
        fields.serialize_field("replaces", self.replaces())?;
        fields.end()
    }
}

impl std::fmt::Debug for StateDelta<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateDelta")
            .field("window", &self.window())
            .field("key", &self.key())
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

/// Texts, in the order in which they were first seen.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    interner: &'a Interner,
    ids: &'a [u32],
}

impl<'a> Texts<'a> {
    /// How many there are: exact.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let interner = self.interner;
        self.ids.iter().map(|id| interner.get(*id))
    }

    /// At most [`MAX_SAMPLE`] of them, in order of their bytes: the smallest, whatever the order in which they came.
    ///
    /// Cost: linear in their number; one allocation.
    #[must_use]
    pub fn sample(&self) -> Vec<&'a str> {
        let mut all: Vec<&str> = self.iter().collect();
        if all.len() > MAX_SAMPLE {
            all.select_nth_unstable(MAX_SAMPLE);
            all.truncate(MAX_SAMPLE);
        }
        all.sort_unstable();
        all
    }
}

/// Most texts of a sample.
pub const MAX_SAMPLE: usize = 100;

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// A group of a pane. Written out, it has counts and samples.
#[derive(Clone, Copy)]
pub struct GroupView<'a> {
    pub(super) reducer: &'a Reducer,
    pub(super) group: &'a Group,
}

impl<'a> GroupView<'a> {
    /// What its items have in common.
    #[must_use]
    pub fn key(&self) -> &'a str {
        self.reducer.keys.get(self.group.key)
    }

    /// Items.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.group.summary.count
    }

    /// Bytes of their files: exact.
    #[must_use]
    pub fn bytes(&self) -> i128 {
        self.group.summary.bytes
    }

    /// Their file types, each once.
    #[must_use]
    pub fn file_types(&self) -> Texts<'a> {
        Texts { interner: &self.reducer.types, ids: self.group.summary.types.ids() }
    }

    /// Their workflows, each once.
    #[must_use]
    pub fn workflows(&self) -> Texts<'a> {
        Texts { interner: &self.reducer.workflows.ids, ids: self.group.summary.workflows.ids() }
    }

    /// The state of each of their workflows as it is now; `None` where it is not tracked.
    pub fn workflow_states(&self) -> impl ExactSizeIterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let reducer = self.reducer;
        self.group.summary.workflows.ids().iter().map(|&id| {
            let state = reducer.workflows.state_of(id);
            (reducer.workflows.ids.get(id), state.map(|state| reducer.machine.state_name(state)))
        })
    }
}

impl Serialize for GroupView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Group", 7)?;
        fields.serialize_field("key", self.key())?;
        fields.serialize_field("count", &self.count())?;
        fields.serialize_field("bytes", &self.bytes())?;
        fields.serialize_field("unique_file_types", &self.file_types().len())?;
        fields.serialize_field("file_types", &self.file_types().sample())?;
        fields.serialize_field("unique_workflows", &self.workflows().len())?;
        fields.serialize_field("workflows", &self.workflows().sample())?;
        fields.end()
    }
}

impl std::fmt::Debug for GroupView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupView")
            .field("key", &self.key())
            .field("count", &self.count())
            .field("bytes", &self.bytes())
            .field("unique_file_types", &self.file_types().len())
            .field("unique_workflows", &self.workflows().len())
            .finish()
    }
}

/// A pane: a window and its groups.
#[derive(Debug, Clone, Copy)]
pub struct PaneView<'a> {
    pub(super) reducer: &'a Reducer,
    pub(super) window: Window,
    pub(super) firing: Option<Firing>,
    pub(super) groups: &'a [Group],
}

impl<'a> PaneView<'a> {
    /// The window.
    #[must_use]
    pub fn window(&self) -> Window {
        self.window
    }

    /// Why it was fired; `None` for one that is open.
    #[must_use]
    pub fn firing(&self) -> Option<Firing> {
        self.firing
    }

    /// Its groups, in the order in which their first items came.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = GroupView<'a>> + use<'a> {
        let reducer = self.reducer;
        self.groups.iter().map(move |group| GroupView { reducer, group })
    }

    /// Items of all groups.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.groups.iter().map(|group| group.summary.count).sum()
    }
}

/// What a call led to. It is there until the next call.
#[derive(Debug, Clone, Copy)]
#[must_use = "intents and panes are gone at the next call"]
pub struct Output<'a> {
    pub(super) reducer: &'a Reducer,
}

impl<'a> Output<'a> {
    /// The panes that were fired, in that order.
    pub fn panes(&self) -> impl ExactSizeIterator<Item = PaneView<'a>> + use<'a> {
        let reducer = self.reducer;
        reducer.changes.fired.iter().map(|fired| PaneView {
            reducer,
            window: fired.window,
            firing: Some(fired.firing),
            groups: &fired.pane.groups,
        })
    }

    /// What is to be done, by priority: recovery, transitions, what was added to groups, events of panes that were fired.
    ///
    /// Cost: no allocation. All of them take time linear in what changed.
    pub fn intents(&self) -> impl Iterator<Item = Intent<'a>> + use<'a> {
        let reducer = self.reducer;
        let changes = &reducer.changes;
        let transitions = changes.transitions.iter().map(|transition| Intent::PersistFsmTransition {
            workflow: reducer.workflows.ids.get(transition.workflow),
            from: transition.from.map(|from| reducer.machine.state_name(from)),
            to: reducer.machine.state_name(transition.to),
        });
        let deltas = changes.deltas.iter().map(|delta| Intent::PersistState(StateDelta { reducer, delta }));
        let events = changes.fired.iter().flat_map(|fired| {
            let group = |group| GroupView { reducer, group };
            let Pane { groups, .. } = &fired.pane;
            groups.iter().map(move |it| Intent::PublishEvent {
                window: fired.window,
                firing: fired.firing,
                group: group(it),
            })
        });
        changes.recover.then_some(Intent::RecoverFsmStates).into_iter().chain(transitions).chain(deltas).chain(events)
    }

    /// The side output: which items of the call came after all their windows were gone, by their place in it. Nothing of them counts but
    /// [`Totals::dropped_late`](super::Totals::dropped_late).
    #[must_use]
    pub fn dropped(&self) -> &'a [usize] {
        &self.reducer.dropped
    }
}
