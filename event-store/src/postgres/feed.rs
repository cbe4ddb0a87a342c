//! What a subscription takes from the store.

use std::collections::VecDeque;
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
    /// What was fetched and is not asked for yet, from where on and up to where it is complete.
    ahead: VecDeque<RecordedEvent>,
    ahead_after: Option<Position>,
    ahead_seen: Option<Position>,
    page_size: u64,
    sleeping: Option<EventListener>,
}

/// What is under way.
enum Asking {
    Nothing,
    Head(BoxFuture<'static, Result<Option<Position>, ReadError>>),
    /// With what it asks behind.
    Page(Option<Position>, BoxFuture<'static, Result<PageOf, ReadError>>),
}

impl PgFeed {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            asking: Asking::Nothing,
            ahead: VecDeque::new(),
            ahead_after: None,
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
        self.ahead_after = seen;
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
        if let Ok(Some(head)) = &head {
            self.shared.wake.publish(head.get());
        }
        Poll::Ready(head)
    }

    fn poll_page(
        &mut self,
        context: &mut Context<'_>,
        after: Option<Position>,
        query: &Query,
        limit: u64,
    ) -> Poll<Result<Page, ReadError>> {
        // Whoever has used a part of a page asks again behind that part.
        if self.ahead_after != after {
            self.ahead.clear();
        }
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(self.take(limit)));
        }
        if !matches!(&self.asking, Asking::Page(asked, _) if *asked == after) {
            self.page_size = self.page_size.max(limit);
            self.asking = Asking::Page(after, self.fetch(after, query));
        }
        let Asking::Page(_, asking) = &mut self.asking else { return Poll::Pending };
        let page = ready!(asking.as_mut().poll(context));
        self.asking = Asking::Nothing;
        let PageOf { fetched: Fetched { head, events, bytes }, is_full } = match page {
            Ok(page) => page,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Some(head) = head {
            self.shared.wake.publish(head.get());
        }
        let last = events.last().map(RecordedEvent::position);
        self.ahead_seen = if is_full { last } else { last.max(head) };
        // While it catches up, pages grow; one that has arrived asks for little.
        self.page_size = if is_full { next_size(self.page_size, events.len(), bytes) } else { limit };
        self.ahead = events.into();
        Poll::Ready(Ok(self.take(limit)))
    }

    fn poll_more(&mut self, context: &mut Context<'_>, after: Option<Position>) -> Poll<More> {
        loop {
            // One before the cursor is a reason to look, too: the store was restored to an earlier state.
            if self.shared.wake.head() != after.map_or(0, Position::get) {
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
