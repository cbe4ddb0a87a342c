//! A read of an upcasting store.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::{Upcast, Upcasters};
use crate::error::ReadError;
use crate::query::Query;
use crate::read::{Read, Source};
use crate::recorded::RecordedEvent;

/// The events of another read in their current forms.
pub(super) struct UpcastRead<R> {
    /// `None` when all is read.
    events: Option<Pin<Box<R>>>,
    upcasters: Upcasters,
    query: Query,
    backwards: bool,
    /// How many events may still come.
    left: u64,
    /// What the last recorded event became.
    ready: std::vec::IntoIter<RecordedEvent>,
}

/// What to read of a store that holds older forms, for `read`. A limit is left to [`UpcastRead`], unless it counts the same events there.
pub(super) fn widened(upcasters: &Upcasters, read: &Read) -> Read {
    let Source::Store { query, from } = &read.source else {
        let keeps_count = upcasters.keeps_count(&Query::All);
        return Read { limit: if keeps_count { read.limit } else { u64::MAX }, ..read.clone() };
    };
    let limit = if upcasters.keeps_count(query) { read.limit } else { u64::MAX };
    Read { source: Source::Store { query: upcasters.widen(query), from: *from }, limit, ..read.clone() }
}

impl<R> UpcastRead<R> {
    pub(super) fn new(events: R, upcasters: Upcasters, read: &Read) -> Self {
        let query = match &read.source {
            Source::Stream { .. } => Query::All,
            Source::Store { query, .. } => query.clone(),
        };
        Self {
            events: (read.limit > 0).then(|| Box::pin(events)),
            upcasters,
            query,
            backwards: read.backwards,
            left: read.limit,
            ready: Vec::new().into_iter(),
        }
    }
}

impl<R: Stream<Item = Result<RecordedEvent, ReadError>>> Stream for UpcastRead<R> {
    type Item = Result<RecordedEvent, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.ready.next() {
                return Poll::Ready(Some(Ok(event)));
            }
            let Some(events) = this.events.as_mut().filter(|_| this.left > 0) else {
                this.events = None;
                return Poll::Ready(None);
            };
            let upcast = match ready!(events.as_mut().poll_next(context)) {
                None => {
                    this.events = None;
                    return Poll::Ready(None);
                }
                Some(event) => event.and_then(|event| this.upcasters.upcast(event)),
            };
            match upcast {
                Ok(upcast) => match upcast.matching(&this.query) {
                    Upcast::One(event) => {
                        this.left -= 1;
                        return Poll::Ready(Some(Ok(event)));
                    }
                    Upcast::Changed(mut events) => {
                        if this.backwards {
                            events.reverse();
                        }
                        // An event that was split comes whole, so that a reader that goes on behind it misses nothing.
                        this.left = this.left.saturating_sub(events.len() as u64);
                        this.ready = events.into_iter();
                    }
                },
                Err(error) => {
                    this.events = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}
