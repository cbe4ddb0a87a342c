//! Publish bytes to subjects, subscribe by wildcards, ask and gather answers.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use message_bus::{Bus, Delivery, HandlerError, RawMessage, RequestError, Subject};

const LIMIT: Duration = Duration::from_secs(1);

fn message(subject: &str, payload: &'static str) -> Result<RawMessage, Box<dyn Error>> {
    Ok(RawMessage::new(Subject::new(subject)?, payload))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let bus = Bus::new();

    // `*` is one token, `>` one or more at the end.
    let log = |order: &RawMessage| println!("log: {} carries {} bytes", order.subject, order.payload.len());
    let _log = bus.subject_subscription("orders.>")?.name("log").run_sync(log)?;
    // Two workers share what comes to their group; the order of each subject is its publishers' business then.
    let ship = |order: Delivery<RawMessage>| async move { println!("ship: {}", order.subject) };
    let workers =
        [(); 2].map(|()| bus.subject_subscription("orders.*.placed").map(|w| w.queue(64).group("ship").run(ship)));
    for subject in ["orders.eu.placed", "orders.us.placed", "orders.eu.cancelled"] {
        let report = bus.publish_subject(message(subject, "{}")?).await?;
        assert_eq!((report.called, report.queued), (1, usize::from(subject.ends_with("placed"))));
    }

    // A request waits for the first answer, a scattered one for all of them.
    let price =
        |cents: &'static str| move |_: Delivery<RawMessage>| async move { Ok::<_, HandlerError>(Bytes::from(cents)) };
    let _shops = [bus.respond("price.*", price("499"))?, bus.respond("price.tea", price("450"))?];
    let first = bus.request(message("price.coffee", "")?, LIMIT).await?;
    assert_eq!(&first.payload[..], b"499");
    let all = bus.scatter(message("price.tea", "")?, LIMIT).await?;
    let cheapest = all.answers.iter().map(|answer| &answer.payload).min().ok_or("nobody answered")?;
    println!("tea: {} offers, the best is {cheapest:?}", all.answers.len());
    assert!(all.is_complete() && &cheapest[..] == b"450");

    let nobody = bus.request(message("weather.today", "")?, LIMIT).await;
    assert!(matches!(nobody, Err(RequestError::NoResponders(_))));

    let report = bus.shutdown(LIMIT).await;
    println!("{} orders were shipped during the shutdown", report.drained);
    drop(workers);
    Ok(())
}
