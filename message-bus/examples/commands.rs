//! Send commands to the one handler that answers them.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use message_bus::{Bus, HandlerError, SendError, command};

struct Transfer {
    cents: u64,
}
struct Balance(u64);
command!(Transfer => Balance, "bank.transfer");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let bus = Bus::new();
    let refused = bus.send(Transfer { cents: 5 }).await;
    assert!(matches!(refused, Err(SendError::NoHandler(Transfer { cents: 5 }))), "it comes back");

    // At most eight transfers at once: a ninth is given back as `Rejected`.
    let _bank = bus.command().name("bank").at_most(8).run(async |transfer: Transfer| {
        if transfer.cents > 1_000 {
            return Err(HandlerError::permanent("not enough money"));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(Balance(1_000 - transfer.cents))
    })?;

    let balance = bus.send_within(Duration::from_secs(1), Transfer { cents: 300 }).await?;
    println!("{} left", balance.0);
    assert_eq!(balance.0, 700);

    let Err(SendError::Handler(failure)) = bus.send(Transfer { cents: 5_000 }).await else { panic!("too much") };
    println!("{failure}");
    assert_eq!(failure.to_string(), "handler `bank`: not enough money");
    Ok(())
}
