//! Finds the events of a query: intersects and merges postings, from the rarest tag on.

use smallvec::SmallVec;

use super::log::View;
use super::names::Names;
use super::postings::PostingsView;
use crate::query::{Query, QueryItem};

/// Steps through the events of a query in either direction, each once. Events are numbered from 0.
#[derive(Debug)]
pub(crate) enum Matcher<'a> {
    All { end: u32 },
    Items(SmallVec<[ItemMatcher<'a>; 1]>),
}

impl<'a> Matcher<'a> {
    pub(crate) fn new(query: &Query, names: &'a Names, view: View<'_>) -> Self {
        match query {
            Query::All => Self::All { end: view.len() },
            Query::Items(items) => Self::Items(
                items.as_slice().iter().filter_map(|item| ItemMatcher::new(item, names, view.len())).collect(),
            ),
        }
    }

    /// The first match at or behind `event`.
    pub(crate) fn next(&mut self, event: u32) -> Option<u32> {
        match self {
            Self::All { end } => (event < *end).then_some(event),
            Self::Items(items) => items.iter_mut().filter_map(|item| item.next(event)).min(),
        }
    }

    /// The last match at or before `event`.
    pub(crate) fn next_back(&mut self, event: u32) -> Option<u32> {
        match self {
            Self::All { end } => end.checked_sub(1).map(|last| event.min(last)),
            Self::Items(items) => items.iter_mut().filter_map(|item| item.next_back(event)).max(),
        }
    }
}

/// Steps through the events of one item: those in every one of its sets, the rarest set first.
#[derive(Debug)]
pub(crate) struct ItemMatcher<'a> {
    sets: SmallVec<[Set<'a>; 2]>,
    /// The matches found last, forwards and backwards: asked again for an earlier event, the item need not search again.
    found: Option<u32>,
    found_back: Option<u32>,
}

/// The events of one tag, or of any of some types.
#[derive(Debug)]
struct Set<'a> {
    lists: SmallVec<[List<'a>; 1]>,
}

#[derive(Debug)]
struct List<'a> {
    postings: PostingsView<'a>,
    hint: u32,
}

impl<'a> ItemMatcher<'a> {
    /// `None` if nothing can match: a tag, or every type, has no events.
    fn new(item: &QueryItem, names: &'a Names, end: u32) -> Option<Self> {
        let list = |postings: &'a super::postings::Postings| List { postings: postings.view(end), hint: 0 };
        let mut sets: SmallVec<[Set<'a>; 2]> = SmallVec::new();
        for tag in item.event_tags() {
            let lists = SmallVec::from_iter([list(names.tags.postings(tag.as_str())?)]);
            sets.push(Set { lists });
        }
        if !item.event_types().is_empty() {
            let types = item.event_types().iter().filter_map(|name| names.types.postings(name.as_str()));
            sets.push(Set { lists: types.map(list).collect() });
        }
        sets.sort_by_key(Set::len);
        let possible = sets.iter().all(|set| set.len() > 0);
        possible.then_some(Self { sets, found: None, found_back: None })
    }

    fn next(&mut self, event: u32) -> Option<u32> {
        if let Some(found) = self.found.filter(|&found| found >= event) {
            return Some(found);
        }
        self.found = self.agree(event, Set::seek, u32::gt);
        self.found
    }

    fn next_back(&mut self, event: u32) -> Option<u32> {
        if let Some(found) = self.found_back.filter(|&found| found <= event) {
            return Some(found);
        }
        self.found_back = self.agree(event, Set::seek_back, u32::lt);
        self.found_back
    }

    /// Leapfrog: every set in turn moves on to the event that the last one proposed, until all propose the same.
    fn agree(
        &mut self,
        event: u32,
        seek: impl Fn(&mut Set<'a>, u32) -> Option<u32>,
        is_beyond: impl Fn(&u32, &u32) -> bool,
    ) -> Option<u32> {
        let mut candidate = event;
        'restart: loop {
            for (index, set) in self.sets.iter_mut().enumerate() {
                let found = seek(set, candidate)?;
                if is_beyond(&found, &candidate) {
                    candidate = found;
                    if index > 0 {
                        continue 'restart;
                    }
                }
            }
            return Some(candidate);
        }
    }
}

impl Set<'_> {
    fn len(&self) -> u64 {
        self.lists.iter().map(|list| u64::from(list.postings.len())).sum()
    }

    fn seek(&mut self, event: u32) -> Option<u32> {
        self.lists.iter_mut().filter_map(|list| list.postings.seek(event, &mut list.hint)).min()
    }

    fn seek_back(&mut self, event: u32) -> Option<u32> {
        self.lists.iter_mut().filter_map(|list| list.postings.seek_back(event, &mut list.hint)).max()
    }
}
