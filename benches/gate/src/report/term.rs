//! The table that a person reads at a glance: worst first, a reason and a next step under each row that is not met.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style as Ansi};

use crate::outcome::{GateReport, Row};
use crate::verdict::Verdict;

/// The widest line.
const WIDTH: usize = 100;
const VERDICT: usize = 12;
const METRIC: usize = 22;
const VALUE: usize = 9;
const LIMIT: usize = 16;
const BENCH: usize = WIDTH - VERDICT - METRIC - VALUE - LIMIT - 4;

/// Whether to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Style {
    /// Characters alone.
    Plain,
    /// Colours of a terminal.
    Coloured,
}

pub(super) fn render(report: &GateReport, style: Style) -> String {
    let mut text = String::new();
    for relaxed in &report.relaxed {
        push_wrapped(&mut text, "note: ", relaxed);
    }
    let shown: Vec<&Row> = report.rows.iter().filter(|row| row.verdict != Verdict::NotSelected).collect();
    if !shown.is_empty() {
        let header = format!(
            "{:<VERDICT$} {:<BENCH$} {:<METRIC$} {:>VALUE$} {:>LIMIT$}",
            "verdict", "benchmark", "metric", "value", "limit"
        );
        let _ = writeln!(text, "{header}\n{}", "-".repeat(WIDTH));
    }
    for row in shown {
        push_row(&mut text, row, style);
    }
    for warning in &report.warnings {
        push_wrapped(&mut text, "warning: ", warning);
    }
    if report.nothing_selected {
        text.push_str("nothing was selected: no limit matches the filter and the profile\n");
    }
    let counts = report.counts();
    let words: Vec<String> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(verdict, count)| format!("{count} {verdict}")).collect();
    let _ = writeln!(text, "\n{} (profile {}, {})", words.join(", "), report.profile, report.thresholds);
    text
}

fn push_row(text: &mut String, row: &Row, style: Style) {
    let colour = colour(row.verdict);
    let (on, off) = if style == Style::Coloured {
        (colour.render().to_string(), colour.render_reset().to_string())
    } else {
        (String::new(), String::new())
    };
    let metric = row.metric.map_or("", |metric| metric.name());
    let limit = if row.is_ratio { "versus" } else { &row.limit };
    let _ = writeln!(
        text,
        "{on}{:<VERDICT$}{off} {:<BENCH$} {:<METRIC$} {:>VALUE$} {:>LIMIT$}",
        row.verdict.word(),
        cut_front(&row.bench, BENCH),
        cut(metric, METRIC),
        cut(&row.value_text(), VALUE),
        cut(limit, LIMIT),
    );
    if !row.reason.is_empty() {
        push_wrapped(text, "    ", &row.reason);
    } else if row.is_ratio {
        push_wrapped(text, "    ", &row.limit);
    }
    if !row.next.is_empty() {
        push_wrapped(text, "    next: ", &row.next);
    }
}

fn colour(verdict: Verdict) -> Ansi {
    let of = |colour: AnsiColor| colour.on_default();
    match verdict {
        Verdict::Error | Verdict::Fail => of(AnsiColor::Red).bold(),
        Verdict::Missing | Verdict::Inconclusive => of(AnsiColor::Magenta),
        Verdict::Warn | Verdict::Waived => of(AnsiColor::Yellow),
        Verdict::Pass => of(AnsiColor::Green),
        Verdict::NotSelected => Ansi::new(),
    }
}

/// The last characters count in an id, the first in everything else.
fn cut_front(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        text.to_owned()
    } else {
        std::iter::once('…').chain(text.chars().skip(length + 1 - width)).collect()
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// Breaks at spaces; a word that is wider than the line is cut in pieces.
fn push_wrapped(text: &mut String, first: &str, content: &str) {
    let indent = " ".repeat(first.chars().count());
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in content.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let used = line.chars().count() + usize::from(!is_empty);
            if used + word.len() <= WIDTH {
                if !is_empty {
                    line.push(' ');
                }
                line.extend(&word);
                is_empty = false;
                break;
            }
            if is_empty {
                line.extend(word.drain(..WIDTH - used));
            }
            text.push_str(line.trim_end());
            text.push('\n');
            line.clone_from(&indent);
            is_empty = true;
        }
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
