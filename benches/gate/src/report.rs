//! Reports: one model, one file a format.

mod csv;
mod html;
mod json;
mod junit;
mod markdown;
mod term;

use std::io;
use std::path::{Path, PathBuf};

use harness::record::replace_file;

use crate::outcome::GateReport;

pub use term::Style;

/// A form that a report can take.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// The name that `--format` takes.
    pub name: &'static str,
    /// The file that every run writes; the terminal has none.
    pub file: Option<&'static str>,
    render: fn(&GateReport) -> String,
}

impl Format {
    /// The report in this form.
    #[must_use]
    pub fn render(&self, report: &GateReport) -> String {
        (self.render)(report)
    }

    /// The format called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }
}

/// Every format.
pub static FORMATS: [Format; 6] = [
    Format { name: "term", file: None, render: |report| term::render(report, Style::Plain) },
    Format { name: "json", file: Some("report.json"), render: json::render },
    Format { name: "csv", file: Some("report.csv"), render: csv::render },
    Format { name: "html", file: Some("report.html"), render: html::render },
    Format { name: "md", file: Some("report.md"), render: markdown::render },
    Format { name: "junit", file: Some("junit.xml"), render: junit::render },
];

/// The table for a terminal, with colours if `style` has them. At most 100 columns.
#[must_use]
pub fn table(report: &GateReport, style: Style) -> String {
    term::render(report, style)
}

/// Writes every report into `out`, each whole and synced; returns their paths.
///
/// # Errors
/// What the file system says, for the first report that could not be written; the others are written all the same.
pub fn write_all(report: &GateReport, out: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(out)?;
    let mut first_error = None;
    let mut paths = Vec::new();
    for (format, file) in FORMATS.iter().filter_map(|format| Some((format, format.file?))) {
        let path = out.join(file);
        match replace_file(&path, format.render(report).as_bytes()) {
            Ok(()) => paths.push(path),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(paths), Err)
}
