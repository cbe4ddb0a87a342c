//! Why a similar list that is sorted again is not the answer: how many of the ten best memories it holds, by the length of the list.
//! With a path it also draws the chart there.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "../benches/workload/mod.rs"]
mod workload;

use std::fmt::Write;

use memory_store::{Query, Scoring, Weights};
use workload::filled::{DIMENSIONS, queries, recurring};

const MEMORIES: usize = 20_000;
const LISTS: [usize; 9] = [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let composite = recurring(DIMENSIONS, MEMORIES, |config| config);
    let similarity = Weights { temporal: 0.0, recurrence: 0.0, importance: 0.0, feedback: 0.0, ..Weights::default() };
    let similar = recurring(DIMENSIONS, MEMORIES, |config| config.scoring(Scoring::Additive(similarity)));
    let queries = queries(DIMENSIONS, 100);
    let mut held = [0usize; LISTS.len()];
    for query in &queries {
        let best: Vec<_> = composite.retrieve(&Query::new(query, 10))?.hits.iter().map(|hit| hit.id).collect();
        let longest = LISTS[LISTS.len() - 1];
        let list: Vec<_> = similar.retrieve(&Query::new(query, longest))?.hits.iter().map(|hit| hit.id).collect();
        for (held, &length) in held.iter_mut().zip(&LISTS) {
            *held += best.iter().filter(|id| list[..length].contains(id)).count();
        }
    }
    let recall: Vec<f64> = held.iter().map(|&held| held as f64 / (10 * queries.len()) as f64).collect();
    println!("of the 10 best of {MEMORIES} memories by similarity, age and recurrence");
    for (length, recall) in LISTS.iter().zip(&recall) {
        println!("{:6.1} % are among the {length} most similar", 100.0 * recall);
    }
    assert!(recall[0] < 0.9 && recall.is_sorted(), "a short list misses some, a longer one fewer");
    if let Some(path) = std::env::args_os().nth(1) {
        std::fs::write(path, chart(&recall)?)?;
    }
    Ok(())
}

fn chart(recall: &[f64]) -> Result<String, Box<dyn std::error::Error>> {
    let x = |at: usize| 70.0 + at as f64 * 66.0;
    let y = |recall: f64| 260.0 - recall * 220.0;
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 660 330\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"660\" height=\"330\" fill=\"white\"/>\n",
    );
    writeln!(
        svg,
        "<text x=\"70\" y=\"20\" font-size=\"14\">Share of the ten best that a list of similar memories holds</text>"
    )?;
    for percent in [0, 25, 50, 75, 100] {
        let at = y(f64::from(percent) / 100.0);
        writeln!(svg, "<line x1=\"64\" x2=\"610\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>")?;
        writeln!(svg, "<text x=\"58\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>", at + 4.0)?;
    }
    writeln!(
        svg,
        "<line x1=\"70\" x2=\"598\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#0a7d3c\" stroke-width=\"3\"/>",
        y(1.0)
    )?;
    writeln!(
        svg,
        "<text x=\"598\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#0a7d3c\">retrieve: exact</text>",
        y(1.0) - 6.0
    )?;
    let points: Vec<String> =
        recall.iter().enumerate().map(|(at, &share)| format!("{:.1},{:.1}", x(at), y(share))).collect();
    writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"#b3261e\" stroke-width=\"3\"/>", points.join(" "))?;
    writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#b3261e\">fetch and sort again</text>",
        x(3) + 8.0,
        y(recall[3]) + 18.0
    )?;
    for (at, length) in LISTS.iter().enumerate() {
        writeln!(svg, "<text x=\"{:.1}\" y=\"282\" text-anchor=\"middle\">{length}</text>", x(at))?;
    }
    writeln!(
        svg,
        "<text x=\"334\" y=\"308\" text-anchor=\"middle\">most similar memories fetched, of {MEMORIES}</text>"
    )?;
    svg.push_str("</svg>\n");
    Ok(svg)
}
