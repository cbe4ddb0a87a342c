//! The documents of the repository: what they link to is there.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Markdown file below `folder` that belongs to the repository.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

#[test]
fn links_inside_the_repository_lead_to_files() {
    let mut found = Vec::new();
    documents(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), &mut found);
    let mut links = 0;
    for document in &found {
        let text = fs::read_to_string(document).expect("text");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let file = document.with_file_name(target.split('#').next().unwrap_or(target));
            assert!(file.exists(), "{} links to {target}, which is not there", document.display());
            links += 1;
        }
    }
    assert!(found.len() >= 8 && links >= 10, "{} documents, {links} links", found.len());
}
