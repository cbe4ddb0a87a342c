//! A batch that runs: its items, and the handler's future in memory that is used again.

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio_util::sync::ReusableBoxFuture;

use crate::arena::{Block, Id, NONE};
use crate::error::{BatchError, Reply};
use crate::handler::{Batch, BatchHandler, Entry};
use crate::shared::Shared;
use crate::sync::thread_local;

/// What a batch consists of while it runs. Dropped with items in it, it answers them.
pub(crate) struct Core<I, O, E> {
    pub(crate) entries: Vec<Entry<I, O, E>>,
    /// Blocks whose items come after those; empty ones once it runs.
    #[expect(clippy::vec_box, reason = "they change hands as they are")]
    pub(crate) blocks: Vec<Box<Block<I>>>,
    /// How often these items have run before.
    pub(crate) attempt: u32,
    /// When it began, by the batcher's clock; zero where nobody asks.
    pub(crate) began: u64,
    /// The batcher, which hears of it if the core is dropped while it runs.
    pub(crate) shared: Arc<Shared<I, O, E>>,
    handler: Arc<dyn Any + Send + Sync>,
    /// It holds one of the permits that bound how many batches run.
    pub(crate) running: bool,
}

impl<I, O, E> Core<I, O, E> {
    /// Begins with one item.
    #[inline]
    pub(crate) fn start_alone(&mut self, entry: Entry<I, O, E>) {
        self.entries.push(entry);
        self.attempt = 0;
        self.began = 0;
        self.running = true;
    }

    /// The reply of the one item, its epoch and its bytes. It must have run, and been dropped.
    #[inline]
    pub(crate) fn end_alone(&mut self) -> (Reply<O, E>, u32, u32) {
        let Entry { reply, epoch, bytes, .. } = self.entries.pop().expect("there is one");
        self.running = false;
        (reply.expect("a batch that has run is answered"), epoch, bytes)
    }

    /// Moves the items of the blocks to the others. `wake` gets the wakers of callers who were answered just now.
    #[inline]
    pub(crate) fn unpack(&mut self, mut wake: impl FnMut(Waker)) {
        for block in &mut self.blocks {
            for queued in block.items.drain(..) {
                let (entry, waker) = Entry::of(queued);
                if let Some(waker) = waker {
                    self.shared.seats.listen(entry.seat, waker).into_iter().for_each(&mut wake);
                }
                self.entries.push(entry);
            }
        }
    }
}

impl<I, O, E> Drop for Core<I, O, E> {
    fn drop(&mut self) {
        if self.running {
            self.unpack(|waker| contain(|| waker.wake()));
            let panicked = std::thread::panicking();
            for entry in self.entries.iter_mut().filter(|entry| entry.reply.is_none()) {
                let error = if panicked { BatchError::Panicked } else { BatchError::Closed { started: true } };
                entry.reply = Some(Err(error));
            }
            let shared = Arc::clone(&self.shared);
            shared.abandon(self);
        }
    }
}

/// A core on the heap, so that moving it moves a pointer.
pub(crate) type BoxCore<I, O, E> = Box<Core<I, O, E>>;

/// Starts handlers of one type.
pub(crate) trait Start<I, O, E>: Send + Sync {
    fn core(&self, shared: &Arc<Shared<I, O, E>>) -> BoxCore<I, O, E>;

    /// The future of a batch, to be put where another one lay.
    fn start(&self, core: BoxCore<I, O, E>, future: &mut Option<ReusableBoxFuture<'static, BoxCore<I, O, E>>>);
}

/// A handler and its type.
pub(crate) struct Typed<H, I> {
    handler: Arc<H>,
    item: PhantomData<fn(I)>,
}

impl<H, I> Typed<H, I> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler: Arc::new(handler), item: PhantomData }
    }
}

impl<I, H> Start<I, H::Output, H::Error> for Typed<H, I>
where
    I: Send + 'static,
    H: BatchHandler<I>,
{
    fn core(&self, shared: &Arc<Shared<I, H::Output, H::Error>>) -> BoxCore<I, H::Output, H::Error> {
        let handler: Arc<dyn Any + Send + Sync> = Arc::clone(&self.handler) as _;
        let shared = Arc::clone(shared);
        Box::new(Core {
            entries: Vec::new(),
            blocks: Vec::new(),
            attempt: 0,
            began: 0,
            shared,
            handler,
            running: false,
        })
    }

    fn start(
        &self,
        core: BoxCore<I, H::Output, H::Error>,
        future: &mut Option<ReusableBoxFuture<'static, BoxCore<I, H::Output, H::Error>>>,
    ) {
        let running = run::<I, H>(core);
        match future {
            Some(future) => future.set(running),
            None => *future = Some(ReusableBoxFuture::new(running)),
        }
    }
}

/// Runs the handler; the core, with the replies in it, is what is left. A panic leaves slots without a reply to `Panicked`.
async fn run<I, H>(mut core: BoxCore<I, H::Output, H::Error>) -> BoxCore<I, H::Output, H::Error>
where
    I: Send + 'static,
    H: BatchHandler<I>,
{
    let Core { entries, handler, .. } = &mut *core;
    let handler = handler.downcast_ref::<H>().expect("a core is made by the handler's own starter");
    // A block of its own: the call that makes the future may panic too.
    let panicked = {
        let mut handling = pin!(async { handler.handle(Batch::new(entries)).await });
        std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(false),
            Err(payload) => {
                discard(payload);
                Poll::Ready(true)
            }
        })
        .await
    };
    for entry in core.entries.iter_mut().filter(|entry| entry.reply.is_none()) {
        entry.reply = Some(Err(if panicked { BatchError::Panicked } else { BatchError::NoReply }));
    }
    core
}

/// Drops what a panic carries; what panics while it is dropped carries something again.
pub(crate) fn discard(mut payload: Box<dyn Any + Send>) {
    while let Err(next) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        payload = next;
    }
}

/// Runs foreign code whose panic is nobody's business here.
#[inline]
pub(crate) fn contain(code: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(code)) {
        discard(payload);
    }
}

/// The memory of a batch: its core between runs, its future while it runs.
pub(crate) struct Engine<I, O, E> {
    core: Option<BoxCore<I, O, E>>,
    future: Option<ReusableBoxFuture<'static, BoxCore<I, O, E>>>,
    /// Where callers who run their own item with it would wait, one after the other; none yet, or one of them does.
    pub(crate) seat: Id,
}

impl<I, O, E> Engine<I, O, E> {
    pub(crate) fn new(shared: &Arc<Shared<I, O, E>>) -> Self {
        Self { core: Some(shared.handler.core(shared)), future: None, seat: NONE }
    }

    /// The core, while nothing runs.
    pub(crate) fn core(&mut self) -> &mut Core<I, O, E> {
        self.core.as_deref_mut().expect("nothing runs")
    }

    /// Polls the handler once. Ready when all slots have their replies; the core is back then.
    pub(crate) fn poll(&mut self, shared: &Arc<Shared<I, O, E>>, context: &mut Context<'_>) -> Poll<Ended> {
        if let Some(mut core) = self.core.take() {
            core.unpack(|waker| contain(|| waker.wake()));
            shared.handler.start(core, &mut self.future);
        }
        let future = self.future.as_mut().expect("it was started");
        let _inside = Inside::enter(shared);
        match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(core)) => {
                self.core = Some(core);
                Poll::Ready(Ended::Whole)
            }
            // Something of the handler's panicked while it was dropped: the core went with it, and has answered.
            Err(payload) => {
                discard(payload);
                Poll::Ready(Ended::Lost)
            }
        }
    }
}

/// How a batch has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its core holds the replies.
    Whole,
    /// Its core is gone, everybody is answered, and the engine is of no more use.
    Lost,
}

thread_local! {
    /// The batchers whose handlers are being polled by this thread, outermost first.
    #[allow(clippy::missing_const_for_thread_local, reason = "the models' macro takes no constant")]
    static POLLED: RefCell<Vec<usize>> = RefCell::new(Vec::new());
}

/// This thread polls a handler.
struct Inside;

impl Inside {
    fn enter<I, O, E>(shared: &Arc<Shared<I, O, E>>) -> Self {
        POLLED.with(|polled| polled.borrow_mut().push(Arc::as_ptr(shared).addr()));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        POLLED.with(|polled| polled.borrow_mut().pop());
    }
}

/// Whether this thread is polling a handler of this batcher's.
pub(crate) fn is_inside<I, O, E>(shared: &Arc<Shared<I, O, E>>) -> bool {
    let address = Arc::as_ptr(shared).addr();
    POLLED.with(|polled| polled.borrow().contains(&address))
}
