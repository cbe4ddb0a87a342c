//! `es`: looks after an event store on PostgreSQL.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use event_store::cloudevents::{self, ExportError, ExportProblem, ImportOptions};
use event_store::deadpool_postgres::{Manager, Pool};
use event_store::tokio_postgres::config::SslMode;
use event_store::tokio_postgres::{Config, NoTls};
use event_store::{
    EventStore, EventType, PgOptions, PgStatistics, PgVerification, Position, PostgresStore, Query, QueryItem, Read,
    StreamId, StreamVersion, Tag, Timestamp,
};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Looks after an event store on PostgreSQL.
///
/// Exit codes: 0 done, 1 failed or something is wrong with the store, 2 wrong usage.
#[derive(Parser)]
#[command(name = "es", version)]
struct Command {
    /// Where the store is: postgresql://user@host/database. With sslmode=require the connection is encrypted, and the
    /// server's certificate has to be of somebody whom this machine trusts; otherwise it is not encrypted.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database: Config,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Goes over all tables and says what does not fit
    Verify,
    /// Says what there is
    Stats,
    /// Writes events to standard output as CloudEvents in JSON lines, oldest first
    Dump(Dump),
    /// Appends events of CloudEvents in JSON lines; those that are there already are left alone
    Import(Import),
}

#[derive(Args)]
struct Dump {
    /// Only events of this stream
    #[arg(long, conflicts_with_all = ["types", "tags"])]
    stream: Option<StreamId>,
    /// Only events of this type; several mean any of them
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<EventType>,
    /// Only events with this tag; several mean all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    /// From this position on; of a stream, from this version on
    #[arg(long, value_name = "NUMBER")]
    from: Option<u64>,
    /// At most so many events
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// What the lines name as their source, a URI reference [default: / and the database's name]
    #[arg(long, value_name = "URI")]
    source: Option<String>,
}

#[derive(Args)]
struct Import {
    /// The lines; standard input if there is no name, or it is -
    file: Option<PathBuf>,
    /// Makes the tables first, or brings them up to date
    #[arg(long)]
    migrate: bool,
    /// Appends behind whatever a stream has, instead of at the versions that the lines name: for a part of a store
    #[arg(long)]
    renumber_streams: bool,
    /// Most events of an append
    #[arg(long, value_name = "NUMBER", default_value_t = 500)]
    batch: usize,
}

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let command = Command::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let done = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(command)));
    done.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "es: {}", with_causes(&*error));
        ExitCode::FAILURE
    })
}

async fn run(command: Command) -> Result<ExitCode, Failure> {
    let store = connect(&command.database).await?;
    match command.task {
        Task::Verify => {
            let verified = store.verify().await?;
            print(&render_verification(&verified))?;
            Ok(if verified.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Task::Stats => {
            print(&render_statistics(&store.statistics().await?))?;
            Ok(ExitCode::SUCCESS)
        }
        Task::Dump(dump) => {
            let source = dump.source.clone().unwrap_or_else(|| default_source(&command.database));
            write_lines(&store, dump.read()?, &source).await
        }
        Task::Import(import) => read_lines(&store, &import).await,
    }
}

async fn connect(config: &Config) -> Result<PostgresStore, Failure> {
    let (pool, options) = if config.get_ssl_mode() == SslMode::Require {
        let tls = trusted()?;
        (Pool::builder(Manager::new(config.clone(), tls.clone())), PgOptions::new().tls(tls))
    } else {
        (Pool::builder(Manager::new(config.clone(), NoTls)), PgOptions::new())
    };
    Ok(PostgresStore::connect(pool.max_size(2).build()?, options).await?)
}

/// Encryption, with certificates of those whom this machine trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
fn trusted() -> Result<MakeRustlsConnect, Failure> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(format!("this machine trusts no certificates{why}").into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
}

impl Dump {
    fn read(self) -> Result<Read, Failure> {
        let position = |from| Position::new(from).ok_or("positions count from 1");
        let read = match (self.stream, self.from) {
            (Some(stream), None) => Read::stream(stream),
            (Some(stream), Some(from)) => Read::stream_from(stream, StreamVersion::new(from)),
            (None, from) => {
                let query = match (self.types.is_empty(), self.tags.is_empty()) {
                    (true, true) => Query::All,
                    (false, true) => Query::item(QueryItem::types(self.types)?),
                    (_, false) => Query::item(QueryItem::tags(self.tags)?.of_types(self.types)),
                };
                match from {
                    None => Read::query(query),
                    Some(from) => Read::query_from(query, position(from)?),
                }
            }
        };
        Ok(match self.limit {
            None => read,
            Some(limit) => read.limit(limit),
        })
    }
}

fn default_source(config: &Config) -> String {
    let name = config.get_dbname().or(config.get_user()).unwrap_or("event-store");
    let plain =
        |character: char| if character.is_ascii_alphanumeric() || "-_.~".contains(character) { character } else { '_' };
    format!("/{}", name.chars().map(plain).collect::<String>())
}

async fn write_lines(store: &PostgresStore, read: Read, source: &str) -> Result<ExitCode, Failure> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout());
    let report = match cloudevents::export(store, read, source, &mut out).await {
        Ok(report) => report,
        // Whoever reads the lines has seen enough.
        Err(ExportError { problem: ExportProblem::Io(error), .. }) if error.kind() == io::ErrorKind::BrokenPipe => {
            let _ = out.into_parts();
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => {
            out.flush()?;
            return Err(error.into());
        }
    };
    let last = report.last.map_or_else(String::new, |last| format!(", the last at position {last}"));
    writeln!(io::stderr(), "{} events in {} bytes{last}", report.events, report.bytes)?;
    Ok(ExitCode::SUCCESS)
}

async fn read_lines(store: &PostgresStore, import: &Import) -> Result<ExitCode, Failure> {
    let input: Box<dyn io::Read + Send> = match &import.file {
        Some(path) if path.as_os_str() != "-" => {
            Box::new(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?)
        }
        _ => Box::new(io::stdin()),
    };
    if import.migrate {
        store.migrate().await?;
    }
    let mut options = ImportOptions::default().batch_events(import.batch);
    if import.renumber_streams {
        options = options.renumber_streams();
    }
    let report = cloudevents::import(store, BufReader::with_capacity(1 << 16, input), &options).await?;
    let head = store.head().await?.map_or_else(|| "empty".to_owned(), |head| format!("at position {head}"));
    print(&format!(
        "{} events imported, {} were there already; the store is {head}\n",
        report.imported, report.deduplicated
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn render_verification(verified: &PgVerification) -> String {
    let head = verified.head.map_or_else(|| "empty".to_owned(), |head| format!("at position {head}"));
    let mut text = format!("{} events, {} bytes; the store is {head}\n", verified.events, verified.bytes);
    for fault in &verified.faults {
        text += &format!("BROKEN: {} ({} exceptions)\n", fault.rule, fault.count);
        fault.examples.iter().for_each(|example| text += &format!("    {example}\n"));
    }
    text + if verified.faults.is_empty() { "every rule holds\n" } else { "" }
}

fn render_statistics(statistics: &PgStatistics) -> String {
    let (mut rows, time) = (Vec::new(), |time: Timestamp| {
        jiff::Timestamp::from_microsecond(time.as_micros())
            .map_or_else(|_| time.as_micros().to_string(), |time| time.to_string())
    });
    let mut row = |name: &str, value: String| rows.push(format!("{name:<18} {value}\n"));
    let none = || "-".to_owned();
    row("schema", statistics.schema.to_string());
    row("head", statistics.head.map_or_else(none, |head| head.to_string()));
    row("events", statistics.events.to_string());
    row("removed", statistics.removed.to_string());
    row("bytes", statistics.bytes.to_string());
    row("bytes on disk", statistics.disk_bytes.to_string());
    row("first time", statistics.times.map_or_else(none, |(first, _)| time(first)));
    row("last time", statistics.times.map_or_else(none, |(_, last)| time(last)));
    row("streams", statistics.streams.to_string());
    row("emptied streams", statistics.emptied_streams.to_string());
    row("tags", statistics.tags.to_string());
    row("snapshots", statistics.snapshots.to_string());
    for (name, events) in &statistics.types {
        row("type", format!("{events:>10}  {name}"));
    }
    for projection in &statistics.projections {
        let position = projection.position.map_or_else(none, |position| position.to_string());
        let is_active = if projection.is_active { ", active" } else { "" };
        let (lag, parked) = (projection.lag, projection.parked);
        row("projection", format!("{}: position {position}, {lag} behind, {parked} parked{is_active}", projection.id));
    }
    rows.concat()
}

/// Prints text. Whoever reads it may have gone: no reason to go too.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text += &format!(": {inner_text}");
        }
        cause = inner.source();
    }
    text
}
