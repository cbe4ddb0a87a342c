//! Patterns in a tree of their tokens: what matches a subject is found by walking its tokens, whatever else is subscribed.

use std::collections::HashMap;

use crate::subject::{Subject, SubjectPattern};

/// A value for each pattern.
#[derive(Debug)]
pub(super) struct Trie<V> {
    root: Node<V>,
}

#[derive(Debug)]
struct Node<V> {
    tokens: HashMap<Box<str>, Node<V>, foldhash::fast::RandomState>,
    /// Below a `*`.
    any: Option<Box<Node<V>>>,
    /// Of the pattern that ends here.
    value: Option<V>,
    /// Of the pattern that ends here with `>`.
    rest: Option<V>,
}

impl<V> Node<V> {
    fn new() -> Self {
        Self { tokens: HashMap::default(), any: None, value: None, rest: None }
    }

    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.any.is_none() && self.value.is_none() && self.rest.is_none()
    }
}

impl<V> Trie<V> {
    pub(super) fn new() -> Self {
        Self { root: Node::new() }
    }

    /// The place of a pattern's value.
    pub(super) fn entry(&mut self, pattern: &SubjectPattern) -> &mut Option<V> {
        let mut node = &mut self.root;
        for token in pattern.split('.') {
            match token {
                ">" => return &mut node.rest,
                "*" => node = node.any.get_or_insert_with(|| Box::new(Node::new())),
                // The token is looked for first: it is mostly there, and needs no copy then.
                _ if node.tokens.contains_key(token) => {
                    node = node.tokens.get_mut(token).expect("just seen");
                }
                _ => node = node.tokens.entry(token.into()).or_insert_with(Node::new),
            }
        }
        &mut node.value
    }

    /// Takes a pattern's value out, and what was there for it alone.
    pub(super) fn remove(&mut self, pattern: &SubjectPattern) -> Option<V> {
        remove(&mut self.root, pattern.split('.'))
    }

    /// Calls `found` with the value of every pattern that matches, in no order.
    pub(super) fn matching<'a>(&'a self, subject: &Subject, mut found: impl FnMut(&'a V)) {
        let tokens: Vec<&str> = subject.split('.').collect();
        matching(&self.root, &tokens, &mut found);
    }

    /// Calls `each` with every value.
    pub(super) fn each<'a>(&'a self, mut each: impl FnMut(&'a V)) {
        let mut nodes = vec![&self.root];
        while let Some(node) = nodes.pop() {
            nodes.extend(node.tokens.values());
            nodes.extend(node.any.as_deref());
            node.value.iter().chain(&node.rest).for_each(&mut each);
        }
    }
}

fn remove<'t, V>(node: &mut Node<V>, mut tokens: impl Iterator<Item = &'t str>) -> Option<V> {
    match tokens.next() {
        None => node.value.take(),
        Some(">") => node.rest.take(),
        Some("*") => {
            let below = node.any.as_deref_mut()?;
            let value = remove(below, tokens);
            if below.is_empty() {
                node.any = None;
            }
            value
        }
        Some(token) => {
            let below = node.tokens.get_mut(token)?;
            let value = remove(below, tokens);
            if below.is_empty() {
                node.tokens.remove(token);
            }
            value
        }
    }
}

fn matching<'a, V>(node: &'a Node<V>, tokens: &[&str], found: &mut impl FnMut(&'a V)) {
    let Some((token, others)) = tokens.split_first() else {
        node.value.iter().for_each(found);
        return;
    };
    node.rest.iter().for_each(&mut *found);
    if let Some(below) = &node.any {
        matching(below, others, found);
    }
    if let Some(below) = node.tokens.get(*token) {
        matching(below, others, found);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::Trie;
    use crate::subject::{Subject, SubjectPattern};

    fn pattern() -> impl Strategy<Value = SubjectPattern> {
        let token = prop_oneof![Just("a"), Just("b"), Just("*"), Just("a*"), Just("é")];
        (prop::collection::vec(token, 0..4), any::<bool>()).prop_filter_map("not empty", |(mut tokens, rest)| {
            if rest {
                tokens.push(">");
            }
            SubjectPattern::new(&tokens.join(".")).ok()
        })
    }

    fn subject() -> impl Strategy<Value = Subject> {
        let token = prop_oneof![Just("a"), Just("b"), Just("a*"), Just("é")];
        prop::collection::vec(token, 1..5).prop_map(|tokens| Subject::new(&tokens.join(".")).expect("sound"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// Against a list of patterns, each of which is asked.
        #[test]
        fn finds_what_matches_after_any_changes(
            changes in prop::collection::vec((any::<bool>(), pattern()), 0..40),
            subjects in prop::collection::vec(subject(), 1..10),
        ) {
            let mut trie = Trie::new();
            let mut model = BTreeMap::new();
            for (number, (insert, pattern)) in changes.into_iter().enumerate() {
                if insert {
                    *trie.entry(&pattern) = Some(number);
                    model.insert(pattern, number);
                } else {
                    prop_assert_eq!(trie.remove(&pattern), model.remove(&pattern));
                }
            }
            for subject in subjects {
                let mut found = Vec::new();
                trie.matching(&subject, |number| found.push(*number));
                found.sort_unstable();
                let mut wanted: Vec<usize> =
                    model.iter().filter(|(pattern, _)| pattern.matches(&subject)).map(|(_, number)| *number).collect();
                wanted.sort_unstable();
                prop_assert_eq!(found, wanted);
            }
            let mut all = 0;
            trie.each(|_| all += 1);
            prop_assert_eq!(all, model.len());
            for pattern in model.keys() {
                trie.remove(pattern);
            }
            prop_assert!(trie.root.is_empty(), "nothing is left of what was removed");
        }
    }
}
