//! Try failed messages again, keep those that fail for good, and hand them over once more when the fault is mended.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use message_bus::{Bus, Delivery, ExponentialBackoff, HandlerError, Reason, event};

struct Invoice {
    customer: u64,
    number: u64,
}
event!(Invoice, "billing.invoice", key = |invoice| invoice.customer);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bus = Bus::new();
    let printer_works = Arc::new(AtomicBool::new(false));

    // Invoices of one customer are printed in order, those of others go on meanwhile. At most four calls an invoice.
    let works = Arc::clone(&printer_works);
    let printer = bus
        .subscription()
        .name("printer")
        .queue(256)
        .concurrency(4)
        .ordered_by_key()
        .retry(ExponentialBackoff::new(3, Duration::from_millis(2), 2.0, Duration::from_millis(50))?)
        .run(move |invoice: Delivery<Invoice>| {
            let works = works.load(Ordering::Relaxed);
            async move {
                match invoice.customer {
                    0 => Err(HandlerError::permanent("no such customer")),
                    1 if !works && invoice.attempt() <= 2 => Err(HandlerError::transient("paper jam")),
                    2 if !works => Err(HandlerError::transient("out of paper")),
                    _ => Ok(()),
                }
            }
        })?;

    for number in 0..3 {
        for customer in 0..4 {
            bus.publish(Invoice { customer, number }).await?;
        }
    }

    let letters = bus.dead_letters();
    while letters.len() < 6 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for letter in letters.page(None, 100) {
        let cause = letter.cause.as_ref().map(ToString::to_string).unwrap_or_default();
        println!("{:?} after {} calls: {cause}", letter.reason, letter.attempts);
    }
    assert_eq!((letters.count(Reason::Permanent), letters.count(Reason::RetriesExhausted)), (3, 3));

    printer_works.store(true, Ordering::Relaxed);
    for letter in letters.page(None, 100) {
        let invoice = letter.message::<Invoice>().expect("the only type here");
        match letters.replay(letter.id).await {
            Ok(()) => println!("invoice {} of customer {} is printed", invoice.number, invoice.customer),
            Err(error) => println!("still: {error}"),
        }
    }
    assert_eq!(letters.purge(|letter| letter.reason == Reason::Permanent), 3);

    let stats = printer.unsubscribe().await.expect("it has a queue");
    assert_eq!((stats.delivered, stats.dead_lettered, stats.total()), (6, 6, 12));
    Ok(())
}
