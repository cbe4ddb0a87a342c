//! `report.md`: for a step summary or a comment on a change.

use std::fmt::Write as _;

use crate::outcome::{GateReport, Row};
use crate::verdict::Verdict;

/// A step summary of GitHub takes 1 MiB and shows nothing of a longer one. What stands behind the table fits the rest.
const MOST_BYTES: usize = 1_000_000;
/// Characters of one cell or warning.
const MOST_OF_A_TEXT: usize = 1_000;

pub(super) fn render(report: &GateReport) -> String {
    let mut text = String::from("# Gate\n\n");
    let counts = report.counts();
    let words: Vec<String> = counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(verdict, count)| format!("**{count}** {verdict}"))
        .collect();
    let _ = writeln!(
        text,
        "{}. Profile {}, limits from {}.\n",
        words.join(", "),
        escaped(&report.profile),
        escaped(&report.thresholds)
    );
    for (shown, line) in report.relaxed.iter().chain(&report.warnings).enumerate() {
        if text.len() > MOST_BYTES / 2 {
            let left = report.relaxed.len() + report.warnings.len() - shown;
            let _ = writeln!(text, "> Cut here: {left} more warnings are in report.json and report.html.\n");
            break;
        }
        let _ = writeln!(text, "> {}\n", escaped(line));
    }
    if report.nothing_selected {
        text.push_str("> Nothing was selected: no limit matches the filter and the profile.\n\n");
    }
    text.push_str("| verdict | benchmark | metric | value | interval | limit | headroom | reason |\n");
    text.push_str("|---|---|---|--:|---|--:|--:|---|\n");
    // Worst first, so a cut leaves out what is met.
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.verdict != Verdict::NotSelected).collect();
    for (shown, row) in rows.iter().enumerate() {
        let before = text.len();
        push_row(&mut text, row);
        if text.len() > MOST_BYTES {
            text.truncate(before);
            let _ =
                writeln!(text, "\n> Cut here: {} more rows are in report.json and report.html.", rows.len() - shown);
            break;
        }
    }
    if let Some(env) = &report.env {
        let _ = writeln!(
            text,
            "\n{}, {} processors, kernel {}, {}.",
            escaped(&env.cpu),
            env.cores,
            escaped(&env.kernel),
            escaped(&env.rustc)
        );
    }
    text
}

fn push_row(text: &mut String, row: &Row) {
    let headroom = row.headroom.map(|headroom| format!("{:.0} %", headroom * 100.0)).unwrap_or_default();
    let _ = writeln!(
        text,
        "| {} | `{}` | {} | {} | {} | {} | {headroom} | {} |",
        row.verdict,
        // A bar ends a cell even inside a code span.
        row.bench.replace('`', "'").replace('|', "\\|").replace(char::is_control, " "),
        row.metric.map_or("", |metric| metric.name()),
        escaped(&row.value_text()),
        escaped(&row.interval_text()),
        escaped(&row.limit),
        escaped(&row.reason),
    );
}

/// Text that is text in a table's cell, whatever a benchmark or an error is called.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, character) in text.chars().enumerate() {
        if at == MOST_OF_A_TEXT {
            escaped.push('…');
            break;
        }
        match character {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => escaped.extend(['\\', character]),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            _ if character.is_control() => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}
