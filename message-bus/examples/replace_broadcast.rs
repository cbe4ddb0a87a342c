//! Replace `tokio::sync::broadcast`: the subscriber that must not lose anything does not, the one that may knows exactly what it lost.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use message_bus::ring::{Loss, Multicast, Received};

/// No `Clone` needed for lossless subscribers: they read it in place.
struct Tick {
    price: u64,
}

const TICKS: u64 = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // let (sender, _) = broadcast::channel(64);
    let ticks = Multicast::new(64)?;

    // let mut receiver = sender.subscribe();   // may answer `Lagged` at any time
    let mut ledger = ticks.subscribe();
    let books = tokio::spawn(async move {
        let mut sum = 0;
        // Up to 32 messages for one look at the ring.
        while let Some(batch) = ledger.next_batch(32).await {
            sum += batch.iter().map(|tick: &Arc<Tick>| tick.price).sum::<u64>();
        }
        (ledger.read(), sum)
    });

    // A chart that cannot keep up drops the oldest, as `broadcast` does, without making others wait.
    let mut chart = ticks.subscribe_lossy(16, Loss::DropOldest)?;
    let drawing = tokio::spawn(async move {
        let (mut drawn, mut missed) = (0, 0);
        while let Some(received) = chart.receive().await {
            match received {
                Received::Message(_) => drawn += 1,
                Received::Gap(gap) => missed += gap.missed,
            }
            if drawn % 100 == 0 {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        }
        (drawn, missed)
    });

    for price in 0..TICKS {
        // sender.send(tick)?;                  // overwrites what the slowest has not read
        ticks.publish(Arc::new(Tick { price })).await?;
    }
    drop(ticks);

    assert_eq!(books.await?, (TICKS, TICKS * (TICKS - 1) / 2), "nothing lost");
    let (drawn, missed) = drawing.await?;
    println!("the chart shows {drawn} ticks and knows that it missed {missed}");
    assert_eq!(drawn + missed, TICKS);
    Ok(())
}
