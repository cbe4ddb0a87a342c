//! What a subscription takes from the store.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use event_listener::EventListener;

use super::Shared;
use super::read::{PageOf, next_size};
use super::rows::Fetched;
use super::selection::Part;
use crate::error::ReadError;
use crate::event::Position;
use crate::query::Query;
use crate::read::Source;
use crate::recorded::RecordedEvent;
use crate::store::BoxFuture;
use crate::subscription::{Feed, More, Page};

/// A subscription's way to the store. It holds a connection only while it reads.
pub(super) struct PgFeed {
    shared: Arc<Shared>,
    asking: Asking,
    /// What was fetched and is not asked for yet, and up to where it is complete.
    ahead: std::collections::VecDeque<RecordedEvent>,
    ahead_seen: Option<Position>,
    page_size: u64,
    sleeping: Option<EventListener>,
}

/// What is under way.
enum Asking {
    Nothing,
    Head(BoxFuture<'static, Result<Option<Position>, ReadError>>),
    Page(BoxFuture<'static, Result<PageOf, ReadError>>),
}

impl PgFeed {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            asking: Asking::Nothing,
            ahead: std::collections::VecDeque::new(),
            ahead_seen: None,
            page_size: 0,
            sleeping: None,
        }
    }

    fn fetch(&self, after: Option<Position>, query: &Query) -> BoxFuture<'static, Result<PageOf, ReadError>> {
        let from = after.map_or(Some(Position::FIRST), |after| Position::new(after.get().saturating_add(1)));
        let source = Source::Store { query: query.clone(), from };
        let part = Part { backwards: false, watermark: None, limit: self.page_size as i64 };
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.page(&source, part).await })
    }

    /// Up to `limit` events of what was fetched ahead.
    fn take(&mut self, limit: u64) -> Page {
        let count = usize::try_from(limit).unwrap_or(usize::MAX).min(self.ahead.len());
        let events: Vec<RecordedEvent> = self.ahead.drain(..count).collect();
        let last = events.last().map(RecordedEvent::position);
        let seen = if self.ahead.is_empty() { self.ahead_seen } else { last };
        Page { events, seen }
    }
}

impl Feed for PgFeed {
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Position>, ReadError>> {
        if !matches!(self.asking, Asking::Head(_)) {
            let shared = Arc::clone(&self.shared);
            self.asking = Asking::Head(Box::pin(async move { shared.head().await }));
        }
        let Asking::Head(asking) = &mut self.asking else { return Poll::Pending };
        let head = ready!(asking.as_mut().poll(context));
        self.asking = Asking::Nothing;
        Poll::Ready(head)
    }

    fn poll_page(
        &mut self,
        context: &mut Context<'_>,
        after: Option<Position>,
        query: &Query,
        limit: u64,
    ) -> Poll<Result<Page, ReadError>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(self.take(limit)));
        }
        if !matches!(self.asking, Asking::Page(_)) {
            self.page_size = self.page_size.max(limit);
            self.asking = Asking::Page(self.fetch(after, query));
        }
        let Asking::Page(asking) = &mut self.asking else { return Poll::Pending };
        let page = ready!(asking.as_mut().poll(context));
        self.asking = Asking::Nothing;
        let PageOf { fetched: Fetched { head, events, bytes }, is_full } = match page {
            Ok(page) => page,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let last = events.last().map(RecordedEvent::position);
        self.ahead_seen = if is_full { last } else { last.max(head) }.max(after);
        // While it catches up, pages grow; one that has arrived asks for little.
        self.page_size = if is_full { next_size(self.page_size, events.len(), bytes) } else { limit };
        self.ahead = events.into();
        Poll::Ready(Ok(self.take(limit)))
    }

    fn poll_more(&mut self, context: &mut Context<'_>, after: Option<Position>) -> Poll<More> {
        loop {
            if self.shared.wake.head() > after.map_or(0, Position::get) {
                self.sleeping = None;
                return Poll::Ready(More::Events);
            }
            if self.shared.wake.is_closed() {
                return Poll::Ready(More::Closed);
            }
            match &mut self.sleeping {
                None => {
                    // Before the next look: what comes from here on is told.
                    self.sleeping = Some(self.shared.wake.listen());
                    self.shared.watch();
                }
                Some(sleeping) => {
                    ready!(Pin::new(sleeping).poll(context));
                    self.sleeping = None;
                }
            }
        }
    }
}
