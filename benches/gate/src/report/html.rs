//! `report.html`: one file for people, without a reference to any other: what holds, what slips, and by how much.
//!
//! Every benchmark is a section that can be read without scripts; the script only hides what the filter leaves out.

mod plot;

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use harness::environment::Environment;
use harness::metric::Dimension;

use crate::measurement::Summary;
use crate::outcome::{GateReport, Row};
use crate::quantity::Figure;
use crate::rivals::Rival;
use crate::thresholds::Class;
use crate::verdict::Verdict;

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/filter.js");

/// Bytes that a page takes at most.
const MOST_BYTES: usize = 1_000_000;
/// Bytes of the note that something was left out.
const NOTE_BYTES: usize = 200;
/// Characters of a reason or a warning.
const MOST_OF_A_REASON: usize = 400;

/// The whole page; where it would be too large, without plots, and where that is too large still, without the benchmarks that slip least.
pub(super) fn render(report: &GateReport) -> String {
    let whole = render_with(report, true);
    if whole.len() <= MOST_BYTES { whole } else { render_with(report, false) }
}

fn render_with(report: &GateReport, with_plots: bool) -> String {
    let mut page = String::with_capacity(4_096 * (report.rows.len() + 8));
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n<title>Gate</title>\n");
    let _ = write!(page, "<style>\n{STYLE}</style>\n</head>\n<body>\n");
    push_head(&mut page, report);
    page.push_str("<main id=\"benchmarks\">\n");
    let mut end = String::from("</main>\n<p id=\"none\" hidden>No benchmark matches the filter.</p>\n");
    push_warnings(&mut end, report);
    if let Some(env) = &report.env {
        push_environment(&mut end, report, env);
    }
    let _ = write!(end, "<script>\n{SCRIPT}</script>\n</body>\n</html>\n");

    let sections = sections(report);
    let mut left_out = 0;
    for (shown, section) in sections.iter().enumerate() {
        let before = page.len();
        section.push(&mut page, report, with_plots);
        if !with_plots && page.len() + end.len() + NOTE_BYTES > MOST_BYTES {
            page.truncate(before);
            left_out = sections.len() - shown;
            break;
        }
    }
    if !with_plots {
        let _ = write!(page, "<p class=\"quiet\">Too much for one page: without distributions");
        if left_out > 0 {
            let _ = write!(page, " and without {left_out} benchmarks, which are in report.json");
        }
        page.push_str(".</p>\n");
    }
    page + &end
}

/// Text as text, whatever a benchmark or an error is called.
struct Text<'t>(&'t str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// The beginning of a text that may be of any length.
struct Cut<'t>(&'t str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MOST_OF_A_REASON) {
            Some((end, _)) => write!(f, "{}…", Text(&self.0[..end])),
            None => Text(self.0).fmt(f),
        }
    }
}

/// The word that marks a verdict for the style sheet and the filter.
fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Error => "error",
        Verdict::Fail => "fail",
        Verdict::Missing => "missing",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Warn => "warn",
        Verdict::Waived => "waived",
        Verdict::Pass => "pass",
        Verdict::NotSelected => "outside",
    }
}

fn push_head(page: &mut String, report: &GateReport) {
    let mut counts = report.counts();
    // What rivals have shown of these sources counts here; the exit code is that of the run alone.
    let of_rivals = report.rivals.rows.iter().filter(|(_, rival)| is_current(report, rival));
    for verdict in of_rivals.filter_map(|(_, rival)| verdict_of(rival)) {
        *counts.entry(verdict).or_default() += 1;
    }
    let missed = counts[&Verdict::Error] + counts[&Verdict::Fail];
    let untold = counts[&Verdict::Missing] + counts[&Verdict::Inconclusive];
    let waived = counts[&Verdict::Waived];
    let (state, sentence) = match (missed, untold, counts[&Verdict::Pass] + counts[&Verdict::Warn]) {
        (0, 0, 0) if waived == 0 => ("missing", "Nothing was judged.".to_owned()),
        (0, 0, _) if waived == 1 => ("warn", "Every limit is met but one that is waived.".to_owned()),
        (0, 0, _) if waived > 1 => ("warn", format!("Every limit is met but {waived} that are waived.")),
        (0, 0, _) if counts[&Verdict::Warn] > 0 => {
            ("warn", "Every limit is met, some with little headroom.".to_owned())
        }
        (0, 0, _) => ("pass", "Every limit is met.".to_owned()),
        (0, untold, _) => ("missing", format!("No limit is missed; {untold} could not be told.")),
        (1, ..) => ("fail", "One limit is missed.".to_owned()),
        (missed, ..) => ("fail", format!("{missed} limits are missed.")),
    };
    let _ = write!(page, "<header class=\"{state}\">\n<h1>Gate</h1>\n<p class=\"lead\">{sentence}</p>\n");
    let _ = write!(
        page,
        "<p>Profile <b>{}</b>, limits from <code>{}</code>",
        Text(&report.profile),
        Text(&report.thresholds)
    );
    if let Some(run) = &report.run {
        let _ = write!(page, ", run <code>{}</code>", Text(run));
    }
    page.push_str(".</p>\n");
    push_rivals_in_short(page, report);
    for relaxed in &report.relaxed {
        let _ = writeln!(page, "<p class=\"relaxed\">{}</p>", Cut(relaxed));
    }
    page.push_str("</header>\n<nav>\n<div class=\"chips\" role=\"group\" aria-label=\"Verdicts\">\n");
    // Limits against rivals are judged elsewhere, and shown with the rivals.
    let elsewhere = report.rows.iter().filter(|row| is_elsewhere(row)).count();
    let shown = counts.iter().map(|(&verdict, &count)| match verdict {
        Verdict::NotSelected => (verdict, count - elsewhere),
        _ => (verdict, count),
    });
    for (verdict, count) in shown.filter(|(_, count)| *count > 0) {
        let _ = writeln!(
            page,
            "<button type=\"button\" class=\"chip {0}\" data-verdict=\"{0}\" aria-pressed=\"false\"><b>{count}</b> {verdict}</button>",
            mark(verdict),
        );
    }
    page.push_str(
        "</div>\n<input id=\"filter\" type=\"search\" placeholder=\"Filter by name\" aria-label=\"Filter by name\">\n",
    );
    page.push_str("<span id=\"shown\" role=\"status\"></span>\n</nav>\n");
}

/// Whether the row is about a rival, which this run did not measure.
fn is_elsewhere(row: &Row) -> bool {
    row.verdict == Verdict::NotSelected && row.is_against_rival()
}

/// One sentence on the rivals, or on how to measure them.
fn push_rivals_in_short(page: &mut String, report: &GateReport) {
    let ratios: Vec<f64> = report.rivals.rows.iter().filter_map(|(_, rival)| rival.ratio).collect();
    if ratios.is_empty() {
        let mut names: Vec<&str> =
            report.rows.iter().filter(|row| is_elsewhere(row)).filter_map(|row| row.bench.split('/').next()).collect();
        names.dedup();
        for name in names {
            let _ = writeln!(
                page,
                "<p class=\"quiet\">Rivals: <code>cargo gate peers {}</code> measures them.</p>",
                Text(name)
            );
        }
        return;
    }
    let intervals: Vec<[f64; 2]> = report.rivals.rows.iter().filter_map(|(_, rival)| rival.interval).collect();
    let ahead = intervals.iter().filter(|[lo, _]| *lo > 1.0).count();
    let behind = intervals.iter().filter(|[_, hi]| *hi < 1.0).count();
    let _ = write!(page, "<p id=\"rivals\">Beside rivals: ahead in <b>{ahead}</b> of {} comparisons", ratios.len());
    let _ = write!(page, ", behind in <b>{behind}</b>");
    if report.rivals.rows.iter().any(|(_, rival)| !is_current(report, rival)) {
        page.push_str(", some of them measured on another state of the sources");
    }
    page.push_str(".</p>\n");
}

/// Whether the rival was measured beside the sources of the report.
fn is_current(report: &GateReport, rival: &Rival) -> bool {
    report.revision.as_ref().is_none_or(|own| *own == rival.revision)
}

/// What was said of the limit on the rival, if it has one.
fn verdict_of(rival: &Rival) -> Option<Verdict> {
    Verdict::ALL.into_iter().find(|verdict| rival.verdict.as_deref() == Some(verdict.word()))
}

/// A benchmark with everything that is known of it.
#[derive(Default)]
struct Section<'r> {
    bench: &'r str,
    rows: Vec<&'r Row>,
    summaries: Vec<&'r Summary>,
    rivals: Vec<&'r Rival>,
    /// The verdicts on its limits, those against rivals included.
    verdicts: Vec<Verdict>,
}

/// The worst first, then by name; rows outside the profile say nothing and stand last.
fn sections(report: &GateReport) -> Vec<Section<'_>> {
    let mut benches: BTreeMap<&str, Section<'_>> = BTreeMap::new();
    for row in report.rows.iter().filter(|row| !is_elsewhere(row)) {
        benches.entry(&row.bench).or_default().rows.push(row);
    }
    for summary in &report.summaries {
        benches.entry(&summary.bench).or_default().summaries.push(summary);
    }
    for (bench, rival) in &report.rivals.rows {
        benches.entry(bench).or_default().rivals.push(rival);
    }
    let mut sections: Vec<Section<'_>> =
        benches.into_iter().map(|(bench, section)| Section { bench, ..section }).collect();
    for section in &mut sections {
        let against_rivals = section.rivals.iter().filter(|rival| is_current(report, rival));
        let verdicts = section.rows.iter().map(|row| row.verdict);
        section.verdicts = verdicts.chain(against_rivals.filter_map(|rival| verdict_of(rival))).collect();
    }
    sections.sort_by_key(|section| (section.verdict(), section.bench));
    sections
}

impl Section<'_> {
    /// The worst; without limits, none.
    fn verdict(&self) -> Verdict {
        self.verdicts.iter().copied().min().unwrap_or(Verdict::NotSelected)
    }

    fn push(&self, page: &mut String, report: &GateReport, with_plots: bool) {
        let verdict = self.verdict();
        let mut marks: Vec<&str> = self.verdicts.iter().copied().map(mark).collect();
        marks.dedup();
        let _ = writeln!(
            page,
            "<section data-name=\"{0}\" data-verdicts=\"{1}\" class=\"{2}\">\n<h2><span class=\"badge\">{3}</span> {0}</h2>",
            Text(self.bench),
            marks.join(" "),
            mark(verdict),
            match (self.verdicts.is_empty(), self.rivals.is_empty()) {
                (false, _) => verdict.word(),
                (true, true) => "NO LIMIT",
                (true, false) => "RIVALS",
            },
        );
        if !self.rows.is_empty() {
            page.push_str(
                "<div class=\"scroll\"><table>\n<thead><tr><th>limit of</th><th>metric</th><th>measured</th>",
            );
            page.push_str("<th>limit</th><th>of the limit</th><th>verdict</th></tr></thead>\n<tbody>\n");
            self.rows.iter().for_each(|row| push_row(page, row));
            page.push_str("</tbody></table></div>\n");
        }
        let mut told: Vec<&str> = Vec::new();
        for row in self.rows.iter().filter(|row| !row.reason.is_empty() && row.verdict != Verdict::NotSelected) {
            // One cause may stand in the way of several limits.
            if told.contains(&row.reason.as_str()) {
                continue;
            }
            told.push(&row.reason);
            let _ = write!(page, "<p class=\"reason {}\">{}", mark(row.verdict), Cut(&row.reason));
            if !row.next.is_empty() {
                let _ = write!(page, " <span class=\"next\">next: <code>{}</code></span>", Text(&row.next));
            }
            page.push_str("</p>\n");
        }
        if !self.rivals.is_empty() {
            self.push_rivals(page, report);
        }
        if !self.summaries.is_empty() && with_plots {
            page.push_str("<div class=\"plots\">\n");
            self.summaries.iter().for_each(|summary| plot::push_distribution(page, summary));
            page.push_str("</div>\n");
        }
        page.push_str("</section>\n");
    }

    fn push_rivals(&self, page: &mut String, report: &GateReport) {
        page.push_str(
            "<div class=\"scroll\"><table class=\"rivals\">\n<thead><tr><th>rival</th><th>ours</th><th>theirs</th>",
        );
        page.push_str("<th>ours is better</th><th>limit</th><th>verdict</th></tr></thead>\n<tbody>\n");
        for rival in &self.rivals {
            let time =
                |value: Option<f64>| value.map_or_else(String::new, |value| Figure(value, Dimension::Time).to_string());
            let verdict = verdict_of(rival);
            let _ = write!(
                page,
                "<tr class=\"{}\"><td>{}</td><td class=\"number\" data-label=\"ours\">{}</td>\
                 <td class=\"number\" data-label=\"theirs\">{}</td><td class=\"number\" data-label=\"better by\">",
                verdict.map_or("outside", mark),
                Text(&rival.peer),
                time(rival.ours),
                time(rival.theirs),
            );
            match (rival.ratio, rival.interval) {
                (Some(ratio), Some([lo, hi])) => {
                    let _ = write!(page, "{ratio:.2}x <small>[{lo:.2}x, {hi:.2}x]</small>");
                    if let Some([ours, theirs]) = rival.success.map(|shares| shares.map(|share| share * 100.0)) {
                        let _ = write!(page, " <small>right: ours {ours:.1} %, theirs {theirs:.1} %</small>");
                    }
                }
                _ => {
                    let _ = write!(page, "<small>{}</small>", Cut(rival.missing.as_deref().unwrap_or("not measured")));
                }
            }
            if !is_current(report, rival) {
                let _ = write!(page, " <small>measured at {}</small>", Text(&rival.revision));
            }
            let _ = writeln!(
                page,
                "</td><td data-label=\"limit\">{}</td><td><b>{}</b></td></tr>",
                Text(rival.limit.as_deref().unwrap_or("none")),
                verdict.map_or("", Verdict::word),
            );
        }
        page.push_str("</tbody></table></div>\n");
    }
}

fn push_row(page: &mut String, row: &Row) {
    let whose = match row.class {
        Some(Class::Seed) => "the original",
        Some(Class::Own) => "ours",
        Some(Class::Versus) => "a floor",
        None => "",
    };
    let metric = row.metric.map_or("", |metric| metric.name());
    let (value, interval) = (row.value_text(), row.interval_text());
    let _ = write!(
        page,
        "<tr class=\"{}\"><td>{whose}</td><td>{metric}</td><td class=\"number\" data-label=\"measured\">",
        mark(row.verdict)
    );
    let _ = write!(page, "{}", Text(&value));
    if !interval.is_empty() {
        let _ = write!(page, " <small>{}</small>", Text(&interval));
    }
    let _ = write!(page, "</td><td class=\"number\" data-label=\"limit\">{}", Text(&row.limit));
    if let Some(place) = row.place {
        let _ = write!(page, " <small>line {}</small>", place.line);
    }
    page.push_str("</td><td>");
    plot::push_headroom(page, row);
    let _ = writeln!(page, "</td><td><b>{}</b></td></tr>", row.verdict);
}

fn push_warnings(page: &mut String, report: &GateReport) {
    if report.warnings.is_empty() {
        return;
    }
    page.push_str("<details class=\"warnings\"><summary>");
    let _ = writeln!(page, "{} warnings</summary><ul>", report.warnings.len());
    let end = page.len() + MOST_BYTES / 4;
    for (shown, warning) in report.warnings.iter().enumerate() {
        if page.len() > end {
            let _ = writeln!(page, "<li>{} more are in report.json</li>", report.warnings.len() - shown);
            break;
        }
        let _ = writeln!(page, "<li>{}</li>", Cut(warning));
    }
    page.push_str("</ul></details>\n");
}

fn push_environment(page: &mut String, report: &GateReport, env: &Environment) {
    page.push_str("<footer><h2>Environment</h2><dl>\n");
    let cores = env.cores.to_string();
    let entries = [
        ("processor", env.cpu.as_str()),
        ("processors", cores.as_str()),
        ("kernel", env.kernel.as_str()),
        ("compiler", env.rustc.as_str()),
        ("build", env.profile.as_str()),
        ("sources", report.revision.as_deref().unwrap_or("unknown")),
        ("run", report.run.as_deref().unwrap_or("none")),
    ];
    for (name, value) in entries {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", Text(value));
    }
    page.push_str("</dl></footer>\n");
}
