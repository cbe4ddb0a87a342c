//! The rules of the house that `cargo metadata` can tell: who may import whom, which licences and crates may be linked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use spdx::{Expression, ParseMode};
use toml_edit::{DocumentMut, Item};

/// Which packages of the workspace each one may import, and which only for its benches and tests. A package that is not in the
/// table fails the test: say here where it stands.
const IMPORTS: &[(&str, &[&str], &[&str])] = &[
    (
        "benches",
        &[],
        &[
            "bridge-orchestrator",
            "ephemeral-postgres",
            "event-store",
            "harness",
            "memory-store",
            "message-bus",
            "swarm-batcher",
        ],
    ),
    ("bridge-orchestrator", &["event-store"], &["ephemeral-postgres", "harness"]),
    ("ephemeral-postgres", &[], &["harness"]),
    ("event-store", &[], &["ephemeral-postgres", "harness"]),
    ("gate", &["harness"], &[]),
    ("harness", &[], &[]),
    ("memory-store", &[], &["harness"]),
    ("message-bus", &[], &["harness"]),
    ("swarm-batcher", &[], &["harness"]),
];

/// The crates that may link inferno.
const DRAWS_FLAMEGRAPHS: [&str; 2] = ["gate", "harness"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn metadata() -> Metadata {
    let manifest = root().join("Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        .other_options(vec!["--all-features".into()])
        .exec()
        .expect("metadata")
}

fn deny() -> DocumentMut {
    fs::read_to_string(root().join("deny.toml")).expect("deny.toml").parse().expect("deny.toml is TOML")
}

fn words(item: &Item) -> BTreeSet<String> {
    let array = item.as_array().expect("a list");
    array.iter().map(|word| word.as_str().expect("text").to_owned()).collect()
}

#[test]
fn packages_import_only_what_the_house_allows() {
    let metadata = metadata();
    let members = metadata.workspace_packages();
    let names: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
    let mut broken = Vec::new();
    for package in &members {
        let Some((_, normal, dev)) = IMPORTS.iter().find(|(name, _, _)| package.name.as_str() == *name) else {
            broken.push(format!("{} has no place in the house yet", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| names.contains(d.name.as_str())) {
            let name = dependency.name.as_str();
            let allowed =
                normal.contains(&name) || dependency.kind == DependencyKind::Development && dev.contains(&name);
            if !allowed && name != package.name.as_str() {
                broken.push(format!("{} imports {name} ({:?})", package.name, dependency.kind));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn no_package_can_be_published_and_all_share_the_lints() {
    for package in metadata().workspace_packages() {
        assert_eq!(package.publish.as_deref(), Some(&[][..]), "{} could be published", package.name);
        let text = fs::read_to_string(&package.manifest_path).expect("manifest");
        assert!(text.contains("[lints]\nworkspace = true"), "{} has lints of its own", package.name);
    }
}

#[test]
fn every_licence_is_permissive_but_for_the_named_exception() {
    let deny = deny();
    let allowed = words(&deny["licenses"]["allow"]);
    let exceptions: BTreeMap<String, BTreeSet<String>> = deny["licenses"]["exceptions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| {
            let table = entry.as_inline_table().expect("a table");
            let licences = table["allow"].as_array().expect("a list");
            let licences = licences.iter().map(|l| l.as_str().expect("text").to_owned()).collect();
            (table["crate"].as_str().expect("text").to_owned(), licences)
        })
        .collect();
    assert_eq!(exceptions.keys().collect::<Vec<_>>(), ["inferno"], "one exception, and it is inferno");
    let refused: Vec<String> = metadata()
        .packages
        .iter()
        .filter(|package| !is_permitted(package, &allowed, exceptions.get(package.name.as_str())))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

fn is_permitted(package: &Package, allowed: &BTreeSet<String>, exception: Option<&BTreeSet<String>>) -> bool {
    let Some(expression) = &package.license else { return false };
    let expression = Expression::parse_mode(expression, ParseMode::LAX);
    expression.is_ok_and(|expression| {
        expression.evaluate(|requirement| {
            let licence = requirement.to_string();
            allowed.contains(&licence) || exception.is_some_and(|licences| licences.contains(&licence))
        })
    })
}

#[test]
fn banned_crates_are_not_linked() {
    let deny = deny();
    let banned = deny["bans"]["deny"].as_array().expect("a list");
    let banned: BTreeSet<&str> =
        banned.iter().map(|entry| entry.as_inline_table().expect("a table")["crate"].as_str().expect("text")).collect();
    assert!(banned.len() >= 5, "the list was read");
    let metadata = metadata();
    let linked: Vec<&str> = metadata.packages.iter().map(|p| p.name.as_str()).filter(|n| banned.contains(n)).collect();
    assert!(linked.is_empty(), "{linked:?}");
}

#[test]
fn no_component_links_inferno() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().expect("resolved");
    let normal: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let linked = node
                .deps
                .iter()
                .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development));
            (&node.id, linked.map(|dependency| &dependency.pkg).collect())
        })
        .collect();
    let inferno: BTreeSet<&PackageId> =
        metadata.packages.iter().filter(|p| p.name.as_str() == "inferno").map(|p| &p.id).collect();
    for package in metadata.workspace_packages() {
        if DRAWS_FLAMEGRAPHS.contains(&package.name.as_str()) {
            continue;
        }
        let (mut seen, mut pending) = (BTreeSet::new(), vec![&package.id]);
        while let Some(id) = pending.pop() {
            assert!(!inferno.contains(id), "{} links inferno", package.name);
            if seen.insert(id) {
                pending.extend(normal.get(id).into_iter().flatten());
            }
        }
    }
}
