//! Publish an event to a handler that is waited for, and to a queue that is not.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use message_bus::{Bus, Delivery, event};

struct OrderPlaced {
    number: u64,
    customer: String,
}
event!(OrderPlaced, "shop.order-placed");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bus = Bus::new();

    // Called by the publisher itself, in its own task.
    let _stock = bus.subscribe_sync(|order: &OrderPlaced| println!("reserve stock for order {}", order.number))?;

    // Called by a task of its own, from a queue of 256 messages.
    let _mail = bus.subscription().name("mail").queue(256).run(|order: Delivery<OrderPlaced>| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        println!("write to {} about order {}", order.customer, order.number);
    })?;

    let orders = bus.publisher();
    for number in 1..=3 {
        orders.publish(OrderPlaced { number, customer: format!("customer {number}") }).await?;
    }

    let report = bus.shutdown(Duration::from_secs(1)).await;
    assert_eq!((report.drained, report.abandoned), (3, 0));
    Ok(())
}
