//! What runs a batch, and what it is given.

use std::fmt;
use std::marker::PhantomData;
use std::task::Waker;

use crate::arena::{Id, NONE, Queued};
use crate::error::{BatchError, Reply};

/// Runs batches of items.
///
/// It answers each item through its [`Slot`], so it cannot answer in the wrong order, or too few or too many: an item that it leaves
/// out is answered [`BatchError::NoReply`]. A panic is answered [`BatchError::Panicked`] and ends nothing but this batch.
///
/// The future is polled once in the task of the caller whose item started the batch
/// ([`Executor::Inline`](crate::Executor::Inline)); if it is not ready then, a task of the batcher's polls it on. It runs to its end
/// whether or not callers go away.
///
/// ```
/// use swarm_batcher::{Batch, BatchHandler};
///
/// struct Lengths;
///
/// impl BatchHandler<String> for Lengths {
///     type Output = usize;
///     type Error = std::convert::Infallible;
///
///     async fn handle(&self, mut batch: Batch<'_, String, usize, Self::Error>) {
///         for slot in batch.iter_mut() {
///             let length = slot.item().len();
///             slot.reply(Ok(length));
///         }
///     }
/// }
/// ```
pub trait BatchHandler<I>: Send + Sync + 'static {
    /// What a caller gets for its item.
    type Output: Send + 'static;
    /// What a caller gets if the handler refuses its item.
    type Error: Send + 'static;

    /// Runs one batch. A batch is never empty.
    fn handle(&self, batch: Batch<'_, I, Self::Output, Self::Error>) -> impl Future<Output = ()> + Send;
}

/// One item of a batch.
pub(crate) struct Entry<I, O, E> {
    /// Gone if the handler took it.
    pub(crate) item: Option<I>,
    pub(crate) reply: Option<Reply<O, E>>,
    /// Where its caller waits, or none: it was given to be forgotten, or several share it.
    pub(crate) seat: Id,
    /// Its place, if something is special about it, or none.
    pub(crate) place: Id,
    pub(crate) epoch: u32,
    pub(crate) bytes: u32,
}

impl<I, O, E> Entry<I, O, E> {
    /// One that leaves its line, and its caller's waker.
    #[inline]
    pub(crate) fn of(queued: Queued<I>) -> (Self, Option<Waker>) {
        let Queued { item, seat, waker, epoch, bytes, .. } = queued;
        (Self { item: Some(item), reply: None, seat, place: NONE, epoch, bytes }, waker)
    }
}

/// The items that one call of a handler works on, each with a slot for its reply.
pub struct Batch<'a, I, O, E> {
    entries: &'a mut Vec<Entry<I, O, E>>,
}

impl<I, O, E> fmt::Debug for Batch<'_, I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<'a, I, O, E> Batch<'a, I, O, E> {
    pub(crate) fn new(entries: &'a mut Vec<Entry<I, O, E>>) -> Self {
        Self { entries }
    }

    /// How many items it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never true: a batch has items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The items that were not taken out, in the order in which they came (by priority, where there are levels).
    pub fn items(&self) -> impl Iterator<Item = &I> {
        self.entries.iter().filter_map(|entry| entry.item.as_ref())
    }

    /// The slots that have no reply yet.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = Slot<'_, I, O, E>> {
        self.entries.iter_mut().filter(|entry| entry.reply.is_none()).map(|entry| Slot { entry })
    }

    /// Takes all items out, in order. One allocation. A batch whose items were taken cannot be retried or halved.
    pub fn take_items(&mut self) -> Vec<I> {
        self.entries.iter_mut().filter_map(|entry| entry.item.take()).collect()
    }

    /// Answers all slots that have no reply yet, in their order. If the number of results is another one than that of such slots, each of
    /// them is answered [`BatchError::WrongLength`] instead: whose result is whose is not known then.
    pub fn reply_all(self, results: impl IntoIterator<Item = Result<O, E>>) {
        let mut slots: Vec<_> = self.entries.iter_mut().filter(|entry| entry.reply.is_none()).collect();
        let mut given: u32 = 0;
        for result in results {
            if let Some(entry) = slots.get_mut(given as usize) {
                entry.reply = Some(result.map_err(BatchError::Handler));
            }
            given = given.saturating_add(1);
        }
        let items = slots.len() as u32;
        if given != items {
            for entry in slots {
                entry.reply = Some(Err(BatchError::WrongLength { items, results: given }));
            }
        }
    }

    /// Answers every slot that has no reply yet with `error`.
    pub fn fail_all(mut self, error: &E)
    where
        E: Clone,
    {
        self.iter_mut().for_each(|slot| slot.reply(Err(error.clone())));
    }
}

/// One item and the place for its reply, which can be filled once.
pub struct Slot<'a, I, O, E> {
    entry: &'a mut Entry<I, O, E>,
}

impl<I, O, E> fmt::Debug for Slot<'_, I, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl<I, O, E> Slot<'_, I, O, E> {
    /// The item.
    ///
    /// # Panics
    /// If it was taken out before.
    #[must_use]
    pub fn item(&self) -> &I {
        self.entry.item.as_ref().expect("the item was taken out of this slot before")
    }

    /// Takes the item out, if it is still there. It cannot be retried then.
    pub fn take(&mut self) -> Option<I> {
        self.entry.item.take()
    }

    /// Answers the item's caller, who gets it when the batch has ended.
    pub fn reply(self, result: Result<O, E>) {
        self.entry.reply = Some(result.map_err(BatchError::Handler));
    }
}

/// A handler made of a function of all items: see [`from_fn`].
pub struct FnHandler<F, Items = Moved> {
    function: F,
    items: PhantomData<Items>,
}

impl<F, Items> fmt::Debug for FnHandler<F, Items> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnHandler").finish_non_exhaustive()
    }
}

/// The function gets the items themselves.
#[derive(Debug)]
pub struct Moved;

/// The function gets clones, and the items stay where they can be retried.
#[derive(Debug)]
pub struct Cloned;

/// A handler of a function from items to as many outputs, in the same order.
///
/// An error is the error of every item. Another number of outputs is [`BatchError::WrongLength`] for every item. Three allocations a batch,
/// for its lists; a [`BatchHandler`] needs none.
///
/// The function gets the items, so a batch that fails cannot be retried or halved: see [`FnHandler::cloning`].
///
/// ```
/// use swarm_batcher::{Batcher, from_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let squares = from_fn(|numbers: Vec<u64>| async move { Ok::<_, String>(numbers.iter().map(|n| n * n).collect()) });
/// let batcher: Batcher<u64, u64, String> = Batcher::builder(squares).build()?;
/// assert_eq!(batcher.call(12).await?, 144);
/// # Ok(())
/// # }
/// ```
pub fn from_fn<F>(function: F) -> FnHandler<F> {
    FnHandler { function, items: PhantomData }
}

impl<F> FnHandler<F> {
    /// The function gets clones of the items from now on, so that batches can be retried and halved.
    #[must_use]
    pub fn cloning(self) -> FnHandler<F, Cloned> {
        FnHandler { function: self.function, items: PhantomData }
    }
}

impl<I, O, E, F, R> BatchHandler<I> for FnHandler<F>
where
    I: Send,
    O: Send + 'static,
    E: Clone + Send + Sync + 'static,
    F: Fn(Vec<I>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Vec<O>, E>> + Send,
{
    type Output = O;
    type Error = E;

    async fn handle(&self, mut batch: Batch<'_, I, O, E>) {
        let items = batch.take_items();
        answer(batch, (self.function)(items).await);
    }
}

impl<I, O, E, F, R> BatchHandler<I> for FnHandler<F, Cloned>
where
    I: Clone + Send + Sync,
    O: Send + 'static,
    E: Clone + Send + Sync + 'static,
    F: Fn(Vec<I>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Vec<O>, E>> + Send,
{
    type Output = O;
    type Error = E;

    async fn handle(&self, batch: Batch<'_, I, O, E>) {
        let items = batch.items().cloned().collect();
        answer(batch, (self.function)(items).await);
    }
}

fn answer<I, O, E: Clone>(batch: Batch<'_, I, O, E>, outcome: Result<Vec<O>, E>) {
    match outcome {
        Ok(outputs) => batch.reply_all(outputs.into_iter().map(Ok)),
        Err(error) => batch.fail_all(&error),
    }
}
