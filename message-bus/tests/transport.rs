//! The bus as a transport: acknowledgements, returns, dead letters, and what is refused.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use message_bus::transport::{
    Durability, Inbound as _, MemoryTransport, OutboundMessage, SubscriptionSpec, Transport, TransportError,
};
use message_bus::{Bus, Delivery, FixedDelay, Metadata, RawMessage, Reason, Subject, SubjectPattern};
use support::until;

fn outbound(subject: &str, payload: String) -> OutboundMessage {
    OutboundMessage {
        metadata: Metadata::new(),
        message: RawMessage::new(Subject::new(subject).expect("a subject"), payload),
    }
}

fn spec(pattern: &str) -> SubscriptionSpec {
    SubscriptionSpec::new(SubjectPattern::new(pattern).expect("a pattern"), "test")
}

/// What any transport does, whichever it is.
async fn every_message_comes_once_it_is_acknowledged(transport: &impl Transport) {
    let mut all = transport.subscribe(spec("t.>")).await.expect("open");
    let messages: Vec<_> = (0..100).map(|number| outbound(&format!("t.{}", number % 3), number.to_string())).collect();
    let ids: Vec<_> = messages.iter().map(|message| message.metadata.id).collect();
    let acks = transport.publish(messages).await;
    let accepted: Vec<_> = acks.into_iter().map(|ack| ack.expect("accepted").id).collect();
    assert_eq!(accepted, ids);
    for (number, id) in ids.into_iter().enumerate() {
        let inbound = all.next().await.expect("it comes");
        assert_eq!((inbound.metadata().id, inbound.attempt()), (id, 1));
        assert_eq!(inbound.payload, number.to_string());
        inbound.ack().await.expect("known");
    }
}

#[tokio::test]
async fn the_bus_is_a_transport() {
    every_message_comes_once_it_is_acknowledged(&MemoryTransport::new(Bus::new())).await;
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_and_what_is_given_up_is_a_dead_letter() {
    let bus = Bus::new();
    let transport = MemoryTransport::new(bus.clone());
    let mut spec = spec("a");
    spec.retry = Some(Arc::new(FixedDelay::new(5, Duration::from_millis(1))));
    let mut messages = transport.subscribe(spec).await.expect("open");
    transport.publish(vec![outbound("a", String::new())]).await.remove(0).expect("accepted");
    messages.next().await.expect("it comes").nak().await.expect("known");
    drop(messages.next().await.expect("it comes again"));
    let third = messages.next().await.expect("and again");
    assert_eq!(third.attempt(), 3);
    third.term("no use").await.expect("known");
    until(|| bus.dead_letters().count(Reason::Permanent) == 1).await;
    let letter = bus.dead_letters().page(None, 1).remove(0);
    assert_eq!((&*letter.handler, letter.cause.expect("a cause").to_string()), ("test", "no use".to_owned()));
}

#[tokio::test]
async fn a_window_has_so_many_messages_in_hand() {
    let bus = Bus::new();
    let transport = MemoryTransport::new(bus.clone());
    let mut spec = spec("a");
    spec.window = 3;
    let mut messages = transport.subscribe(spec).await.expect("open");
    let published = (0..5).map(|number| outbound("a", number.to_string())).collect();
    transport.publish(published).await;
    let mut in_hand = Vec::new();
    for _ in 0..3 {
        in_hand.push(messages.next().await.expect("it comes"));
    }
    let fourth = tokio::time::timeout(Duration::from_millis(20), messages.next()).await;
    assert!(fourth.is_err(), "the window is full");
    in_hand.remove(1).ack().await.expect("known");
    assert_eq!(messages.next().await.expect("it comes").payload, "3");
}

#[tokio::test]
async fn members_of_a_group_share_what_comes() {
    let bus = Bus::new();
    let transport = MemoryTransport::new(bus.clone());
    let mut member = spec("a");
    member.group = Some("g".to_owned());
    let one = transport.subscribe(member.clone()).await.expect("open");
    let two = transport.subscribe(member).await.expect("open");
    transport.publish((0..10).map(|number| outbound("a", number.to_string())).collect()).await;
    let both = futures::stream::select(one, two).take(10);
    let mut numbers: Vec<u32> = both
        .then(async |inbound| {
            let number: u32 = String::from_utf8_lossy(&inbound.payload).parse().expect("a number");
            inbound.ack().await.expect("known");
            number
        })
        .collect()
        .await;
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_subscription_that_is_dropped_ends_and_does_not_hold_its_publisher() {
    let bus = Bus::new();
    let transport = MemoryTransport::new(bus.clone());
    let mut small = spec("a");
    small.capacity = 1;
    let mut messages = transport.subscribe(small).await.expect("open");
    transport.publish(vec![outbound("a", String::new())]).await;
    let in_hand = messages.next().await.expect("it comes");
    drop(messages);
    for _ in 0..10 {
        let published = transport.publish(vec![outbound("a", String::new())]);
        tokio::time::timeout(Duration::from_secs(20), published).await.expect("nobody holds it up");
        tokio::task::yield_now().await;
    }
    assert!(matches!(in_hand.ack().await, Ok(()) | Err(TransportError::Closed)));
}

#[tokio::test]
async fn what_it_cannot_do_is_refused_when_the_subscription_is_made() {
    let bus = Bus::new();
    let transport = MemoryTransport::new(bus.clone());
    assert_eq!(transport.capabilities().durability, Durability::None);
    let mut lasting = spec("a");
    lasting.durability = Durability::ProcessCrash;
    assert!(matches!(transport.subscribe(lasting).await, Err(TransportError::Unsupported(_))));
    let mut empty = spec("a");
    empty.capacity = 0;
    assert!(matches!(transport.subscribe(empty).await, Err(TransportError::Refused(_))));
    let mut without_window = spec("a");
    without_window.window = 0;
    assert!(matches!(transport.subscribe(without_window).await, Err(TransportError::Refused(_))));
    bus.shutdown(Duration::ZERO).await;
    assert!(matches!(transport.subscribe(spec("a")).await, Err(TransportError::Closed)));
    let acks = transport.publish(vec![outbound("a", String::new())]).await;
    assert!(matches!(acks[..], [Err(TransportError::Closed)]));
}

#[tokio::test]
async fn failed_handlers_of_others_are_not_the_transports_business() {
    let bus = Bus::new();
    let transport = MemoryTransport::new(bus.clone());
    let _failing = bus.subscribe_subject("a", |_: Delivery<RawMessage>| async { Err(support::OutOf("luck")) });
    let _failing = _failing.expect("open");
    let acks = transport.publish(vec![outbound("a", String::new())]).await;
    assert!(acks[0].is_ok());
}
