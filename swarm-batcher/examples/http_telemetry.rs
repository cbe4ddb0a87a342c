//! Two devices send readings, the server is busy for a moment, and everything arrives once, in few requests.

use std::error::Error;
use std::time::Duration;

use local_server::{Answer, LocalServer};
use serde::Serialize;
use swarm_batcher::telemetry::{EncodedItem, RequestBatcher};

#[path = "../benches/local_server/mod.rs"]
mod local_server;

#[derive(Serialize)]
struct Reading<'a> {
    id: u64,
    device: &'a str,
    battery: f64,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = LocalServer::start();
    let batcher = RequestBatcher::builder(&server.endpoint())
        .max_wait(Duration::from_millis(50))
        .sink(|sink| sink.timeout(Duration::from_secs(2)).backoff(Duration::from_millis(10), Duration::from_secs(1)))
        .dead_letter(|letter| {
            let bytes = letter.item.as_ref().map_or(0, |item: &EncodedItem| item.as_bytes().len());
            println!("not delivered: {bytes} B, {}", letter.error);
        })
        .build()?;
    batcher.start();

    // The first request is refused once, and tried again as the server asks.
    server.script([Answer::retry_after(503, "0")]);
    let devices = ["agent-0001", "agent-0002"].into_iter().zip([0, 1_000]).map(|(device, first)| {
        let batcher = batcher.clone();
        tokio::spawn(async move {
            for id in first..first + 130 {
                batcher.add(&Reading { id, device, battery: 0.75 }).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok::<_, swarm_batcher::telemetry::AddError>(())
        })
    });
    for device in devices.collect::<Vec<_>>() {
        device.await??;
    }
    let report = batcher.stop(Duration::from_secs(5)).await;
    assert!(report.drained);

    let (stats, seen) = (batcher.stats(), server.seen());
    println!("{} readings in {} requests", seen.items, stats.requests);
    println!("{} B of MessagePack, {} B sent", stats.encoded_bytes, stats.body_bytes);
    println!("{} attempts, {} of them refused", seen.requests, seen.requests - stats.delivered);
    assert_eq!((seen.items, report.stats.succeeded), (260, 260));
    Ok(())
}
