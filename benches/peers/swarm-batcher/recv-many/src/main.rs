//! What a good engineer writes by hand: a bounded channel, a task that receives many at a time, and a oneshot channel a call.

use std::process::ExitCode;

use swarm_batcher_contest::{BATCH, Calls, Contest, Handler};
use tokio::sync::{mpsc, oneshot};

/// Calls that wait for the worker.
const CAPACITY: usize = 1024;

fn main() -> ExitCode {
    Contest::of("recv-many").calls::<Batcher>().run()
}

type Call = (u64, oneshot::Sender<u64>);

#[derive(Clone)]
struct Batcher(mpsc::Sender<Call>);

impl Calls for Batcher {
    const NOTE: &'static str = "tokio channel of 1,024, one worker task, recv_many of 100, one oneshot channel a call";
    const LINGERS: bool = false;

    fn open(handler: Handler) -> Self {
        let (calls, receiver) = mpsc::channel(CAPACITY);
        tokio::spawn(work(receiver, handler));
        Self(calls)
    }

    async fn call(&mut self, item: u64) -> u64 {
        let (sender, reply) = oneshot::channel();
        self.0.send((item, sender)).await.expect("the worker lives");
        reply.await.expect("the worker replies")
    }
}

async fn work(mut calls: mpsc::Receiver<Call>, handler: Handler) {
    let mut batch = Vec::with_capacity(BATCH);
    while calls.recv_many(&mut batch, BATCH).await > 0 {
        let answers = handler.answers(batch.iter().map(|(item, _)| *item)).await;
        for ((_, sender), answer) in batch.drain(..).zip(answers) {
            // A caller that has gone needs no reply.
            let _ = sender.send(answer);
        }
    }
}
