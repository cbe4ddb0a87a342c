//! The last comparisons with rivals: what `cargo gate peers` keeps, so that a report can show them beside our limits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use harness::record::replace_file;
use serde::{Deserialize, Serialize};

/// The version of the file format that this code reads and writes.
const SCHEMA: u32 = 1;

/// One work of a component beside one rival. Times are mean nanoseconds an operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rival {
    /// The work, `save/1`.
    pub work: String,
    /// The rival.
    pub peer: String,
    /// Ours.
    pub ours: Option<f64>,
    /// Theirs.
    pub theirs: Option<f64>,
    /// Unit of both: `ns`.
    pub unit: String,
    /// How many times better ours is.
    pub ratio: Option<f64>,
    /// Both ends of its interval.
    pub interval: Option<[f64; 2]>,
    /// The share of right answers, ours and theirs (recall, for a search), where both record one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<[f64; 2]>,
    /// Why there is nothing, if there is nothing.
    pub missing: Option<String>,
    /// The limit on the ratio, in words, if there is one.
    pub limit: Option<String>,
    /// The verdict on it.
    pub verdict: Option<String>,
    /// The sources that were measured, as [`Revision`](crate::revision::Revision) prints them.
    pub revision: String,
}

/// The last comparisons of one component, as its file holds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    schema: u32,
    /// The component, `event-store`.
    pub component: String,
    /// One for each work and rival, in the order in which they were measured.
    pub rivals: Vec<Rival>,
}

/// The last comparisons of every component, by benchmark id, and which files could not be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rivals {
    /// `(event-store/save/1, …)`, in the order of the works.
    pub rows: Vec<(String, Rival)>,
    /// One line a file.
    pub problems: Vec<String>,
}

fn folder(out: &Path) -> PathBuf {
    out.join("peers")
}

/// Keeps `rivals` of `component` below `out`, in place of what was kept of the same works and rivals; in place of everything, if these
/// are `all` that there are.
///
/// # Errors
/// What the file system says; what was kept is untouched then.
pub fn keep(out: &Path, component: &str, rivals: &[Rival], all: bool) -> io::Result<()> {
    let path = folder(out).join(format!("{component}.json"));
    let before = match fs::read(&path) {
        // What cannot be read is not worth keeping.
        Ok(text) if !all => Kept::parse(&text).map_or_else(
            |reason| {
                eprintln!("note: {} is replaced: {reason}", path.display());
                Vec::new()
            },
            |kept| kept.rivals,
        ),
        _ => Vec::new(),
    };
    let is_new = |old: &Rival| rivals.iter().any(|new| (&new.work, &new.peer) == (&old.work, &old.peer));
    let mut kept: Vec<Rival> = before.into_iter().filter(|old| !is_new(old)).collect();
    kept.extend(rivals.iter().cloned());
    let kept = Kept { schema: SCHEMA, component: component.to_owned(), rivals: kept };
    fs::create_dir_all(folder(out))?;
    replace_file(&path, &serde_json::to_vec_pretty(&kept)?)
}

/// Reads what is kept below `out`.
#[must_use]
pub fn read(out: &Path) -> Rivals {
    let mut rivals = Rivals::default();
    let entries = fs::read_dir(folder(out)).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|own| own == "json")).collect();
    files.sort();
    for path in files {
        match fs::read(&path).map_err(|error| error.to_string()).and_then(|text| Kept::parse(&text)) {
            Ok(Kept { component, rivals: rows, .. }) => {
                rivals.rows.extend(rows.into_iter().map(|rival| (format!("{component}/{}", rival.work), rival)));
            }
            Err(reason) => rivals.problems.push(format!("{}: {reason}", path.display())),
        }
    }
    rivals
}

impl Kept {
    /// Reads a file of comparisons.
    ///
    /// # Errors
    /// A sentence: no JSON of this form, another version, or a figure that is none.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let kept: Self = serde_json::from_slice(text).map_err(|error| format!("no comparisons: {error}"))?;
        if kept.schema != SCHEMA {
            return Err(format!("schema {}, this gate reads {SCHEMA}", kept.schema));
        }
        let figures = |rival: &Rival| {
            let pairs = [rival.interval, rival.success].into_iter().flatten().flatten();
            [rival.ours, rival.theirs, rival.ratio].into_iter().flatten().chain(pairs).all(f64::is_finite)
        };
        match kept.rivals.iter().find(|rival| !figures(rival)) {
            Some(rival) => Err(format!("{} beside {} is no figure", rival.work, rival.peer)),
            None => Ok(kept),
        }
    }
}
