//! What a subscription to an upcasting store is fed with.

use std::task::{Context, Poll};

use super::{Upcast, Upcasters};
use crate::error::ReadError;
use crate::event::Position;
use crate::query::Query;
use crate::subscription::{Feed, More, Page};

/// The events of another feed in their current forms. What a recorded event becomes is never torn over two pages.
pub(super) struct UpcastFeed {
    pub(super) feed: Box<dyn Feed>,
    pub(super) upcasters: Upcasters,
}

impl Feed for UpcastFeed {
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Position>, ReadError>> {
        self.feed.poll_head(context)
    }

    fn poll_page(
        &mut self,
        context: &mut Context<'_>,
        after: Option<Position>,
        query: &Query,
        limit: u64,
    ) -> Poll<Result<Page, ReadError>> {
        let widened = self.upcasters.widen(query);
        let page = std::task::ready!(self.feed.poll_page(context, after, &widened, limit))?;
        let mut events = Vec::with_capacity(page.events.len());
        for event in page.events {
            let position = event.position();
            match self.upcasters.upcast(event) {
                Ok(upcast) => match upcast.matching(query) {
                    Upcast::One(event) => events.push(event),
                    Upcast::Changed(changed) => events.extend(changed),
                },
                Err(error) => {
                    // First what is before the event that fails; the next page begins with the failure.
                    let seen = Position::new(position.get() - 1);
                    return Poll::Ready(if seen > after { Ok(Page { events, seen }) } else { Err(error) });
                }
            }
        }
        Poll::Ready(Ok(Page { events, seen: page.seen }))
    }

    fn poll_more(&mut self, context: &mut Context<'_>, after: Option<Position>) -> Poll<More> {
        self.feed.poll_more(context, after)
    }
}
