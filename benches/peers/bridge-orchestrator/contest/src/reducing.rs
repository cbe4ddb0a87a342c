//! Items grouped by their namespace, from structs to a list of groups.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::time::Instant;

use harness::{Bench, BenchError};

use crate::random::mix;

/// Namespaces of the items.
const NAMESPACES: u64 = 10;
/// Items of a round, in all of its reductions.
const ITEMS: u64 = 100_000;

/// A stamped file.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// Whose it is: what items are grouped by.
    pub namespace: &'a str,
    /// Each group counts the different ones.
    pub content_type: &'a str,
    /// Each group counts the different ones. All items of a workflow are of one namespace.
    pub workflow_id: &'a str,
    /// `PENDING`, `PROCESSING` and `COMPLETED`, in this order in each workflow.
    pub workflow_state: &'a str,
    /// In bytes; each group has their sum.
    pub file_size: u64,
    /// Unique.
    pub stamp_id: &'a str,
    /// Unique.
    pub file_hash: &'a str,
    /// Unique.
    pub file_path: &'a str,
    /// In microseconds; it grows.
    pub created_at: i64,
}

/// What is known about the items of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// What they have in common.
    pub namespace: String,
    /// How many there are.
    pub count: u64,
    /// The sum of their sizes.
    pub bytes: u64,
    /// How many different content types they have.
    pub content_types: u64,
    /// How many workflows they belong to.
    pub workflows: u64,
}

/// Something that groups items by their namespace.
pub trait Reduces: 'static {
    /// How it is called; every report repeats it.
    const NOTE: &'static str;
    /// An item as it takes it, a struct of its own: made before the clock starts.
    type Row<'a>;

    /// The item as it takes it.
    fn row(item: Item<'_>) -> Self::Row<'_>;

    /// Timed: the groups of the items, in any order, from nothing that is known before.
    fn reduce(rows: &[Self::Row<'_>]) -> Vec<Group>;
}

/// One operation is one reduction of so many items.
pub(crate) fn measure<R: Reduces>(bench: &mut Bench, size: u64) -> Result<(), BenchError> {
    bench.note(R::NOTE);
    let files = Files::new(size);
    let items = files.items();
    let expected = by_hand(&items);
    let rows: Vec<_> = items.iter().map(|&item| R::row(item)).collect();
    let reductions = ITEMS / size;
    let mut right = 0;
    let rounds = bench.rounds(|| {
        let mut answers = Vec::with_capacity(reductions as usize);
        let start = Instant::now();
        for _ in 0..reductions {
            answers.push(R::reduce(black_box(&rows)));
        }
        let elapsed = start.elapsed();
        right += answers.into_iter().filter(|answer| is_right(answer, &expected)).count() as u64;
        (elapsed, reductions)
    })?;
    bench.proof(rounds * reductions, right);
    Ok(())
}

/// Whether they are the groups that are expected, which are in order.
fn is_right(groups: &[Group], expected: &[Group]) -> bool {
    let mut groups: Vec<_> = groups.iter().collect();
    groups.sort_unstable();
    groups.into_iter().eq(expected)
}

/// The groups in the order of their namespaces, as slowly and as plainly as it can be written.
fn by_hand(items: &[Item<'_>]) -> Vec<Group> {
    let mut of: BTreeMap<&str, Vec<&Item<'_>>> = BTreeMap::new();
    for item in items {
        of.entry(item.namespace).or_default().push(item);
    }
    let different = |texts: BTreeSet<&str>| texts.len() as u64;
    let group = |(namespace, items): (&str, Vec<&Item<'_>>)| Group {
        namespace: namespace.to_owned(),
        count: items.len() as u64,
        bytes: items.iter().map(|item| item.file_size).sum(),
        content_types: different(items.iter().map(|item| item.content_type).collect()),
        workflows: different(items.iter().map(|item| item.workflow_id).collect()),
    };
    of.into_iter().map(group).collect()
}

/// What items borrow their texts from.
struct Files {
    namespaces: Vec<String>,
    files: Vec<File>,
}

struct File {
    stamp: String,
    hash: String,
    path: String,
    workflow: String,
    size: u64,
}

impl Files {
    /// In the random order of a fixed generator, three to a workflow.
    fn new(count: u64) -> Self {
        let file = |number: u64| {
            let (random, group) = (mix(number), number / 3);
            let tail = mix(group) >> 16;
            File {
                stamp: format!("stamp-{random:016x}"),
                hash: format!("{random:016x}{:016x}{:016x}{number:016x}", mix(random), !random),
                path: format!("/data/in/{number:06}.bin"),
                workflow: format!("{group:08x}-{group:04x}-4{:03x}-a{:03x}-{tail:012x}", group % 7, group % 5),
                size: 1_024 + random % 65_536,
            }
        };
        let namespaces = (0..NAMESPACES).map(|number| format!("omninode.namespace-{number:03}"));
        Self { namespaces: namespaces.collect(), files: (0..count).map(file).collect() }
    }

    /// One a millisecond.
    fn items(&self) -> Vec<Item<'_>> {
        const TYPES: [&str; 4] = ["application/pdf", "image/png", "text/plain", "application/json"];
        const STATES: [&str; 3] = ["PENDING", "PROCESSING", "COMPLETED"];
        let files = self.files.iter().enumerate();
        let items = files.map(|(number, file)| Item {
            namespace: &self.namespaces[number / 3 % self.namespaces.len()],
            content_type: TYPES[(mix(number as u64) >> 40) as usize % TYPES.len()],
            workflow_id: &file.workflow,
            workflow_state: STATES[number % STATES.len()],
            file_size: file.size,
            stamp_id: &file.stamp,
            file_hash: &file.hash,
            file_path: &file.path,
            created_at: number as i64 * 1_000,
        });
        items.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_those_of_the_items_and_no_others() {
        let files = Files::new(1_000);
        let items = files.items();
        let groups = by_hand(&items);
        assert_eq!(groups.len() as u64, NAMESPACES);
        assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), 1_000);
        assert_eq!(groups.iter().map(|group| group.workflows).sum::<u64>(), 334);
        let bytes: u64 = files.files.iter().map(|file| file.size).sum();
        assert_eq!(groups.iter().map(|group| group.bytes).sum::<u64>(), bytes);
        assert!(groups.iter().all(|group| group.content_types == 4));
    }

    #[test]
    fn the_order_of_groups_does_not_matter_and_what_is_in_them_does() {
        let files = Files::new(1_000);
        let expected = by_hand(&files.items());
        let mut groups = expected.clone();
        groups.reverse();
        assert!(is_right(&groups, &expected));
        for spoil in [
            (|group: &mut Group| group.count += 1) as fn(&mut Group),
            |group| group.bytes -= 1,
            |group| group.content_types += 1,
            |group| group.workflows -= 1,
            |group| group.namespace.push('x'),
        ] {
            let mut groups = expected.clone();
            spoil(&mut groups[3]);
            assert!(!is_right(&groups, &expected));
        }
        assert!(!is_right(&expected[1..], &expected));
        assert!(!is_right(&[], &expected));
    }
}
