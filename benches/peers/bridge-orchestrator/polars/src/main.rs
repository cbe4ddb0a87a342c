//! Crate polars 0.55: columns made of the rows, and a lazy group-by over them.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use bridge_orchestrator_contest::{Contest, Group, Item, Reduces};
use polars::prelude::*;

/// Threads of its pool, which it takes from its environment alone. With so few rows two are no faster.
const THREADS: (&str, &str) = ("POLARS_MAX_THREADS", "1");

fn main() -> ExitCode {
    if std::env::var_os(THREADS.0).is_none() {
        let itself = std::env::current_exe().expect("this program");
        let error = Command::new(itself).args(std::env::args_os().skip(1)).env(THREADS.0, THREADS.1).exec();
        panic!("this program does not start again: {error}");
    }
    Contest::of("polars").reduces::<Columns>().run()
}

struct Columns;

impl Reduces for Columns {
    const NOTE: &'static str = "polars 0.55, lazy, one thread; four columns made of the rows, no states and no intents";
    type Row<'a> = Item<'a>;

    fn row(item: Item<'_>) -> Item<'_> {
        item
    }

    fn reduce(rows: &[Item<'_>]) -> Vec<Group> {
        grouped(rows).expect("the columns fit")
    }
}

fn grouped<'a>(rows: &[Item<'a>]) -> PolarsResult<Vec<Group>> {
    let texts = |name: &str, text: fn(&Item<'a>) -> &'a str| {
        StringChunked::from_iter_values(name.into(), rows.iter().map(text)).into_column()
    };
    let sizes = UInt64Chunked::from_iter_values("bytes".into(), rows.iter().map(|row| row.file_size));
    let columns = vec![
        texts("namespace", |row| row.namespace),
        texts("content_types", |row| row.content_type),
        texts("workflows", |row| row.workflow_id),
        sizes.into_column(),
    ];
    let frame = DataFrame::new(rows.len(), columns)?;
    let groups = frame
        .lazy()
        .group_by([col("namespace")])
        .agg([len().alias("count"), col("bytes").sum(), col("content_types").n_unique(), col("workflows").n_unique()])
        .collect()?;
    let namespaces = groups.column("namespace")?.str()?;
    let count = groups.column("count")?.u32()?;
    let bytes = groups.column("bytes")?.u64()?;
    let content_types = groups.column("content_types")?.u32()?;
    let workflows = groups.column("workflows")?.u32()?;
    let group = |at: usize| {
        Some(Group {
            namespace: namespaces.get(at)?.to_owned(),
            count: count.get(at)?.into(),
            bytes: bytes.get(at)?,
            content_types: content_types.get(at)?.into(),
            workflows: workflows.get(at)?.into(),
        })
    };
    Ok((0..groups.height()).map(|at| group(at).expect("no group lacks a value")).collect())
}
