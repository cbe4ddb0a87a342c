//! The thread that a cluster lives and dies with, and the work that is done on it.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::cluster::Cluster;
use crate::error::Error;

/// Work on the keeper's thread. A lent server has no cluster.
type Job = Box<dyn FnOnce(Option<&mut Cluster>, &Runtime) + Send>;

enum Message {
    Do(Job),
    End,
}

/// Where work for the keeper is left, as long as it is there.
#[derive(Debug, Clone)]
pub(crate) struct Errands(mpsc::Sender<Message>);

impl Errands {
    /// Leaves work, and waits for nothing. Once the keeper has gone, so has what there was to do.
    pub(crate) fn leave(&self, job: impl FnOnce(Option<&mut Cluster>, &Runtime) + Send + 'static) {
        let _ = self.0.send(Message::Do(Box::new(job)));
    }
}

/// Keeps a cluster. Dropping it ends the thread, after the work that was left, and stops the server.
#[derive(Debug)]
pub(crate) struct Keeper {
    errands: Errands,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread, has it make what it keeps, and returns what `make` says beside that.
    pub(crate) async fn start<T: Send + 'static>(
        make: impl FnOnce(&Runtime) -> Result<(Option<Cluster>, T), Error> + Send + 'static,
    ) -> Result<(Self, T), Error> {
        let (errands, jobs) = mpsc::channel();
        let (made, answer) = oneshot::channel();
        let work = move || {
            let made_all = Builder::new_current_thread().enable_all().build().map_err(Error::io("runtime"));
            match made_all.and_then(|runtime| make(&runtime).map(|(cluster, report)| (runtime, cluster, report))) {
                Err(error) => drop(made.send(Err(error))),
                Ok((runtime, mut cluster, report)) => {
                    // Whoever asked for the server may have gone meanwhile: then it is stopped.
                    if made.send(Ok(report)).is_ok() {
                        while let Ok(Message::Do(job)) = jobs.recv() {
                            job(cluster.as_mut(), &runtime);
                        }
                    }
                }
            }
        };
        let thread =
            thread::Builder::new().name("ephemeral-postgres".into()).spawn(work).map_err(Error::io("thread"))?;
        // Until then there is no keeper: a future that is dropped here waits for nothing.
        let report = answer.await.unwrap_or(Err(Error::Stopped))?;
        Ok((Self { errands: Errands(errands), thread: Some(thread) }, report))
    }

    pub(crate) fn errands(&self) -> Errands {
        self.errands.clone()
    }

    /// Has the thread do something, and waits for it. If the future is dropped it is done all the same.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(Option<&mut Cluster>, &Runtime) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        self.errands.leave(move |cluster, runtime| drop(done.send(job(cluster, runtime))));
        answer.await.unwrap_or(Err(Error::Stopped))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.errands.0.send(Message::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
