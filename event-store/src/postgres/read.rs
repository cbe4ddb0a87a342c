//! Pages of events, and reads that are made of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::time::timeout;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Row, RowStream};

use super::Shared;
use super::rows::{Fetched, Rows};
use super::selection::{Part, Selection};
use crate::error::{ReadError, describe};
use crate::event::{Position, StreamVersion};
use crate::read::{Read, Source};
use crate::recorded::RecordedEvent;
use crate::store::BoxFuture;

/// Events of a read's first page, and of a page at most.
const FIRST_PAGE: u64 = 256;
const LARGEST_PAGE: u64 = 4_096;
/// Bytes of content that a page should have at most. One that has four times as many ends early.
const PAGE_BYTES: usize = 2 << 20;

/// A page, and whether its source may have more.
pub(super) struct PageOf {
    pub(super) fetched: Fetched,
    pub(super) is_full: bool,
}

impl Shared {
    /// The first `limit` events of `source`, or fewer if they are large.
    pub(super) async fn page(&self, source: &Source, part: Part) -> Result<PageOf, ReadError> {
        let selection = Selection::new(source, part);
        let lease = self.lessor.lease().await.map_err(ReadError::Unavailable)?;
        let client = lease.begin();
        let asking = async {
            let values = selection.parameters.iter().map(|(value, _)| &**value as &(dyn ToSql + Sync));
            if selection.is_frequent {
                let statement = client.prepare_cached(&selection.statement).await?;
                client.query_raw(&statement, values).await
            } else {
                let kinds = selection.parameters.iter().map(|(_, kind)| kind.clone());
                client.query_typed_raw(&selection.statement, values.zip(kinds)).await
            }
        };
        let unavailable = |error: tokio_postgres::Error| ReadError::Unavailable(describe(&error));
        let late = |_| ReadError::Unavailable(format!("no answer in {:?}", self.options.answer_timeout));
        let fetching = async {
            let mut rows = Rows::new();
            let mut answer = std::pin::pin!(asking.await.map_err(unavailable)?);
            let mut count = 0;
            while let Some(row) = next_row(answer.as_mut()).await {
                rows.push(&row.map_err(unavailable)?)?;
                count += 1;
                if rows.bytes() >= 4 * PAGE_BYTES && count < part.limit {
                    // What is still to come is not waited for: the connection is dropped with it.
                    return Ok((rows.take(), false));
                }
            }
            Ok((rows.take(), true))
        };
        let fetched = timeout(self.options.answer_timeout, fetching).await.map_err(late)?;
        if !matches!(fetched, Ok((_, false))) {
            lease.end();
        }
        let (fetched, is_whole) = fetched?;
        let is_full = !is_whole || fetched.events.len() as i64 >= part.limit;
        Ok(PageOf { fetched, is_full })
    }

    /// The first row of an answer.
    pub(super) async fn row(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Option<Row>, ReadError> {
        let lease = self.lessor.lease().await.map_err(ReadError::Unavailable)?;
        let client = lease.begin();
        let asking = async {
            let kinds: Vec<Type> = parameters.iter().map(|(_, kind)| kind.clone()).collect();
            let values: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|(value, _)| *value).collect();
            let statement = client.prepare_typed_cached(statement, &kinds).await?;
            client.query_opt(&statement, &values).await
        };
        let late = |_| ReadError::Unavailable(format!("no answer in {:?}", self.options.answer_timeout));
        let answer = timeout(self.options.answer_timeout, asking).await.map_err(late)?;
        lease.end();
        answer.map_err(|error| ReadError::Unavailable(describe(&error)))
    }

    /// The first value of the first row.
    pub(super) async fn value<T>(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Option<T>, ReadError>
    where
        T: for<'r> FromSql<'r>,
    {
        let row = self.row(statement, parameters).await?;
        let value = row.map_or(Ok(None), |row| row.try_get(0));
        value.map_err(|error| ReadError::Malformed(error.to_string()))
    }

    /// The last position.
    pub(super) async fn head(&self) -> Result<Option<Position>, ReadError> {
        let head: Option<i64> = self.value("SELECT position FROM es_head", &[]).await?;
        Ok(head.and_then(super::call::position_at))
    }
}

async fn next_row(mut rows: Pin<&mut RowStream>) -> Option<Result<Row, tokio_postgres::Error>> {
    std::future::poll_fn(|context| rows.as_mut().poll_next(context)).await
}

/// A read as a stream of owned events, a page at a time. Between pages it holds no connection.
pub(super) struct PgRead {
    shared: Arc<Shared>,
    /// What is left to read; `None` when all is read.
    rest: Option<Read>,
    /// The head when the first page was read: what came later is not read.
    watermark: Option<Position>,
    page: std::vec::IntoIter<RecordedEvent>,
    page_size: u64,
    fetching: Option<BoxFuture<'static, Result<PageOf, ReadError>>>,
}

impl PgRead {
    pub(super) fn new(shared: Arc<Shared>, read: Read) -> Self {
        let rest = (read.limit > 0).then_some(read);
        Self { shared, rest, watermark: None, page: Vec::new().into_iter(), page_size: FIRST_PAGE, fetching: None }
    }

    fn fetch(&self, rest: &Read) -> BoxFuture<'static, Result<PageOf, ReadError>> {
        let limit = rest.limit.min(self.page_size);
        let part = Part { backwards: rest.backwards, watermark: self.watermark, limit: limit as i64 };
        let (shared, source) = (Arc::clone(&self.shared), rest.source.clone());
        Box::pin(async move { shared.page(&source, part).await })
    }

    fn take(&mut self, page: PageOf) {
        let PageOf { fetched: Fetched { head, events, bytes }, is_full } = page;
        self.watermark = self.watermark.or(head);
        if let Some(rest) = self.rest.take().filter(|_| is_full) {
            let limit = rest.limit - events.len() as u64;
            let source = events.last().and_then(|last| beyond(&rest.source, last, rest.backwards));
            self.rest = source.filter(|_| limit > 0).map(|source| Read { source, limit, ..rest });
        }
        self.page_size = next_size(self.page_size, events.len(), bytes);
        self.page = events.into_iter();
    }
}

/// How many events the page after one of `size` should have: more, as far as their bytes allow.
pub(super) fn next_size(size: u64, events: usize, bytes: usize) -> u64 {
    let an_event = (bytes / events.max(1)).max(1);
    let most = (PAGE_BYTES / an_event) as u64;
    (size * 4).min(most).clamp(1, LARGEST_PAGE)
}

/// The same source from behind `last` on, in the direction of the read; `None` if nothing can be there.
fn beyond(source: &Source, last: &RecordedEvent, backwards: bool) -> Option<Source> {
    let next = |number: u64| if backwards { number.checked_sub(1) } else { number.checked_add(1) };
    match source {
        Source::Stream { id, .. } => {
            let version = StreamVersion::new(next(last.stream_version()?.get())?);
            Some(Source::Stream { id: id.clone(), from: Some(version) })
        }
        Source::Store { query, .. } => {
            Some(Source::Store { query: query.clone(), from: Some(Position::new(next(last.position().get())?)?) })
        }
    }
}

impl Stream for PgRead {
    type Item = Result<RecordedEvent, ReadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.page.next() {
                return Poll::Ready(Some(Ok(event)));
            }
            let mut fetching = match (this.fetching.take(), &this.rest) {
                (Some(fetching), _) => fetching,
                (None, Some(rest)) => this.fetch(rest),
                (None, None) => return Poll::Ready(None),
            };
            match fetching.as_mut().poll(context) {
                Poll::Ready(Ok(page)) => this.take(page),
                Poll::Ready(Err(error)) => {
                    this.rest = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Pending => {
                    this.fetching = Some(fetching);
                    return Poll::Pending;
                }
            }
        }
    }
}
