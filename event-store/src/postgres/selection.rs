//! Reads as statements.

use tokio_postgres::types::{ToSql, Type};

use super::call::number;
use super::rows::COLUMNS;
use crate::event::{Position, StreamVersion};
use crate::name::StreamId;
use crate::query::{Query, QueryItem};
use crate::read::Source;

/// A statement with its parameters.
pub(super) struct Selection {
    pub(super) statement: String,
    pub(super) parameters: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
    /// Whether the statement is one of a few: worth preparing.
    pub(super) is_frequent: bool,
}

/// Which part of a source to take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) backwards: bool,
    /// Only events up to this position.
    pub(super) watermark: Option<Position>,
    pub(super) limit: i64,
}

impl Selection {
    /// The first events of `source`, in the direction of `part`, each with the head of the same moment; at least one row.
    pub(super) fn new(source: &Source, part: Part) -> Self {
        let mut parameters = Parameters::default();
        let events = match source {
            Source::Stream { id, from } => of_stream(&mut parameters, id, *from, part),
            Source::Store { query: Query::All, from } => of_all(&mut parameters, *from, part),
            Source::Store { query: Query::Items(items), from } => {
                of_items(&mut parameters, items.as_slice(), *from, part)
            }
        };
        Self {
            statement: format!("SELECT h.position AS head, e.* FROM es_head h LEFT JOIN LATERAL ({events}) e ON true"),
            is_frequent: !matches!(source, Source::Store { query: Query::Items(_), .. }),
            parameters: parameters.0,
        }
    }
}

#[derive(Default)]
struct Parameters(Vec<(Box<dyn ToSql + Sync + Send>, Type)>);

impl Parameters {
    /// Adds a parameter and returns how a statement names it.
    fn add(&mut self, value: impl ToSql + Sync + Send + 'static, kind: Type) -> String {
        self.0.push((Box::new(value), kind));
        format!("${}", self.0.len())
    }

    /// The bounds of `column`, by version or position, from `from` on in a direction: two parameters.
    fn bounds(&mut self, column: &str, from: Option<i64>, backwards: bool) -> String {
        let (low, high) = if backwards { (0, from.unwrap_or(i64::MAX)) } else { (from.unwrap_or(0), i64::MAX) };
        let (low, high) = (self.add(low, Type::INT8), self.add(high, Type::INT8));
        format!("{column} BETWEEN {low} AND {high}")
    }
}

fn direction(backwards: bool) -> &'static str {
    if backwards { "DESC" } else { "ASC" }
}

fn watermark(part: Part) -> i64 {
    part.watermark.map_or(i64::MAX, |position| number(position.get()))
}

fn of_stream(parameters: &mut Parameters, id: &StreamId, from: Option<StreamVersion>, part: Part) -> String {
    let stream = parameters.add(id.as_str().to_owned(), Type::TEXT);
    let bounds = parameters.bounds("e.version", from.map(|version| number(version.get())), part.backwards);
    let most = parameters.add(watermark(part), Type::INT8);
    let limit = parameters.add(part.limit, Type::INT8);
    format!(
        "SELECT {COLUMNS} FROM es_events e WHERE e.stream = {stream} AND {bounds} AND e.position <= {most}
            ORDER BY e.stream {direction}, e.version {direction} LIMIT {limit}",
        direction = direction(part.backwards)
    )
}

/// From where to where a read goes by position.
fn span(from: Option<Position>, part: Part) -> (i64, i64) {
    let from = from.map(|position| number(position.get()));
    match part.backwards {
        true => (0, from.unwrap_or(i64::MAX).min(watermark(part))),
        false => (from.unwrap_or(0), watermark(part)),
    }
}

fn of_all(parameters: &mut Parameters, from: Option<Position>, part: Part) -> String {
    let (low, high) = span(from, part);
    let (low, high) = (parameters.add(low, Type::INT8), parameters.add(high, Type::INT8));
    let limit = parameters.add(part.limit, Type::INT8);
    format!(
        "SELECT {COLUMNS} FROM es_events e WHERE e.position BETWEEN {low} AND {high}
            ORDER BY e.position {direction} LIMIT {limit}",
        direction = direction(part.backwards)
    )
}

/// The positions of each item by its own, each of them limited; then the first of them all.
fn of_items(parameters: &mut Parameters, items: &[QueryItem], from: Option<Position>, part: Part) -> String {
    let (low, high) = span(from, part);
    let (low, high) = (parameters.add(low, Type::INT8), parameters.add(high, Type::INT8));
    let limit = parameters.add(part.limit, Type::INT8);
    let direction = direction(part.backwards);
    let mut lists = Vec::new();
    for item in items {
        match item.event_tags().as_slice() {
            [] => {
                // A list for each type: an index gives it in order.
                for event_type in item.event_types() {
                    let name = parameters.add(event_type.as_str().to_owned(), Type::TEXT);
                    lists.push(format!(
                        "(SELECT y.position FROM es_events y WHERE y.type = {name} AND y.position BETWEEN {low} AND {high}
                            ORDER BY y.type {direction}, y.position {direction} LIMIT {limit})"
                    ));
                }
            }
            [first, others @ ..] => {
                let first = parameters.add(first.as_str().to_owned(), Type::TEXT);
                let mut list = format!(
                    "SELECT t.position FROM es_tags t WHERE t.tag = {first} AND t.position BETWEEN {low} AND {high}"
                );
                for other in others {
                    let other = parameters.add(other.as_str().to_owned(), Type::TEXT);
                    list += &format!(
                        " AND EXISTS (SELECT FROM es_tags o WHERE o.tag = {other} AND o.position = t.position)"
                    );
                }
                if !item.event_types().is_empty() {
                    let types: Vec<String> = item.event_types().iter().map(ToString::to_string).collect();
                    let types = parameters.add(types, Type::TEXT_ARRAY);
                    list +=
                        &format!(" AND (SELECT y.type FROM es_events y WHERE y.position = t.position) = ANY ({types})");
                }
                lists.push(format!("({list} ORDER BY t.tag {direction}, t.position {direction} LIMIT {limit})"));
            }
        }
    }
    format!(
        "SELECT {COLUMNS} FROM (SELECT DISTINCT l.position FROM ({lists}) l ORDER BY l.position {direction} LIMIT {limit}) m
            CROSS JOIN LATERAL (SELECT * FROM es_events k WHERE k.position = m.position LIMIT 1) e",
        lists = lists.join(" UNION ALL ")
    )
}
