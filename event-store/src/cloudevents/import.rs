//! Lines, appended to a store.

use std::io::{self, BufRead, Read as _};

use super::line::{EventLine, LineProblem};
use crate::append::{Append, Appended, ExpectedVersion};
use crate::error::AppendError;
use crate::event::StreamVersion;
use crate::name::StreamId;
use crate::store::EventStore;

/// How often an append whose outcome is unknown is sent again.
const REPEATS: u32 = 3;

/// How to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOptions {
    max_line_bytes: usize,
    batch_events: usize,
    batch_bytes: usize,
    renumbers_streams: bool,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { max_line_bytes: 32 << 20, batch_events: 500, batch_bytes: 8 << 20, renumbers_streams: false }
    }
}

impl ImportOptions {
    /// Most bytes of a line without its end, 32 MiB unless set; a longer one is [`LineProblem::TooLong`].
    #[must_use]
    pub fn max_line_bytes(self, bytes: usize) -> Self {
        Self { max_line_bytes: bytes, ..self }
    }

    /// Most events of an append, 500 unless set; 0 counts as 1.
    #[must_use]
    pub fn batch_events(self, events: usize) -> Self {
        Self { batch_events: events.max(1), ..self }
    }

    /// An append takes no further line once its lines have this many bytes, 8 MiB unless set.
    #[must_use]
    pub fn batch_bytes(self, bytes: usize) -> Self {
        Self { batch_bytes: bytes, ..self }
    }

    /// Appends behind whatever a stream has. Otherwise each event has to come to stand at the version that its line names, so that a stream
    /// is copied without gaps or not at all. Needed for lines that are a part of their streams: those of a query, or from a position on.
    #[must_use]
    pub fn renumber_streams(self) -> Self {
        Self { renumbers_streams: true, ..self }
    }
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// Lines that were dealt with, empty ones included.
    pub lines: u64,
    /// Events that were appended.
    pub imported: u64,
    /// Events that the store had already.
    pub deduplicated: u64,
}

/// Why an import broke off: at which line, and what was imported before. Nothing behind that line was imported.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem} ({} events imported before)", report.imported)]
pub struct ImportError {
    /// The line, from 1.
    pub line: u64,
    /// What was imported before it.
    pub report: ImportReport,
    /// What is wrong with it.
    #[source]
    pub problem: ImportProblem,
}

/// What made an import break off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportProblem {
    /// The line is no event.
    #[error(transparent)]
    Line(#[from] LineProblem),
    /// The event would come to stand at another version of its stream than its line says, or stands at another already.
    #[error("stream {stream}: the line is version {version}, the stream is {}", .actual.map_or_else(|| "empty".to_owned(), |actual| format!("at version {actual}")))]
    StreamVersion {
        /// The stream.
        stream: StreamId,
        /// The version that the line names.
        version: StreamVersion,
        /// The version of the stream's last event, or at which the event stands already.
        actual: Option<StreamVersion>,
    },
    /// The store refused the event; for [`AppendError::Unknown`] the line, and those of its batch, may have been imported: to import the same
    /// lines again tells.
    #[error(transparent)]
    Append(AppendError),
    /// The lines could not be read.
    #[error("the lines cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Appends the events of `lines` to `store`, in their order.
///
/// Several events make one append. Events that the store has already are recognised by their ids, so an import that broke off is mended by
/// importing the same lines again. Empty lines count and are nothing else.
///
/// Reading blocks: on a runtime, from a file, this belongs on a thread that may block. Holds one batch of events and one line.
///
/// # Cancellation
/// Dropping the future leaves what was appended by then, whole batches.
///
/// # Errors
/// [`ImportError`]: the first line that is no event or that the store refuses.
pub async fn import<S: EventStore>(
    store: &S,
    mut lines: impl BufRead + Send,
    options: &ImportOptions,
) -> Result<ImportReport, ImportError> {
    let mut batch = Batch { store, options, lines: Vec::new(), bytes: 0, report: ImportReport::default() };
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        let parsed = match next_line(&mut lines, &mut line, options.max_line_bytes) {
            Ok(false) => break,
            Ok(true) if line.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(true) => EventLine::parse(&line).map_err(ImportProblem::Line),
            Err(problem) => Err(problem),
        };
        match parsed {
            Ok(event) => {
                batch.bytes += line.len();
                batch.lines.push((number, event));
                if batch.lines.len() >= options.batch_events || batch.bytes >= options.batch_bytes {
                    batch.append().await?;
                }
            }
            Err(problem) => {
                batch.append().await?;
                batch.report.lines = number - 1;
                return Err(ImportError { line: number, report: batch.report, problem });
            }
        }
    }
    batch.append().await?;
    batch.report.lines = number - 1;
    Ok(batch.report)
}

/// The next line without its end in `line`; false if there is none.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>, limit: usize) -> Result<bool, ImportProblem> {
    line.clear();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    if lines.by_ref().take(most).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > limit {
        return Err(LineProblem::TooLong { limit }.into());
    }
    Ok(true)
}

/// Lines that have been read and not appended yet.
struct Batch<'a, S> {
    store: &'a S,
    options: &'a ImportOptions,
    lines: Vec<(u64, EventLine)>,
    bytes: usize,
    report: ImportReport,
}

impl<S: EventStore> Batch<'_, S> {
    /// Appends what is there. Where the store refuses it as a whole, the halves are tried, first one first, down to the line that is refused: an
    /// earlier import may have appended a part of the batch.
    async fn append(&mut self) -> Result<(), ImportError> {
        let lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        // What is still to be appended, the next part last.
        let mut parts = if lines.is_empty() { Vec::new() } else { vec![&lines[..]] };
        while let Some(part) = parts.pop() {
            let error = match self.append_part(part).await {
                Ok(appended) => match self.check(part, &appended) {
                    Ok(()) => {
                        let count = part.len() as u64;
                        let counter = if appended.deduplicated {
                            &mut self.report.deduplicated
                        } else {
                            &mut self.report.imported
                        };
                        *counter += count;
                        continue;
                    }
                    Err(problem) => problem,
                },
                Err(error) => self.named(part, error),
            };
            let is_divisible = matches!(
                error,
                ImportProblem::StreamVersion { .. }
                    | ImportProblem::Append(AppendError::DuplicateEventId { .. } | AppendError::TooLarge { .. })
            );
            if part.len() > 1 && is_divisible {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
                continue;
            }
            let line = part[0].0;
            self.report.lines = line - 1;
            return Err(ImportError { line, report: self.report, problem: error });
        }
        Ok(())
    }

    async fn append_part(&self, part: &[(u64, EventLine)]) -> Result<Appended, AppendError> {
        let mut append = Append::events([]);
        for run in part.chunk_by(|(_, a), (_, b)| self.follows(a, b)) {
            let events = run.iter().map(|(_, line)| line.event.clone());
            append = match &run[0].1.stream {
                Some(stream) => append.and_stream(stream.clone(), self.expected(&run[0].1), events),
                None => append.and_events(events),
            };
        }
        let mut repeats = 0;
        let mut unknown = None;
        loop {
            match self.store.append(append.clone()).await {
                Err(error @ AppendError::Unknown(_)) => unknown = Some(error),
                // The repetition was not taken, which says nothing about the append before it.
                Err(AppendError::Unavailable(_) | AppendError::Poisoned) if unknown.is_some() => {}
                answer => return answer,
            }
            if repeats == REPEATS {
                return Err(unknown.unwrap_or(AppendError::Poisoned));
            }
            repeats += 1;
        }
    }

    /// Whether `b` goes into the same stream behind `a`, without a gap.
    fn follows(&self, a: &EventLine, b: &EventLine) -> bool {
        let next = a.stream_version.and_then(|version| version.get().checked_add(1)).map(StreamVersion::new);
        a.stream == b.stream
            && (self.options.renumbers_streams || b.stream_version.is_none() || b.stream_version == next)
    }

    fn expected(&self, line: &EventLine) -> ExpectedVersion {
        match line.stream_version.filter(|_| !self.options.renumbers_streams) {
            None => ExpectedVersion::Any,
            Some(version) => match version.get().checked_sub(1) {
                None => ExpectedVersion::NoStream,
                Some(before) => ExpectedVersion::Exact(StreamVersion::new(before)),
            },
        }
    }

    /// Events that were there already have to stand where their lines say.
    fn check(&self, part: &[(u64, EventLine)], appended: &Appended) -> Result<(), ImportProblem> {
        if !appended.deduplicated || self.options.renumbers_streams {
            return Ok(());
        }
        for (stream, actual) in appended.versions() {
            let last = part.iter().rev().find(|(_, line)| line.stream.as_ref() == Some(stream));
            if let Some(version) = last.and_then(|(_, line)| line.stream_version).filter(|version| version != actual) {
                return Err(ImportProblem::StreamVersion { stream: stream.clone(), version, actual: Some(*actual) });
            }
        }
        Ok(())
    }

    /// A refused version, in the words of lines.
    fn named(&self, part: &[(u64, EventLine)], error: AppendError) -> ImportProblem {
        match error {
            AppendError::WrongExpectedVersion { stream, expected, actual } => {
                let is_it = |line: &EventLine| line.stream.as_ref() == Some(&stream) && self.expected(line) == expected;
                let version = part.iter().find(|(_, line)| is_it(line)).and_then(|(_, line)| line.stream_version);
                ImportProblem::StreamVersion { stream, version: version.unwrap_or(StreamVersion::FIRST), actual }
            }
            error => ImportProblem::Append(error),
        }
    }
}
